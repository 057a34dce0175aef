"""Makes the record of a benchmark from what was checked and from its results."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from nnunet_diffusion_ensemble.benchmark.checks import Checked
from nnunet_diffusion_ensemble.benchmark.domains import Domain
from nnunet_diffusion_ensemble.benchmark.models import Run
from nnunet_diffusion_ensemble.benchmark.pair import Pair
from nnunet_diffusion_ensemble.benchmark.record import BenchmarkRecord
from nnunet_diffusion_ensemble.benchmark.resampling import Resampling
from nnunet_diffusion_ensemble.benchmark.results import COLUMNS, ResultFolder
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.work import STEPS, read_work
from nnunet_diffusion_ensemble.method import PLANS_KEY, DiffusionMethod
from nnunet_diffusion_ensemble.system.known_checksums import KnownChecksums
from nnunet_diffusion_ensemble.system.records import checksums, of_each


def make_record(spec: BenchmarkSpec, checked: Checked, pairs: Iterable[Pair] = ()) -> BenchmarkRecord:
    """The record of what is there now.

    Args:
        spec: what was tested.
        checked: models and domains.
        pairs: those that have tables.
    """
    output = ResultFolder(spec.output)
    environments: list[Mapping[str, Any]] = []
    return BenchmarkRecord(
        specification=spec.model_dump(mode="json"),
        statistics=asdict(Resampling()),
        models=[_model(run, checked.checksums) for run in checked.runs],
        domains=[_domain(domain, checked.checksums) for domain in checked.domains],
        results=_tables(output),
        work=[_work(pair, environments) for pair in pairs],
        environments=environments,
    )


def _model(run: Run, known: KnownChecksums) -> dict[str, Any]:
    model = run.model
    return {
        "name": model.name,
        "labelled_cases": model.labelled_cases,
        "seed": run.seed,
        "folds": list(run.settings.folds),
        "folder": str(model.folder),
        "noise_seeds": dict(_noise_seeds(run.plans.plans["configurations"])),
        "files": of_each(known.of, run.files, model.folder),
    }


def _noise_seeds(configurations: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    """Of the configurations that have one; nnU-Net's own have none."""
    for name, configuration in configurations.items():
        if PLANS_KEY in configuration:
            yield name, DiffusionMethod.from_plans(configuration).ensemble.noise_seed


def _domain(domain: Domain, known: KnownChecksums) -> dict[str, Any]:
    spec = domain.spec
    tables = {"patients": spec.patients, "metadata": spec.metadata}
    return {
        "name": spec.name,
        "role": spec.role,
        "images": str(spec.images),
        "references": str(spec.references),
        "tables": {what: known.of(file) for what, file in tables.items() if file is not None and file.is_file()},
        "cases": {
            name: {"images": of_each(known.of, case.images), "reference": of_each(known.of, [case.reference])}
            for name, case in domain.cases.items()
        },
    }


def _tables(output: ResultFolder) -> dict[str, str]:
    return checksums(file for name in COLUMNS if (file := output.folder / name).is_file())


def _work(pair: Pair, environments: list[Mapping[str, Any]]) -> dict[str, Any]:
    """When and how long; adds to the environments, to which it refers by their position."""
    noted = {}
    for step, note in read_work(pair.folder).items():
        if note["environment"] not in environments:
            environments.append(note["environment"])
        noted[step] = {**note, "environment": environments.index(note["environment"])}
    model = pair.run.model
    keys = {"model": model.name, "labelled_cases": model.labelled_cases, "seed": pair.run.seed}
    return {**keys, "domain": pair.domain.spec.name, **{step: noted.get(step) for step in STEPS}}
