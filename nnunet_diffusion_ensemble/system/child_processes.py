"""Commands that `demo` and `few-label` run as child processes: output into a log, one status line on the screen."""

import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO, TypeAlias

from typing_extensions import Self

ENTRY_POINTS = {
    "nnunet-diffusion": ("nnunet_diffusion_ensemble.cli", "main"),
    "nnUNetv2_train": ("nnunetv2.run.run_training", "run_training_entry"),
}
# The child holds the reading end of a pipe whose other end closes when we end, in whatever way: then it goes as well,
# with its workers, so that no second training writes into the folder when the demo is started again.
CHILD = """\
import os, sys, threading
def end_with_parent():
    os.read(0, 1)
    os.killpg(0, 9) if hasattr(os, "killpg") else os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
from {module} import {function}
sys.argv[0] = {program!r}
sys.exit({function}())
"""
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
TAIL_LINES = 15
SECONDS_BETWEEN_LINES = 5  # where the status cannot be written over
SECONDS_TO_CLOSE_OUTPUT = 5
SECONDS_OF_A_STATUS = 3  # before that of another job is shown


@dataclass(frozen=True)
class Command:
    """A command as a user types it; `argv` runs the same with this interpreter, whatever PATH holds."""

    program: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join([self.program, *self.arguments])

    def argv(self) -> list[str]:
        module, function = ENTRY_POINTS[self.program]
        code = CHILD.format(module=module, function=function, program=self.program)
        return [sys.executable, "-c", code, *self.arguments]


def clock(seconds: float) -> str:
    """Minutes and seconds, `m:ss`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def bar(done: int, total: int, width: int = 12) -> str:
    filled = width * min(done, total) // max(1, total)
    return "[" + "#" * filled + "." * (width - filled) + "]"


class Progress:
    """What is known of a command's progress: it notes lines of output and says in a few words where things stand."""

    def note(self, line: str) -> None:
        """Takes in one line of the command's output."""

    def status(self) -> str:
        return ""


class TrainingProgress(Progress):
    """Epoch, loss, Dice and remaining time from the log of nnU-Net's trainer.

    Args:
        num_epochs: None where only the trainer knows; `nnunet-diffusion train` tells.
    """

    PATTERN = re.compile(
        r": Epoch (?P<epoch>\d+)\s*$"
        r"|: train_loss (?P<loss>\S+)"
        r"|: Pseudo dice \[(?:np\.float\d+\()?(?P<dice>[.\d]+)"
        r"|: Epoch time: (?P<seconds>\S+) s"
        r"|: (?P<epochs>\d+) epochs of \d+ iterations fit into"
    )

    def __init__(self, num_epochs: int | None = None):
        self.num_epochs = num_epochs
        self.seen: dict[str, str] = {}
        self.shown = "starting"

    def note(self, line: str) -> None:
        if not (found := self.PATTERN.search(line)):
            return
        self.seen |= {name: text for name, text in found.groupdict().items() if text is not None}
        if found["epochs"]:
            self.num_epochs = int(found["epochs"])
        elif found["seconds"]:
            self.shown = self._end_of_epoch()
        elif self.shown == "starting":
            self.shown = f"epoch {int(self.seen['epoch']) + 1}/{self.num_epochs or '?'}"

    def _end_of_epoch(self) -> str:
        done = int(self.seen["epoch"]) + 1
        values = [f"{name} {self.seen[name]}" for name in ("loss", "dice") if name in self.seen]
        if self.num_epochs is None:
            return "  ".join([f"epoch {done}", *values])
        left = (self.num_epochs - done) * float(self.seen["seconds"])
        time = f"about {clock(left)} left" if left else "finishing"
        return "  ".join([f"epoch {done}/{self.num_epochs}", bar(done, self.num_epochs), *values, time])

    def status(self) -> str:
        return self.shown


class FileProgress(Progress):
    """Counts the files that a command has written to a folder."""

    def __init__(self, folder: Path, pattern: str, total: int):
        self.folder, self.pattern, self.total = folder, pattern, total

    def status(self) -> str:
        done = len(list(self.folder.glob(self.pattern)))
        return f"case {done}/{self.total}  {bar(done, self.total)}" if done else "starting"


class Screen:
    """Lines on the screen, with a status below them: written over on a terminal, elsewhere a line now and then."""

    def __init__(self, stream: IO[str] | None = None):
        self.stream = stream or sys.stdout
        self.is_terminal = self.stream.isatty()
        self.shown, self.shown_at = "", float("-inf")

    def say(self, text: str = "") -> None:
        if self.is_terminal and self.shown:
            print("\r\033[K", end="", file=self.stream)
        self.shown, self.shown_at = "", float("-inf")
        print(text, file=self.stream, flush=True)

    def status(self, text: str, seconds: float) -> None:
        """Shows how things stand, with the time it has taken so far."""
        line = f"      {clock(seconds)}  {text}".rstrip()
        if self.is_terminal:
            print(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}", end="", file=self.stream, flush=True)
            self.shown = line
        elif text != self.shown and monotonic() - self.shown_at > SECONDS_BETWEEN_LINES:
            print(line, file=self.stream, flush=True)
            self.shown, self.shown_at = text, monotonic()


@dataclass(frozen=True)
class Job:
    """A command to run.

    Attributes:
        command: what to run.
        log: file that its output is added to.
        progress: reads the output and says how things stand.
        name: of the job, where several run at once.
    """

    command: Command
    log: Path
    progress: Progress
    name: str = ""

    def status(self) -> str:
        return "  ".join(filter(None, (self.name, self.progress.status())))


def run_jobs(jobs: Sequence[Job], folder: Path, environment: Mapping[str, str], screen: Screen) -> None:
    """Runs commands in `folder` and waits for all; whatever ends the wait early ends them and their workers.

    Args:
        jobs: what to run. Of several the status of each is shown in turn.
        folder: working directory.
        environment: its variables.
        screen: where that is shown.

    Raises:
        RuntimeError: one failed, and the others were ended; the message names the log and quotes its last lines.
    """
    start, lines = monotonic(), Lines()
    with ExitStack() as stack:
        running = [stack.enter_context(_Running(job, folder, environment, lines)) for job in jobs]
        while any(one.is_at_work for one in running):
            try:
                one, line = lines.get(timeout=1)
                one.take_in(line)
            except queue.Empty:
                pass
            for one in running:
                one.raise_failure()
            seconds = monotonic() - start
            screen.status(jobs[int(seconds / SECONDS_OF_A_STATUS) % len(jobs)].status(), seconds)


class _Running:
    """A job at work; leaving its block ends what is left of it.

    Args:
        job: what to run.
        folder: working directory.
        environment: its variables.
        lines: takes this object with each line of output as it comes, and with None at the end.
    """

    def __init__(
        self,
        job: Job,
        folder: Path,
        environment: Mapping[str, str],
        lines: "Lines",
    ):
        self.job, self.has_closed_output, self.ended_at = job, False, float("inf")
        self.file = job.log.open("a", encoding="utf-8")
        self.file.write(f"$ {job.command}\n")
        self.process = subprocess.Popen(
            job.command.argv(),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # its workers form one group with it, so that all of them can be ended
        )
        threading.Thread(target=self._read_into, args=(lines,), daemon=True).start()

    def _read_into(self, lines: "Lines") -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lines.put((self, line))
        lines.put((self, None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.file, self.process:
            _end_with_workers(self.process)

    def take_in(self, line: str | None) -> None:
        if line is None:
            self.has_closed_output = True
            self.process.wait()
        else:
            self.file.write(line)
            self.job.progress.note(line)

    @property
    def is_at_work(self) -> bool:
        if self.has_closed_output:
            return False
        if self.process.poll() is not None:
            self.ended_at = min(self.ended_at, monotonic())
        # A worker that outlives the process keeps its output open.
        return monotonic() - self.ended_at < SECONDS_TO_CLOSE_OUTPUT

    def raise_failure(self) -> None:
        if not self.is_at_work and self.process.returncode:
            self.file.flush()
            raise RuntimeError(_failure(self.job.command, self.process.returncode, self.job.log))


Lines: TypeAlias = queue.Queue[tuple[_Running, str | None]]


def _end_with_workers(process: "subprocess.Popen[str]") -> None:
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows
            process.kill()
    except (ProcessLookupError, PermissionError):  # nobody is left (macOS says so with the latter)
        return


def _failure(command: Command, status: int, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    tail = "\n".join(f"  | {line}" for line in lines[-TAIL_LINES:])
    return f"`{command}` ended with exit status {status}. All of its output is in {log}; the last lines:\n{tail}"
