"""Ranks, their intervals, and Kendall's tau against scipy."""

import numpy as np
import pytest
from benchmark_rows import result_rows, together
from scipy import stats

from nnunet_diffusion_ensemble.statistics.bootstrap import Bootstrap
from nnunet_diffusion_ensemble.statistics.ranking import COLUMNS, mean_tau, rank_models

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(("metric", "order"), [("Dice", ["B", "C", "A"]), ("ASSD", ["A", "C", "B"])])
def test_ranks_follow_the_means_and_the_direction_of_the_metric(metric: str, order: list[str]):
    means = {"A": 0.2, "B": 0.9, "C": 0.5}
    spread = np.linspace(-0.01, 0.01, 8)
    ranked = rank_models(together(*(result_rows(m + spread, model=name, metric=metric) for name, m in means.items())))
    assert ranked["model"].tolist() == order
    assert ranked["mean"].tolist() == pytest.approx([means[name] for name in order])
    assert ranked[["rank", "rank_low", "rank_high"]].values.tolist() == [[rank] * 3 for rank in (1, 2, 3)]
    assert ranked["share_first"].tolist() == [1, 0, 0]
    assert ranked["kendall_tau"].tolist() == pytest.approx([1, 1, 1])


def test_equal_models_share_their_ranks():
    values = [0.3, 0.5, 0.7]
    ranked = rank_models(
        together(*(result_rows(of, model=m) for m, of in zip("ABC", (values, [0.1] * 3, values), strict=True)))
    )
    assert ranked[["model", "rank"]].values.tolist() == [["A", 1.5], ["C", 1.5], ["B", 3.0]]
    assert ranked["share_first"].tolist() == [1, 1, 0]


def test_stability_of_two_models_is_the_chance_that_the_mean_difference_keeps_its_sign():
    """Of 25 independent differences, drawn with replacement; where it turns, tau is -1."""
    differences = np.random.default_rng(1).normal(0.1, 0.5, 25)
    ranked = rank_models(
        together(result_rows(differences, model="A"), result_rows(np.zeros(25), model="B")), Bootstrap(20_000)
    )
    keeps = stats.norm.cdf(abs(differences.mean()) / (differences.std() / 5))
    assert ranked["share_first"].iloc[0] == pytest.approx(keeps, abs=0.03)
    assert ranked["kendall_tau"].iloc[0] == pytest.approx(2 * ranked["share_first"].iloc[0] - 1)
    assert ranked["share_first"].sum() == pytest.approx(1)
    assert ranked[["rank_low", "rank_high"]].values.tolist() == [[1, 2], [1, 2]]


def test_tau_is_the_mean_of_that_of_scipy():
    random = np.random.default_rng(0)
    ranks = np.array([1, 2.5, 2.5, 4, 5])
    drawn = stats.rankdata(random.integers(0, 4, (50, 5)), axis=1)
    taus = [stats.kendalltau(ranks, row).statistic for row in drawn]
    assert mean_tau(ranks, drawn) == pytest.approx(np.mean(taus))
    assert mean_tau(ranks, np.vstack([drawn, np.full(5, 3.0)])) == pytest.approx(np.mean(taus))  # no order at all
    assert np.isnan(mean_tau(np.array([1.5, 1.5]), drawn[:, :2]))


def test_models_are_ranked_on_the_cases_that_all_of_them_have():
    a = result_rows([0.9, 0.9, 0.1, 0.1], model="A")
    b = result_rows([0.8, 0.8, np.nan], model="B")
    ranked = rank_models(together(a, b, result_rows([np.nan] * 4, model="C")))
    assert ranked[["model", "mean", "left_out"]].values.tolist() == [["A", 0.9, 2], ["B", 0.8, 2]]
    assert ranked["share_first"].tolist() == [1, 0]


def test_one_patient_gives_ranks_without_intervals():
    ranked = rank_models(together(result_rows([0.9], model="A"), result_rows([0.8], model="B")))
    assert ranked["rank"].tolist() == [1, 2]
    assert ranked[["rank_low", "rank_high", "share_first", "kendall_tau"]].isna().all(axis=None)


def test_only_models_with_the_same_number_of_labelled_cases_are_ranked():
    tables = [
        result_rows([0.1, 0.2], model="A", labelled_cases=1),
        result_rows([0.3, 0.4], model="B", labelled_cases=1),
        result_rows([0.5, 0.6], model="A", labelled_cases=3),
        result_rows([0.7, 0.8], model="B"),
        result_rows([0.7, 0.8], model="C", labelled_cases=1, timestep=50),
    ]
    ranked = rank_models(together(*tables))
    assert ranked[["labelled_cases", "model"]].values.tolist() == [[1, "B"], [1, "A"]]
    nothing = rank_models(tables[0])
    assert nothing.empty
    assert [*nothing.columns] == [*COLUMNS]
