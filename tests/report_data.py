"""A benchmark's output made up from known numbers, complete with small predictions, for the tests of the report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

from nnunet_diffusion_ensemble.benchmark.results import (
    CALIBRATION_COLUMNS,
    PREDICTED_DICE_COLUMNS,
    PROBLEM_COLUMNS,
    RESULT_COLUMNS,
    RUN_COLUMNS,
    BenchmarkResults,
    ResultFolder,
    as_name,
)
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.spec_file import write_spec
from nnunet_diffusion_ensemble.evaluation.metrics import METRICS

TIMESTEPS = (1, 10, 200, 800)
ROLES = {"Home": "source", "Away": "target"}


@dataclass(frozen=True)
class Made:
    """What to make up. Models of `with_timesteps` average over timesteps and predict their Dice; `ending` .nii.gz makes
    volumes."""

    models: Sequence[str] = ("Ensemble", "Scratch", "nnU-Net")
    with_timesteps: Sequence[str] = ("Ensemble",)
    labelled_cases: Sequence[int | None] = (1, 6)
    seeds: Sequence[int] = (0, 1)
    roles: dict[str, str] = field(default_factory=lambda: dict(ROLES))
    num_cases: int = 8
    labels: dict[str, int | list[int]] = field(default_factory=lambda: {"lung": 1})
    metrics: Sequence[str] = ("Dice", "HD95", "ECE")
    ending: str = ".png"
    has_images: bool = True
    has_calibration: bool = True


def make_results(folder: Path, made: Made | None = None) -> BenchmarkResults:
    """Writes the folder of a finished benchmark and returns its tables."""
    made = made or Made()
    spec = _spec(folder, made)
    folder.mkdir(parents=True, exist_ok=True)
    results = BenchmarkResults(ResultFolder(folder), spec, _results(made), _calibration(made), _problems(made))
    results = replace(results, predicted_dice=_predicted_dice(results.results, made))
    results.predicted_dice.to_csv(results.folder.predicted_dice_file, index=False)
    results.results.to_csv(results.folder.results_file, index=False)
    results.calibration.to_csv(results.folder.calibration_file, index=False)
    results.problems.to_csv(results.folder.problems_file, index=False)
    write_spec(spec, results.folder.spec_file)
    if made.has_images:
        _write_domains(spec, made)
        _write_predictions(results, made)
    return results


def case_names(domain: str, made: Made) -> list[str]:
    return [f"{domain}_{position:03d}" for position in range(made.num_cases)]


def dice_of(made: Made, model: str, labelled_cases: int | None, domain: str) -> float:
    """The mean Dice around which the values of cases lie: later models, fewer labels and other hospitals are worse."""
    rank = list(made.models).index(model)
    fewer = 0.0 if labelled_cases is None else 0.15 / labelled_cases**0.5
    return 0.95 - 0.04 * rank - fewer - (0.03 + 0.02 * rank) * (made.roles[domain] == "target")


def _spec(folder: Path, made: Made) -> BenchmarkSpec:
    models = [
        {
            "name": model,
            "folder": folder / "models" / as_name(model),
            "labelled_cases": number,
            "seeds": {s: [0] for s in made.seeds},
        }
        for model in made.models
        for number in made.labelled_cases
    ]
    domains = [
        {
            "name": name,
            "role": role,
            "images": folder / "data" / name / "images",
            "references": folder / "data" / name / "labels",
        }
        for name, role in made.roles.items()
    ]
    return BenchmarkSpec(output=folder, models=models, domains=domains, metrics=tuple(made.metrics), device="cpu")


def _results(made: Made) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows: list[tuple[Any, ...]] = []
    for model in made.models:
        for number in made.labelled_cases:
            for seed in made.seeds:
                for domain in made.roles:
                    rows += _run_rows(made, (model, number, seed, domain), generator)
    frame = pd.DataFrame(rows, columns=list(RESULT_COLUMNS))
    types = {"labelled_cases": "Int64", "timestep": "Int64", "value": "float64", "seed": "int64"}
    texts = {name: "string" for name in RESULT_COLUMNS if name not in types}
    return frame.astype(types | texts)


def _run_rows(
    made: Made, run: tuple[str, int | None, int, str], generator: np.random.Generator
) -> list[tuple[Any, ...]]:
    model, number, _, domain = run
    mean = dice_of(made, model, number, domain)
    timesteps: list[int | None] = [None, *(TIMESTEPS if model in made.with_timesteps else ())]
    rows = []
    for case in case_names(domain, made):
        for label in made.labels:
            dice = float(np.clip(mean + generator.normal(0, 0.03), 0, 1))
            for timestep in timesteps:
                for metric in made.metrics if timestep is None else ("Dice",):
                    value = _value(metric, dice - (0 if timestep is None else 0.01 + 0.0001 * timestep))
                    rows.append((*run, case, case, timestep, label, metric, value))
    return rows


def _value(metric: str, dice: float) -> float:
    if METRICS[metric].has_length:
        return 100 * (1 - dice)
    return dice if METRICS[metric].higher_is_better else 1 - dice


def _calibration(made: Made) -> pd.DataFrame:
    """Of 1,000 pixels in each of ten bins, a share that is lower than the probability by 0.05 a model."""
    rows = []
    if made.has_calibration:
        for rank, model in enumerate(made.models):
            for number in made.labelled_cases:
                for seed in made.seeds:
                    for domain in made.roles:
                        for label in made.labels:
                            for i in range(10):
                                middle = (i + 0.5) / 10
                                share = max(middle - 0.05 * rank, 0)
                                bins = (i / 10, (i + 1) / 10, 1000, 1000 * middle, round(1000 * share))
                                rows.append((model, number, seed, domain, label, *bins))
    return pd.DataFrame(rows, columns=list(CALIBRATION_COLUMNS)).astype({"labelled_cases": "Int64"})


def _predicted_dice(results: pd.DataFrame, made: Made) -> pd.DataFrame:
    """Dice that is predicted 0.02 too high, in intervals of 0.1 that begin 0.05 below."""
    own = results[results["timestep"].isna() & (results["metric"] == "Dice")]
    own = own[own["model"].isin(made.with_timesteps)]
    keys = [*RUN_COLUMNS, "case", "patient"]
    rows = own.groupby(keys, dropna=False, sort=False)["value"].mean().rename("dice").reset_index()
    predicted = rows["dice"] + 0.02
    rows = rows.assign(predicted_dice=predicted, lower=predicted - 0.05, upper=predicted + 0.05)
    return rows.assign(coverage=0.9, promised=0.8)[list(PREDICTED_DICE_COLUMNS)]


def _problems(made: Made) -> pd.DataFrame:
    rows = [(None, list(made.roles)[-1], "Away_999", "no reference", "left out")]
    return pd.DataFrame(rows, columns=list(PROBLEM_COLUMNS)).astype("string")


def _write_domains(spec: BenchmarkSpec, made: Made) -> None:
    for domain in spec.domains:
        for position, case in enumerate(case_names(domain.name, made)):
            labels = _label_map(made, position)
            image = 60 + 120 * (labels == 0) + 10 * np.random.default_rng(position).random(labels.shape)
            _write(image.astype(np.uint8), domain.images / f"{case}_0000{made.ending}")
            _write(labels, domain.references / f"{case}{made.ending}")


def _write_predictions(results: BenchmarkResults, made: Made) -> None:
    """For the first seed, which the gallery shows."""
    labels = {"background": 0, **made.labels}
    for model in results.spec.models:
        for domain in results.spec.domains:
            folder = results.folder.prediction(model, min(model.seeds), domain.name)
            folder.mkdir(parents=True)
            (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": made.ending}))
            for position, case in enumerate(case_names(domain.name, made)):
                predicted = np.roll(_label_map(made, position), 2, axis=-1)
                _write(predicted, folder / f"{case}{made.ending}")
                entropy = (predicted != _label_map(made, position)).astype(np.float32)
                map_ending = ".tif" if made.ending == ".png" else made.ending
                _write(entropy, folder / "entropy" / f"{case}{map_ending}")
                for i, timestep in enumerate(TIMESTEPS if model.name in made.with_timesteps else ()):
                    file = folder / "timesteps" / f"t{timestep:03d}" / f"{case}{made.ending}"
                    _write(np.roll(predicted, i, axis=-2), file)


def _label_map(made: Made, position: int) -> np.ndarray:
    """Two lungs, those of later cases larger; several values lie inside each other, the first outside."""
    numbers = sorted({int(n) for value in made.labels.values() for n in np.atleast_1d(value)})
    rows, columns = np.mgrid[:40, :48]
    flat = np.zeros((40, 48), np.uint8)
    for middle in (14, 33):
        distance = np.hypot((rows - 20) / 1.7, columns - middle)
        for rank, number in enumerate(numbers):
            flat[distance < (7 + 0.2 * position) * (1 - rank / len(numbers))] = number
    if made.ending == ".png":
        return flat
    volume = np.zeros((5, 40, 48), np.uint8)
    volume[2], volume[3] = flat, flat * (columns < 24)
    return volume


def _write(array: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    if array.ndim == 3:
        image.SetSpacing((1.0, 1.5, 4.0))
    sitk.WriteImage(image, str(file))
