"""Doors x faults of the commands: ways to spoil what they read, and the check that they say so and change nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unlabelled_data import GREY_JSON, GREY_PLANS, NAME, make_dataset

from nnunet_diffusion_ensemble.cli.parser import main

DEEP = "[" * 20000  # JSON; YAML takes its time
DEEP_YAML = "[" * 1000
Fault = Callable[[Path], Any]
PLANS = f"nnUNet_preprocessed/{NAME}/Plans.json"


def write(name: str, text: str) -> Fault:
    return lambda folder: (folder / name).write_text(text)


def remove(name: str) -> Fault:
    return lambda folder: (folder / name).unlink()


def as_folder(name: str) -> Fault:
    def fault(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return fault


def edit(name: str, change: Callable[[str], str]) -> Fault:
    return lambda folder: (folder / name).write_text(change((folder / name).read_text()))


def change_json(name: str, change: Callable[[dict], Any]) -> Fault:
    def fault(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return fault


def without(*path: str) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def flip(name: str, share: float = 0.5) -> Fault:
    """Changes a bit in the middle of a file."""

    def fault(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[int(share * len(content))] ^= 1
        (folder / name).write_bytes(content)

    return fault


def nothing(folder: Path) -> None: ...


def everything_in(folder: Path) -> dict[str, bytes | None]:
    found = sorted(folder.rglob("*"))
    return {str(file.relative_to(folder)): file.read_bytes() if file.is_file() else None for file in found}


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable:
    monkeypatch.setenv("TMPDIR", str(tmp_path.parent))

    def run(arguments: str, fault: Fault, message: str) -> None:
        fault(tmp_path)
        before = everything_in(tmp_path)
        try:
            status = main([part.format(tmp=tmp_path) for part in arguments.split()])
        except SystemExit as end:  # of argparse
            status = end.code
        told = capsys.readouterr().err
        assert message.format(tmp=tmp_path) in told
        assert (status, "Traceback" in told) == (2, False), told
        assert everything_in(tmp_path) == before

    return run


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path, monkeypatch, GREY_PLANS, GREY_JSON)
