"""Running the demo without what its steps run: order, continuing, what the user is told, and whether it is shown."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.demo import run as demo_run
from nnunet_diffusion_ensemble.demo.run import run_demo
from nnunet_diffusion_ensemble.demo.steps import QUICK, REPORT, DemoOptions, Step
from nnunet_diffusion_ensemble.system.child_processes import Command, Screen


@pytest.fixture
def two_steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the steps by `first` and `second`, which leave a file each; returns the list of those that ran."""
    ran: list[str] = []

    def made(folder: Path, options: DemoOptions, device: Callable[[], str]):
        for name in ("first", "second"):

            def run(name: str = name) -> None:
                ran.append(name)
                (folder / name).touch()

            yield Step(name, f"Do {name}", (), (name,), after=run)
        (folder / "results.txt").write_text("the results")

    monkeypatch.setattr(demo_run, "steps", made)
    return ran


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(folder: Path, options: DemoOptions | None = None) -> tuple[int, str]:
    stream = io.StringIO()
    return run_demo(folder, options or DemoOptions(), Screen(stream)), stream.getvalue()


def test_steps_run_in_order_and_the_results_are_shown(tmp_path: Path, two_steps: list[str]) -> None:
    status, shown = run(tmp_path)
    assert (status, two_steps) == (0, ["first", "second"])
    assert shown.index("Do first") < shown.index("Do second") < shown.index("the results")


def test_steps_are_told_what_there_is_to_train_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(folder: Path, options: DemoOptions, device: Callable[[], str]) -> Iterator[Step]:
        yield Step("training", f"Train on {device()}", (), ())
        (folder / "results.txt").touch()

    monkeypatch.setattr(demo_run, "steps", made)
    monkeypatch.setattr(demo_run, "_best_device", lambda: "cuda")
    assert "[1/1] Train on cuda\n" in run(tmp_path)[1]


def test_commands_run_one_after_the_other_or_at_once_with_a_log_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(folder: Path, options: DemoOptions, device: Callable[[], str]) -> Iterator[Step]:
        commands = (Command("first", ()), Command("second", ()))
        yield Step("data", "", commands, ())
        yield Step("training", "", commands, (), at_once=("ours", "stock"))
        (folder / "results.txt").touch()

    ran: list[list[tuple[str, str]]] = []
    monkeypatch.setattr(demo_run, "steps", made)
    monkeypatch.setattr(demo_run, "_best_device", lambda: "cpu")
    monkeypatch.setattr(
        demo_run, "run_jobs", lambda jobs, *_: ran.append([(job.command.program, job.log.name) for job in jobs])
    )
    run(tmp_path)
    assert ran == [
        [("first", "data.txt")],
        [("second", "data.txt")],
        [("first", "training_ours.txt"), ("second", "training_stock.txt")],
    ]


def test_a_second_run_does_only_what_is_missing(tmp_path: Path, two_steps: list[str]) -> None:
    run(tmp_path)
    (tmp_path / "second").unlink()
    _, shown = run(tmp_path)
    assert two_steps == ["first", "second", "second"]
    assert "Do first: done before" in shown


@pytest.mark.parametrize(
    ("options", "flags"),
    [(DemoOptions(), ""), (DemoOptions(pretrain=True), " --pretrain"), (QUICK, " --quick")],
)
def test_after_an_interruption_the_user_is_told_how_to_continue(
    options: DemoOptions, flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_steps: list[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_run, "_run_step", interrupt)
    status, shown = run(tmp_path, options)
    assert status == 130
    assert f"Continue with: nnunet-diffusion demo {tmp_path}{flags}\n" in shown


def test_the_environment_script_exports_the_demos_folders(tmp_path: Path, two_steps: list[str]) -> None:
    run(tmp_path)
    assert f"export nnUNet_raw={tmp_path}/nnUNet_raw\n" in (tmp_path / "environment.sh").read_text()


def test_steps_are_numbered(tmp_path: Path, two_steps: list[str]) -> None:
    assert "[1/2] Do first" in run(tmp_path)[1]


def test_the_path_of_the_report_is_shown(tmp_path: Path, two_steps: list[str]) -> None:
    assert f"In {tmp_path}:\n  {REPORT}" in run(tmp_path)[1]


@pytest.mark.parametrize(
    ("wanted", "stream", "variables", "opened"),
    [
        (None, Terminal, {"DISPLAY": ":0"}, True),
        (None, Terminal, {"WAYLAND_DISPLAY": "wayland-0"}, True),
        (None, Terminal, {}, False),
        (None, Terminal, {"DISPLAY": ":10", "SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}, False),
        (None, io.StringIO, {"DISPLAY": ":0"}, False),
        (False, Terminal, {"DISPLAY": ":0"}, False),
        (True, io.StringIO, {}, True),
    ],
)
def test_the_report_is_opened_when_it_is_wanted_or_somebody_sits_at_a_desktop(
    wanted: bool | None,
    stream: type[io.StringIO],
    variables: dict[str, str],
    opened: bool,
    tmp_path: Path,
    two_steps: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(demo_run.webbrowser, "open", shown.append)
    monkeypatch.setattr(demo_run.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run_demo(tmp_path, DemoOptions(), Screen(stream()), wanted)
    assert shown == ([(tmp_path / REPORT).as_uri()] if opened else [])
