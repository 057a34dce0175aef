"""Several finished benchmarks as one.

What leaves a hospital are tables with a value a case, no image and no prediction. The records (`benchmark.json`) show
that what two benchmarks call by one name is the same: a model by its files, a domain by its images and references.
"""

import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_diffusion_ensemble.benchmark.record import BenchmarkRecord
from nnunet_diffusion_ensemble.benchmark.results import COLUMNS, JOIN, SPEC
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.spec_file import write_spec
from nnunet_diffusion_ensemble.benchmark.work import STEPS
from nnunet_diffusion_ensemble.joining.contradictions import common_metrics, reasons_against
from nnunet_diffusion_ensemble.joining.folders import bare_command, bare_path, without_folders
from nnunet_diffusion_ensemble.joining.parts import FILES, Part, Renaming, as_folder, read_part, tables_of
from nnunet_diffusion_ensemble.system.atomic import whole_file, write_text
from nnunet_diffusion_ensemble.system.guard import alone_in
from nnunet_diffusion_ensemble.system.messages import raise_listing
from nnunet_diffusion_ensemble.system.places import refuse_file
from nnunet_diffusion_ensemble.system.records import checksums

ZIP = ".zip"


@dataclass(frozen=True)
class Joined:
    """Where the joined results lie, and the metrics that not all of them have, which are left out."""

    place: Path
    metrics_left_out: tuple[str, ...]


def join_results(
    parts: Sequence[Path],
    output: Path,
    command: str,
    renamings: Sequence[Renaming] = (),
    keep_folders: bool = True,
) -> Joined:
    """Writes the results of several benchmarks as those of one, without predictions.

    Args:
        parts: outputs of `nnunet-diffusion benchmark`, or of this, as folders or zip files.
        output: a folder, or a zip file if it ends with `.zip`. An earlier one of this function is replaced.
        command: that does this, for the report to tell.
        renamings: names of models, where two benchmarks give different ones the same.
        keep_folders: tell in which folders of this machine everything lies.

    Raises:
        FileNotFoundError: there is no such part.
        ValueError: parts contradict each other, all contradictions listed; they are damaged or of another version;
            or there is a benchmark in `output`.
        AtWorkError: another process writes there.
    """
    _check_output(output, parts)
    with ExitStack() as stack:
        read = [read_part(stack.enter_context(as_folder(part)), part, renamings) for part in parts]
        raise_listing("These benchmarks cannot be joined:", reasons_against(read))
        place = output.with_suffix("") if output.suffix == ZIP else output
        if not keep_folders:
            read, place, command = list(map(without_folders, read)), bare_path(place), bare_command(command)
        spec, left_out = _joined_spec(read, place)
        if output.suffix == ZIP:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            _write(read, spec, folder, command)
            _zip(folder, output)
        else:
            with alone_in(output):
                _write(read, spec, output, command)
    return Joined(output, left_out)


def _check_output(output: Path, parts: Sequence[Path]) -> None:
    if output.suffix != ZIP:
        refuse_file(output)
    if any(output.resolve() == part.resolve() for part in parts):
        raise ValueError(f"{output} is one of the results to join. Name another output with -o.")
    if (output / SPEC).exists() and not (output / JOIN).exists():
        raise ValueError(f"{output} holds the results of a benchmark. Name another output with -o.")


def _joined_spec(parts: Sequence[Part], output: Path) -> tuple[BenchmarkSpec, tuple[str, ...]]:
    """That of all parts together, and the metrics that it leaves out."""
    models: dict[tuple[str, int | None], dict[str, Any]] = {}
    domains: dict[str, dict[str, Any]] = {}
    for part in parts:
        for model in part.spec.models:
            known = models.setdefault((model.name, model.labelled_cases), model.model_dump())
            known["seeds"] = dict(sorted({**model.seeds, **known["seeds"]}.items()))
        for domain in part.spec.domains:
            domains.setdefault(domain.name, domain.model_dump())
    metrics = common_metrics(parts)
    every = dict.fromkeys(name for part in parts for name in part.spec.metrics)
    changes = {
        "output": output,
        "models": list(models.values()),
        "domains": list(domains.values()),
        "metrics": metrics,
        "timesteps": any(part.spec.timesteps for part in parts),
    }
    left_out = tuple(name for name in every if name not in metrics)
    return BenchmarkSpec.read(parts[0].spec.model_dump() | changes), left_out


def _write(parts: Sequence[Part], spec: BenchmarkSpec, folder: Path, command: str) -> None:
    """Writes all files, the record last."""
    tables = [tables_of(part) for part in parts]
    for file in COLUMNS:
        name = file.removesuffix(".csv")
        if name == "subgroups" and not spec.subgroups:
            continue
        some = [one[name] for one in tables if len(one[name])] or [tables[0][name]]
        table = pd.concat(some, ignore_index=True).drop_duplicates()
        if name == "results":
            table = table[table["metric"].isin(spec.metrics)]
            _check_unequivocal(table, parts)
        with whole_file(folder / file) as temporary:
            table.to_csv(temporary, index=False)
    write_spec(spec, folder / SPEC)
    write_text(folder / JOIN, "\n".join(dict.fromkeys([*(line for part in parts for line in part.commands), command])))
    _joined_record(parts, spec, folder).write(folder)


def _check_unequivocal(results: pd.DataFrame, parts: Sequence[Part]) -> None:
    """The same model on the same case has one value, whoever measured it."""
    key = [column for column in results.columns if column not in ("value", "patient")]
    twice = results[results.duplicated(key)]
    if len(twice):
        row = twice.iloc[0]
        raise ValueError(
            f"{' and '.join(part.name for part in parts)} have different values of the same: {row['metric']} of "
            f"{row['model']}, seed {row['seed']}, for {row['case']} of {row['domain']}. Join those of one of them."
        )


def _joined_record(parts: Sequence[Part], spec: BenchmarkSpec, folder: Path) -> BenchmarkRecord:
    models: dict[Any, Mapping[str, Any]] = {}
    domains: dict[str, Mapping[str, Any]] = {}
    environments: list[Mapping[str, Any]] = []
    work: list[Mapping[str, Any]] = []
    for part in parts:
        for model in part.record.models:
            models.setdefault((model["name"], model["labelled_cases"], model["seed"]), model)
        for domain in part.record.domains:
            domains.setdefault(domain["name"], domain)
        environments += [one for one in part.record.environments if one not in environments]
        for entry in part.record.work:
            noted = {step: _moved(entry.get(step), part.record.environments, environments) for step in STEPS}
            if (one := {**entry, **noted}) not in work:
                work.append(one)
    return BenchmarkRecord(
        specification=spec.model_dump(mode="json"),
        statistics=parts[0].record.statistics,
        models=list(models.values()),
        domains=list(domains.values()),
        results=checksums(file for name in COLUMNS if (file := folder / name).is_file()),
        work=work,
        environments=environments,
    )


def _moved(note: Mapping[str, Any] | None, of_part: Sequence[Any], of_all: Sequence[Any]) -> dict[str, Any] | None:
    """A note of work with the place of its environment among all of them."""
    return None if note is None else {**note, "environment": of_all.index(of_part[note["environment"]])}


def _zip(folder: Path, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            if (folder / name).is_file():
                archive.write(folder / name, name)
