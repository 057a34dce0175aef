"""The folder in which `nnunet-diffusion demo` works: what is done there, and the variables of its commands."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble import __version__
from nnunet_diffusion_ensemble.nnunet.register import EXTERNAL_FOLDER, EXTERNAL_VARIABLE
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.json_files import read_object

STATE_FILE = "demo.json"


class DemoFolder:
    """The demo's folder, and what `demo.json` in it says: version, options and the steps that are done.

    Raises:
        FileExistsError: it is a file, or holds files that no demo wrote.
        ValueError: it was made by another version or with other options.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]):
        self.path = path.resolve()
        self.state_file = self.path / STATE_FILE
        self.made_with = {"version": __version__, "options": dict(options)}
        self.done_seconds: dict[str, float] = {}
        if self.state_file.is_file():
            self._read()
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise FileExistsError(f"{self.path} is there and was not made by the demo. Name a new or empty folder.")
        (self.path / "logs").mkdir(parents=True, exist_ok=True)
        self._save()

    def _read(self) -> None:
        state = read_object(self.state_file, "Name another folder, or delete that one.")
        for what, now in self.made_with.items():
            if state.get(what) != now:
                raise ValueError(
                    f"The demo in {self.path} was made with {what} {state.get(what)}, this one has {now}. "
                    "Name another folder, or delete that one."
                )
        self.done_seconds = state["done_seconds"]

    def is_done(self, step: str, results: Sequence[str]) -> bool:
        """Whether a step has been done, and its results (paths in the folder) are still there."""
        return step in self.done_seconds and all((self.path / result).exists() for result in results)

    def note_done(self, step: str, seconds: float) -> None:
        self.done_seconds[step] = round(seconds, 1)
        self._save()

    def _save(self) -> None:
        write_text(self.state_file, json.dumps({**self.made_with, "done_seconds": self.done_seconds}, indent=2))


def own_variables(folder: Path) -> dict[str, str]:
    """Variables of the demo's commands: nnU-Net's three folders inside the demo's, and settings for few cores."""
    return {
        **{name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")},
        EXTERNAL_VARIABLE: str(EXTERNAL_FOLDER),
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
        "OMP_WAIT_POLICY": "passive",
    }


def child_environment(folder: Path, surroundings: Mapping[str, str], at_once: int = 1) -> dict[str, str]:
    """The surroundings with the demo's variables in place of all of the user's that are nnU-Net's.

    Of several commands that run at once each has its share of the cores; more threads than cores slow all of them.
    """
    kept = {name: value for name, value in surroundings.items() if not name.lower().startswith("nnunet")}
    threads = {} if at_once == 1 else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // at_once))}
    return {**kept, **threads, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **own_variables(folder)}
