"""The demo's steps without what they run: order, continuing, and what the user is told."""

import io
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.demo import steps as cli_demo
from nnunet_diffusion_ensemble.demo.steps import DemoOptions, Step, lay_out_sample, run_demo, steps
from nnunet_diffusion_ensemble.system.child_processes import Screen


@pytest.fixture
def two_steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the steps by `first` and `second`, which leave a file each; returns the list of those that ran."""
    ran: list[str] = []

    def made(folder: Path, options: DemoOptions, device: str):
        for name in ("first", "second"):

            def run(name: str = name) -> None:
                ran.append(name)
                (folder / name).touch()

            yield Step(name, f"Do {name}", (), name, after=run)
        (folder / "results.txt").write_text("the results")

    monkeypatch.setattr(cli_demo, "steps", made)
    return ran


def run(folder: Path) -> tuple[int, str]:
    stream = io.StringIO()
    return run_demo(folder, DemoOptions(), Screen(stream)), stream.getvalue()


def test_steps_run_in_order_and_the_results_are_shown(tmp_path: Path, two_steps: list[str]) -> None:
    status, shown = run(tmp_path)
    assert (status, two_steps) == (0, ["first", "second"])
    assert shown.index("Do first") < shown.index("Do second") < shown.index("the results")


def test_a_second_run_does_only_what_is_missing(tmp_path: Path, two_steps: list[str]) -> None:
    run(tmp_path)
    (tmp_path / "second").unlink()
    _, shown = run(tmp_path)
    assert two_steps == ["first", "second", "second"]
    assert "Do first: done before" in shown


def test_after_an_interruption_the_user_is_told_how_to_continue(tmp_path: Path, monkeypatch, two_steps) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_demo, "_run_step", interrupt)
    status, shown = run(tmp_path)
    assert status == 130
    assert f"Continue with: nnunet-diffusion demo {tmp_path}" in shown


def test_the_environment_script_exports_the_demos_folders(tmp_path: Path, two_steps: list[str]) -> None:
    run(tmp_path)
    assert f"export nnUNet_raw={tmp_path}/nnUNet_raw\n" in (tmp_path / "environment.sh").read_text()


def test_steps_are_numbered(tmp_path: Path, two_steps: list[str]) -> None:
    assert "[1/2] Do first" in run(tmp_path)[1]


@pytest.mark.parametrize(("pretrain", "num_unlabelled"), [(False, 0), (True, 120)])
def test_the_sample_is_laid_out_without_a_case_in_two_places(tmp_path: Path, pretrain, num_unlabelled) -> None:
    lay_out_sample(tmp_path, DemoOptions(pretrain=pretrain))
    names = {
        f: {p.name for p in (tmp_path / "xrays" / f / "images").iterdir()}
        for f in ("montgomery_labelled", "montgomery_held_out", "shenzhen")
    }
    assert [len(files) for files in names.values()] == [10, 20, 40]
    assert len(set.union(*names.values())) == 70
    assert len(list((tmp_path / "xrays").glob("nih/*"))) == num_unlabelled


def commands_of(folder: Path, pretrain: bool) -> str:
    options = DemoOptions(pretrain=pretrain)
    return "\n".join(str(command) for step in steps(folder, options, "cpu") for command in step.commands)


@pytest.mark.parametrize("pretrain", [False, True])
def test_commands_that_are_shown_run_as_they_are_in_the_folder(tmp_path: Path, pretrain) -> None:
    assert str(tmp_path) not in commands_of(tmp_path, pretrain)


def test_the_demo_pretrains_only_on_request(tmp_path: Path) -> None:
    shown = {pretrain: commands_of(tmp_path, pretrain) for pretrain in (False, True)}
    assert {pretrain: "DiffusionPretrainTrainer" in text for pretrain, text in shown.items()} == {
        False: False,
        True: True,
    }
    assert {pretrain: "--denoiser chest-xray-64" in text for pretrain, text in shown.items()} == {
        False: True,
        True: False,
    }


def test_a_training_that_has_a_checkpoint_is_continued(tmp_path: Path) -> None:
    def training(folder: Path) -> str:
        return next(str(s.commands[0]) for s in steps(folder, DemoOptions(), "cpu") if s.name == "training")

    assert not training(tmp_path).endswith("--c")
    folder = (
        tmp_path / "nnUNet_results/Dataset001_Lungs/DiffusionEnsembleTrainer__nnUNetDiffusionEnsemblePlans__2d/fold_0"
    )
    folder.mkdir(parents=True)
    (folder / "checkpoint_best.pth").touch()
    assert training(tmp_path).endswith("--c")
