"""Overlap metrics by hand, and against scikit-learn and SimpleITK."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from nnunet_diffusion_ensemble.evaluation.metrics import METRICS, overlap
from nnunet_diffusion_ensemble.evaluation.overlap import Counts, count_pixels

OVERLAP = [metric.name for metric in METRICS.values() if metric.kind == "overlap"]


def square(first_column: int) -> np.ndarray:
    mask = np.zeros((9, 12), bool)
    mask[2:7, first_column : first_column + 5] = True
    return mask


def test_a_square_and_a_larger_one_by_hand() -> None:
    """25 pixels of the reference, 35 predicted, 10 of them right."""
    predicted = square(5) | square(7)
    counts = count_pixels(square(2), predicted)
    assert counts == Counts(tp=10, fp=25, fn=15, tn=58)
    values = {"Dice": 20 / 60, "IoU": 10 / 50, "precision": 10 / 35, "recall": 10 / 25, "volume_error": 10 / 25}
    assert {name: overlap(name, counts) for name in OVERLAP} == pytest.approx(values)


NAN = math.nan
EMPTY = {  # both empty, only the reference, only the prediction: docs/reference/metrics.md
    "Dice": (1, 0, 0),
    "IoU": (1, 0, 0),
    "precision": (NAN, 0, 0),
    "recall": (NAN, NAN, 0),
    "volume_error": (0, 1, 1),
}


@pytest.mark.parametrize("name", EMPTY)
def test_empty_masks_give_what_is_documented(name: str) -> None:
    there, empty = square(2), np.zeros((9, 12), bool)
    pairs = [(empty, empty), (empty, there), (there, empty)]
    assert [overlap(name, count_pixels(*pair)) for pair in pairs] == pytest.approx(EMPTY[name], nan_ok=True)


def test_ignored_pixels_are_in_no_count() -> None:
    ignored = np.zeros((9, 12), bool)
    ignored[:, :6] = True  # leaves 1 right, 3 wrong and nothing missed of each of five rows
    assert count_pixels(square(2), square(5), ignored) == Counts(tp=5, fp=15, fn=0, tn=9 * 6 - 20)


def test_counts_are_those_of_nnunet() -> None:
    random = np.random.RandomState(1)
    reference, prediction, ignored = (random.rand(3, 7, 11) < share for share in (0.3, 0.5, 0.2))
    for without in (None, ignored):
        expected = compute_tp_fp_fn_tn(reference, prediction, without)
        counts = count_pixels(reference, prediction, without)
        assert (counts.tp, counts.fp, counts.fn, counts.tn) == tuple(map(int, expected))


def test_nothing_is_known_where_all_is_ignored() -> None:
    counts = count_pixels(square(2), square(5), np.ones((9, 12), bool))
    assert all(math.isnan(overlap(name, counts)) for name in OVERLAP)


def test_random_masks_agree_with_scikit_learn_and_simpleitk() -> None:
    random = np.random.RandomState(0)
    reference, prediction = random.rand(7, 8, 9) < 0.4, random.rand(7, 8, 9) < 0.6
    counts = count_pixels(reference, prediction)
    second = {"Dice": f1_score, "IoU": jaccard_score, "precision": precision_score, "recall": recall_score}
    for name, function in second.items():
        assert overlap(name, counts) == pytest.approx(function(reference.ravel(), prediction.ravel()))
    itk = sitk.LabelOverlapMeasuresImageFilter()
    itk.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (reference, prediction)))
    assert overlap("Dice", counts) == pytest.approx(itk.GetDiceCoefficient())
    similarity = itk.GetVolumeSimilarity()  # 2 (source - target) / (source + target)
    volumes = prediction.sum() / reference.sum()
    assert abs(similarity) == pytest.approx(2 * abs(1 - volumes) / (1 + volumes))
    assert overlap("volume_error", counts) == pytest.approx(abs(volumes - 1))


@pytest.mark.parametrize(
    ("reference", "prediction", "message"),
    [
        (np.ones((3, 3)), np.ones((3, 3), bool), "boolean, got bool, float64"),
        (np.ones((3, 3), np.uint8), np.ones((3, 3), np.uint8), "boolean, got uint8"),
        (np.ones((3, 3), bool), np.ones((3, 4), bool), r"one shape, got \(3, 3\), \(3, 4\)"),
    ],
)
def test_other_masks_are_refused(reference: np.ndarray, prediction: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_pixels(reference, prediction)


def test_ignored_pixels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        count_pixels(square(2), square(2), np.zeros((1, 12), bool))
