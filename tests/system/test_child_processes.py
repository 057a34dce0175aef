"""Commands as child processes: their output, their failure, their end, and what is said of their progress."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.system import child_processes
from nnunet_diffusion_ensemble.system.child_processes import (
    ENTRY_POINTS,
    Command,
    FileProgress,
    Job,
    Progress,
    Screen,
    TrainingProgress,
    bar,
    clock,
    run_jobs,
)

MODULE = """
import os, subprocess, sys, time
def say():
    print("arguments", sys.argv, "in", os.getcwd(), "with", os.environ["MARK"])
    return 3 if "fail" in sys.argv else 0
def wait():
    open("started", "w").write(str(os.getpid()))
    time.sleep(60)
def leave():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
def fail_late():
    while not os.path.exists("started"):
        time.sleep(0.01)
    return 3
def meet():
    own, other = sys.argv[1:]
    open(own, "w").close()
    while not all(map(os.path.exists, (other, f"{own} was shown", f"{other} was shown"))):
        print("waiting", flush=True)
        time.sleep(0.01)
    print(own, "met", other)
"""


@pytest.fixture
def run_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`run_all(jobs)` with a module of our own behind the programs; returns what was shown."""
    (tmp_path / "made_module.py").write_text(MODULE)
    for name in ("say", "wait", "meet", "fail_late", "leave"):
        monkeypatch.setitem(ENTRY_POINTS, name, ("made_module", name))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "MARK": "mark"}

    def run_them(*jobs: Job) -> str:
        stream = io.StringIO()
        run_jobs(jobs, tmp_path, environment, Screen(stream))
        return stream.getvalue()

    return run_them


@pytest.fixture
def run(run_all: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """`run("program", "argument")` returns the log."""

    def run_it(program: str, *arguments: str, progress: Progress | None = None) -> str:
        job = Job(Command(program, arguments), tmp_path / "log.txt", progress or Progress())
        run_all(job)
        return job.log.read_text()

    return run_it


def has_ended(process: int) -> bool:
    """Whether a process is gone, or goes in the next seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_output_goes_to_the_log_after_the_command(run, tmp_path: Path) -> None:
    lines = run("say", "two words").splitlines()
    assert lines == ["$ say 'two words'", f"arguments ['say', 'two words'] in {tmp_path} with mark"]


def test_a_failure_names_status_and_log_and_quotes_the_last_lines(run) -> None:
    with pytest.raises(RuntimeError, match=r"`say fail` ended with exit status 3(.|\n)*log\.txt(.|\n)*  \| arguments"):
        run("say", "fail")


def test_nobody_waits_for_a_worker_that_outlives_its_command(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_processes, "SECONDS_TO_CLOSE_OUTPUT", 0.1)
    start = time.monotonic()
    run("leave")
    assert time.monotonic() - start < 30  # the worker, which holds the output open, takes 60


def test_commands_run_at_once_with_a_log_each_and_their_status_in_turn(
    run_all: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_processes, "SECONDS_OF_A_STATUS", 1e-6)  # so that whose turn it is is a matter of chance
    monkeypatch.setattr(child_processes, "SECONDS_BETWEEN_LINES", -1)

    class Marking(Progress):
        def __init__(self, own: str) -> None:
            self.own = own

        def status(self) -> str:
            (tmp_path / f"{self.own} was shown").touch()
            return ""

    # Each waits for the other's mark, so that one after the other they would never end, and until both were shown.
    jobs = [
        Job(Command("meet", (own, other)), tmp_path / f"{own}.txt", Marking(own), f"job {own}")
        for own, other in (("a", "b"), ("b", "a"))
    ]
    shown = run_all(*jobs)
    assert [job.log.read_text().splitlines()[-1] for job in jobs] == ["a met b", "b met a"]
    assert "job a" in shown and "job b" in shown


def test_a_failure_ends_the_command_that_runs_beside(run_all: Callable[..., str], tmp_path: Path) -> None:
    jobs = [Job(Command(name, ()), tmp_path / f"{name}.txt", Progress()) for name in ("wait", "fail_late")]
    with pytest.raises(RuntimeError, match="`fail_late` ended with exit status 3"):
        run_all(*jobs)
    assert has_ended(int((tmp_path / "started").read_text()))


def test_an_interruption_ends_the_command(run, tmp_path: Path) -> None:
    class Impatient(Progress):
        def status(self) -> str:
            if (tmp_path / "started").exists():
                raise KeyboardInterrupt
            return ""

    with pytest.raises(KeyboardInterrupt):
        run("wait", progress=Impatient())
    assert has_ended(int((tmp_path / "started").read_text()))


def test_training_progress_reads_nnunets_log() -> None:
    progress = TrainingProgress(4)
    assert progress.status() == "starting"
    for line in ("Epoch 1 ", "Current learning rate: 0.1", "train_loss 0.25", "Pseudo dice [np.float32(0.5)]"):
        progress.note(f"2026-01-01 00:00:00.0: {line}\n")
    assert progress.status() == "epoch 2/4"
    progress.note("2026-01-01 00:00:00.0: Epoch time: 40.0 s\n")
    assert progress.status() == "epoch 2/4  [######......]  loss 0.25  dice 0.5  about 1:20 left"


def test_file_progress_counts_files(tmp_path: Path) -> None:
    progress = FileProgress(tmp_path, "*.png", 4)
    assert progress.status() == "starting"
    for name in ("a.png", "b.png", "plans.json"):
        (tmp_path / name).touch()
    assert progress.status() == "case 2/4  [######......]"


@pytest.mark.parametrize(("seconds", "expected"), [(0, "0:00"), (59.9, "0:59"), (60, "1:00"), (3605, "60:05")])
def test_clock(seconds: float, expected: str) -> None:
    assert clock(seconds) == expected


def test_a_bar_is_never_longer_than_full() -> None:
    assert (bar(0, 2, 4), bar(1, 2, 4), bar(5, 2, 4)) == ("[....]", "[##..]", "[####]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_status_is_written_over() -> None:
    stream = Terminal()
    screen = Screen(stream)
    screen.status("epoch 1", 3)
    screen.say("done")
    assert stream.getvalue() == "\r\033[K      0:03  epoch 1\r\033[Kdone\n"


def test_elsewhere_a_status_is_a_line_now_and_then() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    for text in ("epoch 1", "epoch 2"):
        screen.status(text, 3)
    assert stream.getvalue() == "      0:03  epoch 1\n"
