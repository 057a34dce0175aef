"""What a benchmark of tiny trained models does again when something changes, and what it keeps."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from benchmark_inputs import make_domain, notes_of, snapshot, with_models
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.benchmark.results import CALIBRATION_COLUMNS, RESULT_COLUMNS, read_results
from nnunet_diffusion_ensemble.benchmark.runner import run_benchmark
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer

pytestmark = pytest.mark.slow


def test_the_tables_hold_every_seed_domain_case_timestep_and_metric(make_benchmark: Callable, tmp_path: Path) -> None:
    spec = make_benchmark(
        {0: (0,), 7: (1,)}, ("north", "south"), DiffusionEnsembleTrainer, metrics=("Dice", "recall", "Brier")
    )
    found = read_results(run_benchmark(spec).folder)
    assert found.spec == spec
    assert tuple(found.results.columns) == RESULT_COLUMNS
    assert tuple(found.calibration.columns) == CALIBRATION_COLUMNS
    own = found.results[found.results["timestep"].isna()]
    keys = {(seed, domain, case) for seed in (0, 7) for domain in ("north", "south") for case in ("case_0", "case_1")}
    for metric in spec.metrics:
        rows = own[own["metric"] == metric]
        assert set(zip(rows["seed"], rows["domain"], rows["case"], strict=True)) == keys and len(rows) == len(keys)
    single = found.results[found.results["timestep"].notna()]
    assert len(single) == 3 * len(keys) and set(single["timestep"]) == {1, 50, 400}
    assert (found.results["patient"] == found.results["case"]).all() and found.results["labelled_cases"].isna().all()
    assert set(zip(found.calibration["seed"], found.calibration["domain"], strict=True)) == {
        (seed, domain) for seed, domain, _ in keys
    }
    pixels = 2 * 2 * 16 * 17  # of two cases
    assert (found.calibration.groupby(["seed", "domain"])["pixels"].sum() == pixels).all()
    assert found.problems.empty


def retrain(spec: BenchmarkSpec) -> None:
    file = spec.models[0].folder / "fold_0" / "checkpoint_final.pth"
    shutil.copyfile(spec.models[0].folder / "fold_1" / "checkpoint_final.pth", file)


def replace_image(spec: BenchmarkSpec) -> None:
    images = spec.domains[0].images
    shutil.copyfile(images / "case_0_0000.nii.gz", images / "case_1_0000.nii.gz")


def replace_reference(spec: BenchmarkSpec) -> None:
    references = spec.domains[0].references
    shutil.copyfile(references / "case_0.nii.gz", references / "case_1.nii.gz")


@pytest.mark.parametrize(
    ("change", "trainer", "predicted", "told"),
    [
        (
            retrain,
            DiffusionEnsembleTrainer,
            ["case_0", "case_1"],
            ["fold_0/checkpoint_final.pth has changed", "changed: model (fold_0/checkpoint_final.pth)"],
        ),
        (
            replace_image,
            DiffusionEnsembleTrainer,
            ["case_1"],
            ["case_1_0000.nii.gz has changed", "predicted anew, images changed: case_1"],
        ),
        (replace_reference, nnUNetTrainer, [], ["case_1.nii.gz has changed"]),
    ],
)
def test_what_changed_is_noticed_and_the_rest_kept(
    change: Callable,
    trainer: type,
    predicted: list[str],
    told: list[str],
    make_benchmark: Callable,
    counted: dict[str, list],
    tmp_path: Path,
) -> None:
    spec = make_benchmark({0: (0,), 1: (1,)}, trainer=trainer)
    spec = with_models(spec, spec.models[0].model_dump() | {"seeds": {0: (0,)}})
    run_benchmark(spec)
    before = read_results(tmp_path / "out").results
    change(spec)
    counted["cases"].clear()
    notes = notes_of(spec)
    assert counted["cases"] == predicted
    assert all(part in text for part, text in zip(told, notes, strict=True))
    changed = snapshot(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    run_benchmark(spec)
    fresh = snapshot(tmp_path / "out")
    assert {name: changed[name] for name in fresh} == fresh
    assert not read_results(tmp_path / "out").results.equals(before)


def test_more_models_seeds_domains_and_metrics_may_follow(
    make_benchmark: Callable, counted: dict[str, list], tmp_path: Path
) -> None:
    spec = make_benchmark({0: (0,), 1: (1,)})
    model = spec.models[0].model_dump()
    run_benchmark(with_models(spec, model | {"seeds": {0: (0,)}}))
    counted["cases"].clear()
    more = {"domains": [*spec.model_dump()["domains"], make_domain(tmp_path / "south")], "metrics": ["Dice", "IoU"]}
    spec = BenchmarkSpec.model_validate(with_models(spec, model, model | {"labelled_cases": 3}).model_dump() | more)
    run_benchmark(spec)
    assert len(counted["cases"]) == 4 * 4 - 2  # two models of two seeds on two domains, two cases each, less the first
    assert read_spec(tmp_path / "out" / "spec.yaml") == spec
    assert set(read_results(tmp_path / "out").results["metric"]) == {"Dice", "IoU"}


def test_tables_are_joined_row_by_row_as_pandas_would(make_benchmark: Callable, tmp_path: Path) -> None:
    spec = make_benchmark({0: (0,), 1: (1,)}, ("north", "south"))
    output = run_benchmark(spec)
    parts = [pd.read_csv(file) for file in sorted((tmp_path / "out" / "runs").glob("*/*/results.csv"))]
    pd.testing.assert_frame_equal(pd.read_csv(output.results_file), pd.concat(parts, ignore_index=True))
    with output.results_file.open(newline="") as stream:
        assert next(csv.reader(stream)) == list(RESULT_COLUMNS)
