"""Agreement of volumes against the published worked example, and against numbers worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunet_diffusion_ensemble.statistics.agreement import (
    agreement_of_volumes,
    intraclass_correlation,
    limits_of_agreement,
)

pytestmark = pytest.mark.filterwarnings("error")
# Shrout and Fleiss 1979, table 2: four ratings of six targets.
SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def test_icc_is_that_of_the_table_of_shrout_and_fleiss() -> None:
    found = intraclass_correlation(SHROUT_FLEISS)
    assert found.value == pytest.approx(0.29, abs=0.005)
    assert (found.low, found.high) == pytest.approx((0.02, 0.76), abs=0.005)


@pytest.mark.parametrize(
    ("ratings", "icc"),
    [
        ([[1, 1], [2, 2], [3, 3]], 1.0),
        ([[1, 2], [2, 3], [3, 4]], 2 / (2 + 2 * 1.5 / 3)),  # B = 2, E = 0, J = 1.5: a bias lowers it
        ([[1, 3], [2, 2], [3, 1]], -3.0),  # B = 0, E = 2, J = 0: -2 / (0 + 2 - 4 / 3)
        ([[1, 1], [1, 1]], np.nan),
        ([[1, 2]], np.nan),
    ],
)
def test_icc_worked_by_hand(ratings: list[list[float]], icc: float) -> None:
    assert intraclass_correlation(np.array(ratings, float)).value == pytest.approx(icc, nan_ok=True)


def test_limits_worked_by_hand() -> None:
    found = limits_of_agreement(np.array([1.0, 2.0, 3.0]))  # mean 2, SD 1, t of two degrees of freedom 4.303
    t = 4.302653
    assert (found.bias.value, found.lower.value, found.upper.value) == pytest.approx((2, 0.04, 3.96))
    assert (found.bias.low, found.bias.high) == pytest.approx((2 - t / 3**0.5, 2 + t / 3**0.5))
    half = t * (1 / 3 + 1.96**2 / 4) ** 0.5
    assert (found.upper.low, found.upper.high) == pytest.approx((3.96 - half, 3.96 + half))


def test_the_interval_of_the_bias_is_that_of_a_t_test() -> None:
    differences = np.random.default_rng(0).normal(3, 2, 20)
    found = limits_of_agreement(differences).bias
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(("differences", "bias"), [([], np.nan), ([2.0], 2.0)])
def test_too_few_cases_have_no_limits(differences: list[float], bias: float) -> None:
    found = limits_of_agreement(np.array(differences))
    assert found.bias.value == pytest.approx(bias, nan_ok=True)
    assert np.isnan([found.bias.low, found.lower.value, found.upper.value]).all()


def test_each_training_stands_on_its_own() -> None:
    rows = [
        ("M", None, seed, "here", case, "lung", 3, volume, volume + seed)
        for seed in (0, 1)
        for case, volume in (("a", 10.0), ("b", 20.0), ("c", 30.0))
    ]
    names = ["model", "labelled_cases", "seed", "domain", "case", "label", "axes", "reference", "prediction"]
    found = agreement_of_volumes(pd.DataFrame(rows, columns=names).astype({"labelled_cases": "Int64"}))
    assert found[["seed", "num_cases", "axes", "bias"]].to_numpy().tolist() == [[0, 3, 3, 0.0], [1, 3, 3, 1.0]]
    assert found["icc"].tolist() == pytest.approx([1.0, 200 / (200 + 2 * 1.5 / 3)])  # B = 200, J = 1.5
