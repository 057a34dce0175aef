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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import IO

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


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does, the command that runs and all."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def run_command(
    command: Command, folder: Path, environment: Mapping[str, str], log: Path, progress: Progress, screen: Screen
) -> None:
    """Runs a command in `folder` and waits for it; whatever ends the wait early ends the command and its workers.

    Args:
        command: what to run.
        folder: working directory.
        environment: its variables.
        log: file that its output is added to.
        progress: reads the output and says how things stand.
        screen: where that is shown.

    Raises:
        RuntimeError: it failed; the message names the log and quotes its last lines.
    """
    start = monotonic()
    with log.open("a", encoding="utf-8") as file:
        print(f"$ {command}", file=file, flush=True)
        with subprocess.Popen(
            command.argv(),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # its workers form one group with it, so that all of them can be ended
        ) as process:
            try:
                for line in _lines_while_running(process):
                    file.write(line)
                    progress.note(line)
                    screen.status(progress.status(), monotonic() - start)
            finally:
                _end_with_workers(process)
    if process.returncode:
        raise RuntimeError(_failure(command, process.returncode, log))


def _lines_while_running(process: "subprocess.Popen[str]") -> Iterator[str]:
    """Lines of output as they come, and an empty one each second, until the process has ended."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while process.poll() is None:
        try:
            yield lines.get(timeout=1)
        except queue.Empty:
            yield ""
    reader.join(SECONDS_TO_CLOSE_OUTPUT)  # a worker that outlives its parent would keep the pipe open
    while not lines.empty():
        yield lines.get()


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
