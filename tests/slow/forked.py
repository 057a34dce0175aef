"""Console commands in processes that are forked from one that has imported PyTorch and nnU-Net already.

Importing them takes longer than all that a tiny training computes. Otherwise a command runs as from a shell: in a
process of its own, with its own arguments, variables, folder and output. So do the scripts of the tests.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from in_one_process import stay_small

IMPORTED = [
    "nnunetv2.evaluation.evaluate_predictions",
    "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints",
    "nnunetv2.inference.predict_from_raw_data",
    "nnunetv2.run.run_training",
    "nnunet_diffusion_ensemble.benchmark.runner",
    "nnunet_diffusion_ensemble.planning.plan",
    "nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer",
    "nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer",
]
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(IMPORTED)


class ForkedCommand:
    """A command that runs, with what the tests need of `subprocess.Popen`.

    Args:
        command: name of a console script, e.g. `nnUNetv2_train`, or `python` and a file; and its arguments.
        environment: all its variables; some are read by imports, so they must not differ between commands.
        folder: its working directory.
        log: open file that takes its output.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Any):
        self._process = context.Process(target=_run, args=(list(command), dict(environment), folder, log.name))
        with _environment(environment):  # of the process that they are forked from, which the first command starts
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"still running after {timeout} s")
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


def can_be_forked(command: Sequence[str]) -> bool:
    """Whether it is a console script or a script of Python, but not `python -m ...`."""
    name, first = command[0], command[1] if len(command) > 1 else ""
    return first.endswith(".py") if name == "python" else bool(entry_points(group="console_scripts", name=name))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    _replace_environment(variables)
    try:
        yield
    finally:
        _replace_environment(before)


def _replace_environment(variables: Mapping[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def _run(command: list[str], environment: dict[str, str], folder: Path, log: str) -> None:
    """In the forked process: makes it what a shell would have started, and runs the command."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _replace_environment(environment)
    os.chdir(folder)
    stay_small()
    if command[0] == "python":
        sys.argv = command[1:]
        runpy.run_path(command[1], run_name="__main__")
        return
    sys.argv = command
    (script,) = entry_points(group="console_scripts", name=command[0])
    sys.exit(script.load()())
