"""Commands as child processes: their output, their failure, their end, and what is said of their progress."""

import io
import os
import signal
import subprocess
import sys
import time
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
    run_at_once,
    run_command,
)

MODULE = """
import os, sys, time
def main():
    print("arguments", sys.argv, "in", os.getcwd(), "with", os.environ["MARK"])
    return 3 if "fail" in sys.argv else 0
def wait():
    open("started", "w").write(str(os.getpid()))
    time.sleep(60)
def meet():
    own, other = sys.argv[1:]
    open(own, "w").close()
    while not os.path.exists(other):
        time.sleep(0.01)
    print(own, "met", other)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`run("program", "argument")` with a module of our own behind the programs `say` and `wait`."""
    (tmp_path / "made_module.py").write_text(MODULE)
    for program, function in (("say", "main"), ("wait", "wait"), ("meet", "meet")):
        monkeypatch.setitem(ENTRY_POINTS, program, ("made_module", function))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "MARK": "mark"}

    def run_it(program: str, *arguments: str, progress: Progress | None = None) -> str:
        log = tmp_path / "log.txt"
        command = Command(program, arguments)
        run_command(command, tmp_path, environment, log, progress or Progress(), Screen(io.StringIO()))
        return log.read_text()

    run_it.at_once = lambda jobs, screen: run_at_once(jobs, tmp_path, environment, screen)
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


def test_commands_run_at_once_with_a_log_each_and_their_status_in_turn(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_processes, "SECONDS_OF_A_STATUS", 1e-6)
    monkeypatch.setattr(child_processes, "SECONDS_BETWEEN_LINES", -1)
    # Each waits for the other's mark, so that one after the other they would never end.
    jobs = [
        Job(Command("meet", (own, other)), tmp_path / f"{own}.txt", Progress(), f"job {own}")
        for own, other in (("a", "b"), ("b", "a"))
    ]
    stream = io.StringIO()
    run.at_once(jobs, Screen(stream))
    assert [job.log.read_text().splitlines()[-1] for job in jobs] == ["a met b", "b met a"]
    assert "job a" in stream.getvalue() and "job b" in stream.getvalue()


def test_a_failure_ends_the_command_that_runs_beside(run, tmp_path: Path) -> None:
    jobs = [
        Job(Command("wait", ()), tmp_path / "wait.txt", Progress()),
        Job(Command("say", ("fail",)), tmp_path / "say.txt", Progress()),
    ]
    with pytest.raises(RuntimeError, match="`say fail` ended with exit status 3"):
        run.at_once(jobs, Screen(io.StringIO()))
    if (tmp_path / "started").exists():
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


TERMINATED_WORKERS = """
import multiprocessing, time
from nnunet_diffusion_ensemble.system.child_processes import ending_on_signals
with ending_on_signals():
    workers = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)) for _ in range(30)]
    for worker in workers:  # some while they are being set up, some later
        worker.start()
        worker.terminate()
    workers.append(multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)))
    workers[-1].start()
    time.sleep(0.2)
    workers[-1].terminate()
    for worker in workers:
        worker.join(30)
    print({worker.exitcode for worker in workers})
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_workers_that_are_terminated_end_at_once_and_without_a_stack_trace() -> None:
    ended = subprocess.run([sys.executable, "-c", TERMINATED_WORKERS], capture_output=True, text=True, check=True)
    assert (ended.stdout.strip(), ended.stderr) == (f"{{{-signal.SIGTERM}}}", "")


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
