"""What a calibration does to a case, and when none is used."""

from pathlib import Path

import numpy as np
import pytest
from dice_fits import unit_line

from nnunet_diffusion_ensemble.calibration.file import Calibration
from nnunet_diffusion_ensemble.calibration.predicted_dice import DicePrediction
from nnunet_diffusion_ensemble.prediction.calibrated import CalibrationUse, usable_calibration
from nnunet_diffusion_ensemble.prediction.folder import CaseUncertainty
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.prediction.uncertainty import expected_dice

CPU = PredictionSettings(folds=(0,), device="cpu")
DICE = unit_line()


def use(review_below: float | None, dice: DicePrediction | None = DICE) -> CalibrationUse:
    found = {"nll_before": 1.0, "nll_after": 1.0, "cases": {"a": 0.5}, "num_pixels": 1, "dice": dice}
    calibration = Calibration(weights={"a": "b"}, predicts_with={}, temperatures=(2.0,), **found)
    return CalibrationUse(calibration, Path("calibration.json"), False, review_below)


@pytest.mark.parametrize(("bound", "review"), [(0.79, False), (0.81, True), (None, None)])
def test_a_case_whose_interval_begins_below_the_bound_is_to_be_reviewed(bound: float | None, review: bool) -> None:
    judged = use(bound).judged(CaseUncertainty("a", 5, expected_dice=0.9))
    odds = (9 / 2.25, 9 * 2.25)
    assert judged.predicted_dice == pytest.approx(0.9)
    assert (judged.lower, judged.upper) == pytest.approx(tuple(o / (1 + o) for o in odds))
    assert judged.review is review


def test_a_case_without_foreground_has_no_interval_and_is_to_be_reviewed() -> None:
    judged = use(0.5).judged(CaseUncertainty("a", 0))
    assert (judged.predicted_dice, judged.lower, judged.review) == (None, None, True)


def test_a_temperature_alone_judges_no_case() -> None:
    scores = CaseUncertainty("a", 5, expected_dice=0.9)
    assert use(None, dice=None).judged(scores) == scores


def test_the_table_has_columns_of_a_calibration_only_with_one() -> None:
    plain = CaseUncertainty("a", 5, expected_dice=0.9)
    assert not {"predicted_dice", "lower", "upper", "review"} & set(plain.row())
    row = use(0.81).judged(plain).row()
    assert list(row)[-4:] == ["predicted_dice", "lower", "upper", "review"] and row["review"] == "yes"


def test_without_a_file_nothing_is_used_unless_it_was_asked_for(tmp_path: Path) -> None:
    assert usable_calibration(tmp_path, CPU) == (None, "")
    for asked in ({"tempers": True}, {"review_below": 0.9}):
        with pytest.raises(FileNotFoundError, match="fit it with `nnunet-diffusion calibrate`"):
            usable_calibration(tmp_path, CPU, **asked)


@pytest.mark.parametrize("bound", [0.0, 1.5, -1.0, float("nan")])
def test_a_bound_that_is_no_dice_is_refused(tmp_path: Path, bound: float) -> None:
    with pytest.raises(ValueError, match="--review-below must be a Dice above 0 and at most 1"):
        usable_calibration(tmp_path, CPU, review_below=bound)


def test_expected_dice_worked_by_hand() -> None:
    # Label 1: 2 x (0.8 + 0.6) / (0.8 + 0.6 + 0.1 + 0.1 + 2) = 2.8 / 3.6; label 2 is not predicted.
    foreground = np.array([0.8, 0.6, 0.1, 0.1])
    other = np.array([0.0, 0.1, 0.2, 0.3])
    probabilities = np.stack([1 - foreground - other, foreground, other])
    segmentation = np.array([1, 1, 0, 0])
    assert expected_dice(probabilities, segmentation, [(0,), (1,), (2,)]) == pytest.approx(2.8 / 3.6)
    regions = np.stack([foreground, other])
    assert expected_dice(regions, segmentation, [(1, 2), (2,)]) == pytest.approx(2.8 / 3.6)
    assert np.isnan(expected_dice(probabilities, np.zeros(4), [(0,), (1,), (2,)]))
