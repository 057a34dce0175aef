"""Intervals against hand-worked cases, and their coverage in simulated data against the formula."""

import math

import numpy as np
import pytest

from nnunet_diffusion_ensemble.calibration.conformal import (
    cases_needed,
    interval,
    largest_coverage,
    promised_coverage,
)


def test_jackknife_plus_of_four_cases_worked_by_hand() -> None:
    # k = ceil(5 x 0.6) = 3: the third largest of 9, 6, 7, 8 and the third smallest of 11, 14, 15, 10.
    centres, residuals = [10.0, 10.0, 11.0, 9.0], [1.0, 4.0, 4.0, 1.0]
    assert interval(centres, residuals, 0.6) == (7.0, 14.0)


def test_split_conformal_is_the_prediction_and_a_quantile_of_the_residuals() -> None:
    # n = 9, coverage 0.8: the ceil(10 x 0.8) = 8th smallest residual.
    residuals = [0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6]
    assert interval([2.0] * 9, residuals, 0.8) == pytest.approx((1.2, 2.8))


def test_too_few_cases_have_an_interval_without_end() -> None:
    assert interval([1.0] * 8, [0.1] * 8, 0.9) == (-math.inf, math.inf)
    assert interval([1.0] * 9, [0.1] * 9, 0.9) == pytest.approx((0.9, 1.1))


@pytest.mark.parametrize(("coverage", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_cases_needed_are_those_at_which_the_rank_is_no_larger_than_their_number(coverage: float, needed: int) -> None:
    assert cases_needed(coverage) == needed
    assert largest_coverage(needed) == pytest.approx(coverage)


def test_promises_are_those_of_the_theorems() -> None:
    assert promised_coverage(0.9, "split") == 0.9
    assert promised_coverage(0.9, "jackknife+") == pytest.approx(0.8)
    assert promised_coverage(0.4, "jackknife+") == 0


def test_split_conformal_covers_exactly_as_often_as_its_rank_says() -> None:
    """For continuous exchangeable residuals the chance is k / (n + 1), here 16 / 20, whatever their distribution."""
    random = np.random.default_rng(0)
    number, trials = 19, 4000
    drawn = random.standard_cauchy((trials, number + 1))
    covered = 0
    for *labelled, new in drawn:
        lower, upper = interval([0.0] * number, np.abs(labelled), 0.8)
        covered += lower <= new <= upper
    assert covered / trials == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / trials))


def test_jackknife_plus_of_a_mean_covers_at_least_what_is_promised() -> None:
    random = np.random.default_rng(1)
    number, trials = 9, 2000
    covered = 0
    for *labelled, new in random.standard_exponential((trials, number + 1)):
        values = np.array(labelled)
        without = (values.sum() - values) / (number - 1)
        lower, upper = interval(without, np.abs(values - without), 0.9)
        covered += lower <= new <= upper
    assert covered / trials > promised_coverage(0.9, "jackknife+")
    assert covered / trials == pytest.approx(0.9, abs=0.04)  # in practice


def test_each_centre_needs_a_residual() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        interval([1.0, 2.0], [0.1], 0.5)
