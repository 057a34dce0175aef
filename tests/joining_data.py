"""Benchmarks with records, whole and in parts, for the tests of joining them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from report_data import Made, case_names, make_results

from nnunet_diffusion_ensemble.benchmark.record import BenchmarkRecord
from nnunet_diffusion_ensemble.benchmark.results import COLUMNS, BenchmarkResults, read_results
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.spec_file import write_spec
from nnunet_diffusion_ensemble.system.records import checksums

COMMAND = "nnunet-diffusion join A B -o JOINED"
ENVIRONMENT = {"python": "3.11", "packages": {}, "gpus": [], "memory_gib": None, "cpu": "", "cores": 1, "system": ""}
NEWER = {**ENVIRONMENT, "python": "3.12"}
MADE = Made(has_images=False, num_cases=4)


def checksum(*of: Any) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()


def finished(folder: Path, made: Made = MADE) -> BenchmarkResults:
    """The results of `make_results` with the record that a benchmark writes."""
    results = make_results(folder, made)
    return record_and_read(results.spec)


def files_of(case: str) -> dict[str, dict[str, str]]:
    return {"images": {f"{case}_0000.png": checksum(case)}, "reference": {f"{case}.png": checksum(case, "reference")}}


def record_and_read(spec: BenchmarkSpec) -> BenchmarkResults:
    record = BenchmarkRecord(
        specification=spec.model_dump(mode="json"),
        statistics={"seed": 0},
        models=[
            {
                "name": model.name,
                "labelled_cases": model.labelled_cases,
                "seed": seed,
                "folder": str(model.folder),
                "files": {"plans.json": checksum(model.name), "fold_0/checkpoint_final.pth": checksum(model.key, seed)},
            }
            for model in spec.models
            for seed in model.seeds
        ],
        domains=[
            {
                "name": domain.name,
                "role": domain.role,
                "images": str(domain.images),
                "references": str(domain.references),
                "tables": {},
                "cases": {name: files_of(name) for name in case_names(domain.name, MADE)},
            }
            for domain in spec.domains
        ],
        results=checksums(file for name in COLUMNS if (file := spec.output / name).is_file()),
        work=[
            {
                "model": model.name,
                "labelled_cases": model.labelled_cases,
                "seed": seed,
                "domain": domain.name,
                "predicting": {"finished": "2026-01-01", "environment": 0},
                "evaluating": None,
            }
            for model in spec.models
            for seed in model.seeds
            for domain in spec.domains
        ],
        environments=[ENVIRONMENT],
    )
    record.write(spec.output)
    return read_results(spec.output)


def part_of(whole: BenchmarkResults, folder: Path, keep: Callable[[dict[str, Any]], bool], **changes: Any) -> Path:
    """A benchmark of some of the rows of another one: those of which `keep` is true."""
    folder.mkdir()
    spec = whole.spec.model_dump()
    spec["models"] = [
        {**model, "seeds": seeds}
        for model in spec["models"]
        if (seeds := {seed: folds for seed, folds in model["seeds"].items() if keep({"seed": seed, **model})})
    ]
    spec["domains"] = [domain for domain in spec["domains"] if keep({"domain": domain["name"]})]
    made = BenchmarkSpec.read({**spec, "output": folder, **changes})
    for name in COLUMNS:
        table = getattr(whole, name.removesuffix(".csv"))
        rows = [keep({"name": row.get("model"), **row}) for row in table.to_dict("records")]
        table[pd.Series(rows, dtype=bool)].to_csv(folder / name, index=False)
    write_spec(made, folder / "spec.yaml")
    return record_and_read(made).folder.folder


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(list(table.columns)).reset_index(drop=True)


SPLITS = {
    "models": ("name", "Ensemble"),
    "hospitals": ("domain", "Home"),
    "draws": ("seed", 0),
    "numbers of labelled cases": ("labelled_cases", 1),
}


def halves(whole: BenchmarkResults, key: str, first: Any, tmp_path: Path) -> list[Path]:
    """What has the value and what has another; rows without it, such as problems of all models, are in both."""
    one = part_of(whole, tmp_path / "one", lambda row: pd.isna(row.get(key)) or row[key] == first)
    two = part_of(whole, tmp_path / "two", lambda row: pd.isna(row.get(key)) or row[key] != first)
    return [one, two]


def change_model(record: dict[str, Any]) -> None:
    """Gives the first model of a record another file."""
    record["models"][0]["files"]["plans.json"] = "another"
