"""A calibrated model in a benchmark: its probabilities and predicted Dice, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from benchmark_inputs import notes_of, with_models
from dice_fits import unit_line
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.benchmark.results import read_results
from nnunet_diffusion_ensemble.benchmark.runner import run_benchmark
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.calibration.file import Calibration, calibration_file, write_calibration
from nnunet_diffusion_ensemble.calibration.predicted_dice import DicePrediction
from nnunet_diffusion_ensemble.prediction.calibrated import settings_of_fit
from nnunet_diffusion_ensemble.prediction.model_folder import model_files
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.system.records import as_written, checksums

SETTINGS = PredictionSettings(folds=(0,), device="cpu", use_mirroring=False, tile_step_size=1.0)
WIDE = unit_line(factor=22000)


def calibrate(model: Path, temperature: float = 4.0, dice: DicePrediction | None = WIDE) -> None:
    weights = checksums(model_files(model, SETTINGS), model)
    found = {"nll_before": 1.0, "nll_after": 1.0, "cases": {"a": 0.5}, "num_pixels": 1, "dice": dice}
    how = as_written(settings_of_fit(SETTINGS))
    calibration = Calibration(weights=weights, predicts_with=how, temperatures=(temperature,), **found)
    write_calibration(calibration, calibration_file(model, (0,)))


@pytest.fixture
def spec(make_benchmark: Callable) -> BenchmarkSpec:
    """A model, and the same calibrated."""
    made = make_benchmark(trainer=nnUNetTrainer, metrics=("Dice", "Brier"))
    plain = made.models[0].model_dump()
    return with_models(made, plain, plain | {"name": "calibrated", "calibrated": True})


def test_a_calibrated_model_has_the_same_dice_and_other_probabilities(spec: BenchmarkSpec) -> None:
    calibrate(spec.models[0].folder)
    found = read_results(run_benchmark(spec).folder)
    own = found.results[found.results["timestep"].isna()].set_index(["model", "metric", "case"])["value"].sort_index()
    assert own["TEDM", "Dice"].equals(own["calibrated", "Dice"])
    assert not np.allclose(own["TEDM", "Brier"], own["calibrated", "Brier"])
    rows = found.predicted_dice
    assert set(rows["model"]) == {"calibrated"} and rows["case"].tolist() == ["case_0", "case_1"]
    assert rows["dice"].tolist() == own["calibrated", "Dice"].tolist()
    assert (rows["lower"] == 0).all() and (rows["upper"] == 1).all()  # a logit has no end within 10 of it
    assert set(rows["coverage"]) == {0.5}


def test_a_new_calibration_predicts_its_model_anew_and_no_other(spec: BenchmarkSpec) -> None:
    calibrate(spec.models[0].folder)
    run_benchmark(spec)
    assert notes_of(spec) == []
    calibrate(spec.models[0].folder, temperature=3.0)
    changed, note = notes_of(spec)
    assert "calibration_folds_0.json has changed" in changed
    assert note.startswith("calibrated, seed 0, on north: predicted anew") and "calibration_folds_0.json" in note


def test_a_model_without_a_calibration_is_refused(spec: BenchmarkSpec) -> None:
    with pytest.raises(ValueError, match=r"calibrated: seed 0: There is no .*calibration_folds_0\.json: fit it"):
        run_benchmark(spec)


def test_a_calibration_of_other_weights_is_refused(spec: BenchmarkSpec) -> None:
    calibrate(spec.models[0].folder)
    plans = spec.models[0].folder / "plans.json"
    plans.write_text(plans.read_text() + "\n")
    with pytest.raises(ValueError, match="was fitted for other weights"):
        run_benchmark(spec)
