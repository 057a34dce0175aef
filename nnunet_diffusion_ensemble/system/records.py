"""What a result was made from, kept beside it in JSON, so that it is made anew when that changes."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.messages import first_few

Told = TypeVar("Told")
NUM_NAMED = 3
PART_BYTES = 2**24


def stamps(files: Iterable[Path], base: Path | None = None) -> dict[str, list[int]]:
    """Size and time of change of files, by their names, or by their paths below `base`."""
    return of_each(stamp, files, base)


def checksums(files: Iterable[Path], base: Path | None = None) -> dict[str, str]:
    """SHA-256 of files, by their names, or by their paths below `base`."""
    return of_each(sha256, files, base)


def of_each(tell: Callable[[Path], Told], files: Iterable[Path], base: Path | None = None) -> dict[str, Told]:
    """What is told of each file, by their names, or by their paths below `base`."""
    return {str(file.relative_to(base)) if base else file.name: tell(file) for file in files}


def stamp(file: Path) -> list[int]:
    """Size, and time of change in nanoseconds."""
    state = file.stat()
    return [state.st_size, state.st_mtime_ns]


def sha256(file: Path) -> str:
    """In hexadecimal digits, of a file of any size."""
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(PART_BYTES):
            found.update(part)
    return found.hexdigest()


def read_record(file: Path) -> dict[str, Any] | None:
    """What was written, or None; a record that cannot be read vouches for nothing."""
    try:
        record = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def write_record(file: Path, record: Mapping[str, Any], indent: int | None = None) -> None:
    """Writes it; on one line, which takes a fraction of the time, unless somebody shall read it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(record, indent=indent))


def as_written(record: Mapping[str, Any]) -> dict[str, Any]:
    """As it will be read: with lists for tuples, text for the numbers of keys."""
    return json.loads(json.dumps(record))


def what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Names of the entries that differ, and inside a part the first few."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            inner = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
            found.append(f"{name} ({first_few(inner, NUM_NAMED)})")
        else:
            found.append(name)
    return ", ".join(found)
