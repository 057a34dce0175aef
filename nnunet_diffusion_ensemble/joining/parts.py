"""Finished benchmarks to join, read from their folders or from zip files of them."""

import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from nnunet_diffusion_ensemble.benchmark.record import RECORD, BenchmarkRecord
from nnunet_diffusion_ensemble.benchmark.results import (
    COLUMNS,
    JOIN,
    SPEC,
    STUDY,
    BenchmarkResults,
    read_results,
)
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.system.messages import blaming

FILES = (SPEC, RECORD, STUDY, JOIN, *COLUMNS)
AGAIN = "Run `nnunet-diffusion benchmark` there again."
TrainedModel = tuple[str, int | None, int]  # its name, its number of labelled cases, its seed


@dataclass(frozen=True)
class Part:
    """A finished benchmark.

    Attributes:
        name: its folder or zip file, as the user wrote it.
        commands: that made it, in order.
    """

    name: str
    commands: tuple[str, ...]
    results: BenchmarkResults
    record: BenchmarkRecord

    @property
    def spec(self) -> BenchmarkSpec:
        return self.results.spec

    @property
    def trained(self) -> dict[TrainedModel, Mapping[str, str]]:
        """Checksums of the files of each trained model that was tested."""
        return {(one["name"], one["labelled_cases"], one["seed"]): one["files"] for one in self.record.models}

    @property
    def tested(self) -> dict[str, Mapping[str, Any]]:
        """What was tested in each domain: the checksums of its `cases`, and of `tables` about them."""
        return {one["name"]: {"cases": one["cases"], "tables": one["tables"]} for one in self.record.domains}


@dataclass(frozen=True)
class Renaming:
    """Another name for a model of one of the benchmarks."""

    part: Path
    model: str
    name: str


@contextmanager
def as_folder(part: Path) -> Iterator[Path]:
    """The folder of a part; of a zip file, one with its tables for as long as the block lasts."""
    if not part.is_file():
        yield part
        return
    with tempfile.TemporaryDirectory() as temporary:
        try:
            with zipfile.ZipFile(part) as archive:
                _unpack(archive, part, Path(temporary))
        except (zipfile.BadZipFile, OSError, RuntimeError) as error:  # the last of encrypted ones
            raise ValueError(f"{part} is neither the output folder of a benchmark nor a zip file of one.") from error
        yield Path(temporary)


def _unpack(archive: zipfile.ZipFile, part: Path, folder: Path) -> None:
    """The files beside the specification, wherever the archive has it; not those of runs and report below."""
    names = set(archive.namelist())
    places = [PurePosixPath(name).parent for name in sorted(names) if PurePosixPath(name).name == SPEC]
    if len(places) > 1:
        raise ValueError(f"{part} holds {len(places)} benchmarks. Name each by itself.")
    for place in places:
        for name in FILES:
            if str(place / name) in names:
                (folder / name).write_bytes(archive.read(str(place / name)))


def read_part(folder: Path, part: Path, renamings: Sequence[Renaming]) -> Part:
    """Reads a part.

    Args:
        folder: that `as_folder` gave.
        part: what the user named.
        renamings: those of other parts are passed over.

    Raises:
        FileNotFoundError: it is no such folder.
        ValueError: it is damaged, of an older version, or changed; or there is no such model to rename.
    """
    try:
        results = read_results(folder)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(str(error).replace(str(folder), str(part))) from error
    if results.record is None:
        raise ValueError(f"{part} has no {RECORD}, which tells whether models and cases are the same. {AGAIN}")
    if others := results.tables_of_another_record():
        raise ValueError(f"{part}: {', '.join(others)} changed since {RECORD} was written. {AGAIN}")
    commands = tuple(command.replace(str(folder), str(part)) for command in results.folder.commands)
    found = Part(str(part), commands, results, results.record)
    with blaming(part / RECORD, AGAIN):
        results.record.files()  # reads all that is compared
    for renaming in renamings:
        if renaming.part.resolve() == part.resolve():
            found = _renamed(found, renaming)
    return found


def _renamed(part: Part, renaming: Renaming) -> Part:
    """A part in which a model has another name everywhere."""
    names = {model.name for model in part.spec.models}
    if renaming.model not in names:
        raise ValueError(f"--rename: {part.name} has no model {renaming.model}, but {', '.join(sorted(names))}.")

    def other(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
        return {**entry, key: renaming.name} if entry[key] == renaming.model else dict(entry)

    changed = part.spec.model_dump()
    changed["models"] = [other(model, "name") for model in changed["models"]]
    to_other = {"model": {renaming.model: renaming.name}}
    tables = {name: table.replace(to_other) for name, table in tables_of(part).items()}
    results = replace(part.results, spec=BenchmarkSpec.read(changed), **tables)
    record = replace(
        part.record,
        models=[other(model, "name") for model in part.record.models],
        work=[other(work, "model") for work in part.record.work],
    )
    return replace(part, results=results, record=record)


def tables_of(part: Part) -> dict[str, pd.DataFrame]:
    """All tables, by their names without `.csv`."""
    return {(name := file.removesuffix(".csv")): getattr(part.results, name) for file in COLUMNS}
