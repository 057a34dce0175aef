"""What a run of self-training has done, so that it goes on where it was stopped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.json_files import read_object

STATE = "state.json"


@dataclass(frozen=True)
class State:
    """Steps that are done to their end, and the choices that they were made with.

    Attributes:
        folder: of the run.
    """

    folder: Path

    def begin(self, choices: Mapping[str, Any], selection: Mapping[str, Any]) -> None:
        """Takes up the run in the folder, or starts one.

        Args:
            choices: what predictions depend on.
            selection: what comes after them; it may change as long as nothing was trained with it.

        Raises:
            ValueError: the run in the folder was made with other choices; they are named.
        """
        before = self._read()
        is_new = not before["done"]
        differing = _differing(before["choices"], choices) if not is_new else []
        changed = _differing(before["selection"], selection) if not is_new else []
        if any(not _is_selection(step) for step in before["done"]):
            differing += changed
        if differing:
            raise ValueError(
                f"{self.folder} was begun with other settings ({'; '.join(differing)}). Go on with the same ones, or "
                "name another folder."
            )
        done = [step for step in before["done"] if not (changed and step.endswith(SELECTED))]
        self._write({"choices": choices, "selection": selection, "done": done})

    def has(self, step: str) -> bool:
        return step in self._read()["done"]

    def add(self, step: str) -> None:
        before = self._read()
        self._write({**before, "done": [*before["done"], step]})

    def _read(self) -> dict[str, Any]:
        file = self.folder / STATE
        start: dict[str, Any] = {"choices": {}, "selection": {}, "done": []}
        if not file.is_file():
            return start
        content = read_object(file, NEW_FOLDER)
        if any(type(content.get(key)) is not type(value) for key, value in start.items()):
            raise ValueError(f"{file} is damaged: it lacks {', '.join(start)}. {NEW_FOLDER}")
        return content

    def _write(self, content: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / STATE, json.dumps(content, indent=2))


PREDICTED, SELECTED = "predicted", "selected"
NEW_FOLDER = "Name another folder, or delete that one."


def _is_selection(step: str) -> bool:
    return step.endswith((PREDICTED, SELECTED))


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [f"{name} {before.get(name)}, now {value}" for name, value in now.items() if before.get(name) != value]
