"""Calibration by hand, and against scikit-learn and the formula."""

import math
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from nnunet_diffusion_ensemble.benchmark.results import CALIBRATION_COLUMNS
from nnunet_diffusion_ensemble.evaluation import calibration
from nnunet_diffusion_ensemble.evaluation.calibration import NUM_BINS, Reliability, brier, reliability

# Two pixels in the second bin, one in the last but one, two (0.94 and 1) in the last.
PROBABILITY = np.array([[0.10, 0.12, 0.90], [0.94, 1.0, 0.5]])
REFERENCE = np.array([[False, True, True], [True, False, True]])


def test_bins_by_hand() -> None:
    sums = reliability(PROBABILITY[:, :2], REFERENCE[:, :2])
    assert {position: n for position, n in enumerate(sums.pixels) if n} == {1: 2, 14: 2}
    assert [sums.probability_sums[i] for i in (1, 14)] == pytest.approx([0.22, 1.94])
    assert [sums.positives[i] for i in (1, 14)] == [1, 1]
    assert sums.expected_calibration_error == pytest.approx((0.78 + 0.94) / 4)


def test_brier_by_hand() -> None:
    assert brier(PROBABILITY[0], REFERENCE[0]) == pytest.approx((0.1**2 + 0.88**2 + 0.1**2) / 3)


def test_certain_and_right_is_perfect_and_certain_and_wrong_the_worst() -> None:
    certain = REFERENCE.astype(np.float32)
    assert (reliability(certain, REFERENCE).expected_calibration_error, brier(certain, REFERENCE)) == (0, 0)
    assert (reliability(1 - certain, REFERENCE).expected_calibration_error, brier(1 - certain, REFERENCE)) == (1, 1)


def drawn(seed: int, shape: tuple[int, ...] = (40, 50)) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(seed)
    probability = random.rand(*shape).astype(np.float32)
    return probability, random.rand(*shape) < probability**2


def test_random_probabilities_agree_with_the_formula_and_scikit_learn() -> None:
    probability, reference = drawn(0)
    assert brier(probability, reference) == pytest.approx(brier_score_loss(reference.ravel(), probability.ravel()))
    error, edges = 0.0, np.linspace(0, 1, NUM_BINS + 1)
    for lower, upper in pairwise(edges):
        inside = (probability >= lower) & (probability < upper)
        gap = abs(probability[inside].astype(float).mean() - reference[inside].mean())
        error += inside.sum() / probability.size * gap
    assert error > 0.1
    assert reliability(probability, reference).expected_calibration_error == pytest.approx(error)


def test_random_probabilities_agree_with_monai() -> None:
    binning = pytest.importorskip("monai.metrics.calibration", reason="MONAI has it since 1.6").calibration_binning
    import torch

    probability, reference = drawn(0)
    images = [torch.from_numpy(array)[None, None] for array in (probability, reference.astype(np.float32))]
    mean, share, count = (values[0, 0].numpy() for values in binning(*images, num_bins=NUM_BINS))
    sums = reliability(probability, reference)
    assert sums.pixels == tuple(count)
    assert sums.probability_sums == pytest.approx(mean * count, rel=1e-5)
    assert sums.positives == pytest.approx(share * count, rel=1e-5)


def test_sums_of_cases_are_those_of_all_their_pixels() -> None:
    (p, y), (q, z) = drawn(1), drawn(2, (3, 5, 7))
    together = reliability(np.concatenate([p.ravel(), q.ravel()]), np.concatenate([y.ravel(), z.ravel()]))
    added = reliability(p, y) + reliability(q, z) + Reliability()
    assert (added.pixels, added.positives) == (together.pixels, together.positives)
    assert added.probability_sums == pytest.approx(together.probability_sums)


def test_many_pixels_are_added_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    probability, reference = drawn(3)
    whole, of_whole = reliability(probability, reference), brier(probability, reference)
    monkeypatch.setattr(calibration, "PART", 999)  # 2,000 pixels in parts of 999, 999 and 2
    parts = reliability(probability, reference)
    assert (parts.pixels, parts.positives) == (whole.pixels, whole.positives)
    assert parts.probability_sums == pytest.approx(whole.probability_sums)
    assert brier(probability, reference) == pytest.approx(of_whole)


def test_rows_are_those_of_the_table_for_every_bin() -> None:
    rows = reliability(PROBABILITY, REFERENCE).rows()
    assert all(tuple(row) == CALIBRATION_COLUMNS[-5:] for row in rows)
    assert [row["bin_lower"] for row in rows] == pytest.approx(np.arange(15) / 15)
    assert [row["bin_upper"] for row in rows] == pytest.approx(np.arange(1, 16) / 15)
    assert sum(row["pixels"] for row in rows) == PROBABILITY.size
    assert rows[7] == {"bin_lower": 7 / 15, "bin_upper": 8 / 15, "pixels": 1, "probability_sum": 0.5, "positives": 1}


def test_no_pixels_give_no_number() -> None:
    nothing = np.zeros(0), np.zeros(0, bool)
    assert math.isnan(reliability(*nothing).expected_calibration_error)
    assert math.isnan(brier(*nothing))


@pytest.mark.parametrize(
    ("probability", "message"),
    [
        (np.array([0.5, 1.01]), "between 0 and 1, got 0.5 to 1.01"),
        (np.array([-0.5, 1]), "between 0 and 1, got -0.5 to 1"),
        (np.array([0.5, math.nan]), "between 0 and 1, got nan"),
        (np.array([0.5]), r"shape \(1,\), the reference \(2,\)"),
    ],
)
@pytest.mark.parametrize("function", [reliability, brier])
def test_what_is_no_probability_is_refused(function, probability: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(probability, np.array([True, False]))
