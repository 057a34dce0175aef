"""Resampling of patients and seeds: its mean, spread, pairing and coverage, and what has no interval."""

import numpy as np
import pytest
from benchmark_rows import result_rows
from scipy import stats

from nnunet_diffusion_ensemble.statistics.bootstrap import Bootstrap, DomainBootstrap, resampled_means
from nnunet_diffusion_ensemble.statistics.series import series_of_domains

pytestmark = pytest.mark.filterwarnings("error")


def replicates(values: np.ndarray, patients: list[str] | None = None, **options: int) -> np.ndarray:
    (domain,) = series_of_domains(result_rows(values, patients))
    (series,) = domain.series
    return DomainBootstrap(Bootstrap(**options), domain).means(series.values, series.seeds)


def mean_of_drawn(values: np.ndarray, seed_counts: np.ndarray, case_counts: np.ndarray) -> float:
    """The definition: copies of rows and columns, mean over seeds, then over cases."""
    drawn = np.repeat(np.repeat(values, seed_counts, axis=0), case_counts, axis=1)
    means = [column[~np.isnan(column)].mean() for column in drawn.T if not np.isnan(column).all()]
    return np.mean(means) if means else np.nan


@pytest.mark.parametrize("undefined", [0, 0.2, 0.7])
def test_a_replicate_is_the_mean_of_copies_of_what_was_drawn(undefined: float):
    random = np.random.default_rng(0)
    values = random.random((3, 7))
    values[random.random(values.shape) < undefined] = np.nan
    seeds, cases = random.multinomial(3, [1 / 3] * 3, 50), random.multinomial(7, [1 / 7] * 7, 50)
    expected = [mean_of_drawn(values, *counts) for counts in zip(seeds, cases, strict=True)]
    np.testing.assert_allclose(resampled_means(values, seeds.astype(float), cases.astype(float)), expected)


def test_replicates_without_a_defined_value_are_left_out_of_the_interval():
    values = np.array([[0.5, 0.5, np.nan], [np.nan] * 3])
    means = replicates(values)
    assert np.isnan(means).any()
    assert Bootstrap().interval(means) == (0.5, 0.5)


def test_variance_is_that_of_both_axes_and_their_interaction():
    """Independent multinomial counts of rows and columns: main effects / n^2 each, interaction / (n m)^2."""
    values = np.random.default_rng(1).random((4, 9))
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    interaction = values - rows[:, None] - columns + values.mean()
    variance = rows.var() / 4 + columns.var() / 9 + interaction.var() / (4 * 9)
    means = replicates(values, replicates=40_000)
    assert means.var() == pytest.approx(variance, rel=0.03)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * np.sqrt(variance / 40_000))


def test_one_seed_gives_the_percentile_interval_of_scipy():
    values = np.random.default_rng(2).gamma(2, size=30)
    reference = stats.bootstrap((values,), np.mean, n_resamples=40_000, method="percentile", random_state=0, batch=1000)
    found = Bootstrap().interval(replicates(values, replicates=40_000))
    assert found == pytest.approx(reference.confidence_interval, abs=0.06 * reference.standard_error)  # 3 sigma of both


def test_the_cases_of_a_patient_stay_together():
    # Within each patient the cases are opposite, so that every drawn set of patients has the mean 0.5.
    values = [0.0, 1.0, 0.1, 0.9, 0.4, 0.6]
    assert Bootstrap().interval(replicates(values, ["a", "a", "b", "b", "c", "c"])) == pytest.approx((0.5, 0.5))
    assert np.diff(Bootstrap().interval(replicates(values))) > 0.2


def test_draws_are_the_same_for_all_models_and_the_same_in_each_run_and_differ_between_domains():
    bootstrap = Bootstrap(replicates=50)
    values = np.random.default_rng(3).random((2, 8))
    np.testing.assert_allclose(replicates(values + 1) - replicates(values), 1)
    assert np.array_equal(bootstrap.patient_counts("here", 9), bootstrap.patient_counts("here", 9))
    assert not np.array_equal(bootstrap.patient_counts("here", 9), bootstrap.patient_counts("there", 9))
    assert not np.array_equal(bootstrap.patient_counts("here", 9), Bootstrap(50, seed=1).patient_counts("here", 9))
    assert (bootstrap.patient_counts("here", 9).sum(axis=1) == 9).all()


def test_models_of_other_seeds_have_draws_of_their_own():
    bootstrap = Bootstrap(replicates=50)
    assert np.array_equal(bootstrap.seed_counts((0, 1, 2)), bootstrap.seed_counts((0, 1, 2)))
    assert not np.array_equal(bootstrap.seed_counts((0, 1, 2)), bootstrap.seed_counts((3, 4, 5)))


def test_a_case_without_a_value_changes_nothing_about_who_is_drawn():
    values, bootstrap = np.random.default_rng(5).random((2, 6)), Bootstrap(replicates=60)
    values[:, [0, 3]] = np.nan
    patients = np.array([0, 1, 1, 2, 3, 3])
    seeds, cases = bootstrap.seed_counts(range(2)), bootstrap.patient_counts("here", 4)[:, patients]
    expected = [mean_of_drawn(values, *counts) for counts in zip(seeds.astype(int), cases.astype(int), strict=True)]
    found = replicates(values, ["a", "b", "b", "c", "d", "d"], replicates=60)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("values", "patients", "interval"),
    [
        ([0.5], None, (np.nan, np.nan)),
        ([[0.5], [0.7]], None, (np.nan, np.nan)),
        ([0.5, 0.9], ["a", "a"], (np.nan, np.nan)),
        ([0.5, np.nan], None, (np.nan, np.nan)),
        ([np.nan, np.nan], None, (np.nan, np.nan)),
        ([0.5, 0.5, 0.5], None, (0.5, 0.5)),
    ],
)
def test_too_few_patients_have_no_interval_and_equal_ones_one_of_no_width(values, patients, interval):
    found = Bootstrap().interval(replicates(values, patients))
    assert found == pytest.approx(interval, nan_ok=True)


def test_intervals_cover_the_truth_where_seeds_and_cases_both_vary():
    bootstrap, random = Bootstrap(replicates=400), np.random.default_rng(4)
    seed_counts, case_counts = bootstrap.seed_counts(range(20)), bootstrap.patient_counts("here", 40)
    covered = {"both": 0, "cases": 0}
    for _ in range(300):
        values = 2 * random.normal(size=(20, 1)) + 2 * random.normal(size=40) + random.normal(size=(20, 40))
        for drawn, counts in (("both", seed_counts), ("cases", np.ones_like(seed_counts))):
            low, high = bootstrap.interval(resampled_means(values, counts, case_counts))
            covered[drawn] += low <= 0 <= high
    assert 0.90 <= covered["both"] / 300 <= 0.98
    assert covered["cases"] / 300 < 0.85  # to draw cases alone is not enough
