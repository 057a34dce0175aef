"""Paired comparison: the test, its correction and its effect size against hand-worked tables and scipy."""

import numpy as np
import pandas as pd
import pytest
from benchmark_rows import result_rows, together
from scipy import stats

from nnunet_diffusion_ensemble.statistics import comparison
from nnunet_diffusion_ensemble.statistics.comparison import (
    COLUMNS,
    compare_models,
    holm,
    rank_biserial,
    signed_rank_p,
)

pytestmark = pytest.mark.filterwarnings("error")


def only_row(*tables: pd.DataFrame) -> pd.Series:
    compared = compare_models(together(*tables))
    assert len(compared) == 1
    return compared.iloc[0]


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # times 3, 1, 2, 4; 0.04 rises to the 0.06 before it
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.9, 0.7], [1.0, 1.0]),  # no probability is 1.4
        ([0.02], [0.02]),
        ([0.02, np.nan, 0.03], [0.04, np.nan, 0.04]),
        ([np.nan], [np.nan]),
        ([], []),
    ],
)
def test_holm_of_hand_worked_families(p_values: list[float], corrected: list[float]):
    assert holm(np.array(p_values, float)) == pytest.approx(corrected, nan_ok=True)


@pytest.mark.parametrize(
    ("differences", "p", "effect"),
    [
        ([1, 2, 3, 4, 5], 2 / 2**5, 1.0),
        ([-1, -2, -3, -4, -5, -6], 2 / 2**6, -1.0),
        ([1, 2, -3, 4], 2 * 5 / 2**4, 0.4),  # negative ranks 3: of 16 signs five have 3 or less: -, 1, 2, 3, 1+2
        ([0, 1, 2, 0, -3, 4], 2 * 5 / 2**4, 0.4),
        ([0, 0, 0], 1.0, 0.0),
        ([], np.nan, np.nan),
    ],
)
def test_signed_ranks_worked_by_hand(differences: list[float], p: float, effect: float):
    assert signed_rank_p(np.array(differences, float)) == pytest.approx(p, nan_ok=True)
    assert rank_biserial(np.array(differences, float)) == pytest.approx(effect, nan_ok=True)


def test_the_effect_of_ties_is_that_of_their_mean_rank():
    # Sizes 1, 1, 2, 2, 2 have the ranks 1.5, 1.5, 4, 4, 4: in favour 1.5 + 4 + 4, against 1.5 + 4.
    assert rank_biserial(np.array([1.0, -1.0, 2.0, 2.0, -2.0])) == pytest.approx((9.5 - 5.5) / 15)


def test_patients_are_compared_by_the_mean_over_seeds_and_cases():
    random = np.random.default_rng(0)
    a, b = random.random((2, 24)), random.random((3, 24))
    patients = [f"patient_{case // 2}" for case in range(24)]
    row = only_row(result_rows(a, patients, model="A"), result_rows(b, patients, model="B"))
    of_patients = (a.mean(axis=0) - b.mean(axis=0)).reshape(12, 2).mean(axis=1)
    assert row["num_patients"] == 12
    assert row["p_value"] == pytest.approx(stats.wilcoxon(of_patients).pvalue)
    assert row["mean_difference"] == pytest.approx(a.mean() - b.mean())
    assert row["ci_low"] < row["mean_difference"] < row["ci_high"]


def test_the_interval_of_a_difference_is_paired():
    values = np.random.default_rng(0).random((2, 20)).round(6)
    row = only_row(result_rows(values + 0.01, model="A"), result_rows(values, model="B"))
    assert row[["mean_difference", "ci_low", "ci_high"]].tolist() == pytest.approx([0.01] * 3)


@pytest.mark.parametrize(("metric", "better"), [("Dice", "A"), ("HD95", "B")])
def test_better_follows_the_direction_of_the_metric(metric: str, better: str):
    values = np.linspace(0.1, 0.8, 10)
    lead = np.linspace(0.01, 0.02, 10)
    a, b = (result_rows(values + gain, model=name, metric=metric) for name, gain in (("A", lead), ("B", 0)))
    assert only_row(a, b)["better"] == better
    turned = only_row(b, a)
    assert (turned["better"], turned["effect_size"]) == (better, -1.0)


def test_equal_models_and_few_patients_have_no_better_one():
    equal = only_row(result_rows([0.1, 0.5, 0.9], model="A"), result_rows([0.1, 0.5, 0.9], model="B"))
    assert (equal["p_value"], equal["effect_size"], equal["better"]) == (1.0, 0.0, "")
    five = only_row(result_rows([0.91, 0.92, 0.93, 0.94, 0.95], model="A"), result_rows([0.1] * 5, model="B"))
    assert (five["p_value"], five["better"]) == (pytest.approx(2 / 2**5), "")


@pytest.mark.parametrize(("alpha", "better"), [(2 / 2**5, ""), (2.1 / 2**5, "A")])
def test_a_p_value_of_alpha_itself_makes_no_model_better(alpha: float, better: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comparison, "ALPHA", alpha)
    values = np.linspace(0.1, 0.5, 5)
    row = only_row(result_rows(values + np.linspace(0.1, 0.2, 5), model="A"), result_rows(values, model="B"))
    assert (row["p_holm"], row["better"]) == (2 / 2**5, better)


def test_only_cases_where_both_models_have_a_value_count():
    a = result_rows([[0.2, np.nan, 0.6, 0.9], [0.4, np.nan, np.nan, 0.9]], model="A")
    b = result_rows([0.1, 0.1, 0.1], model="B")  # case_3 is missing
    row = only_row(a, b)
    assert row["mean_difference"] == pytest.approx((0.2 + 0.5) / 2)
    assert (row["num_patients"], row["left_out"]) == (2, 2)


def test_the_interval_of_a_difference_is_of_the_common_cases():
    values = np.random.default_rng(0).random(20).round(6)
    a, b = values + 0.01, values.copy()
    a[3], b[[7, 11]] = np.nan, np.nan
    row = only_row(result_rows(a, model="A"), result_rows(b, model="B"))
    assert row[["mean_difference", "ci_low", "ci_high"]].tolist() == pytest.approx([0.01] * 3)


def test_models_without_a_common_case_are_compared_in_nothing():
    row = only_row(result_rows([0.5, np.nan], model="A"), result_rows([np.nan, 0.5], model="B"))
    numbers = ["mean_difference", "ci_low", "ci_high", "p_value", "p_holm", "effect_size"]
    assert row[numbers].isna().all()
    assert (row["num_patients"], row["left_out"], row["better"]) == (0, 2, "")


def test_a_family_is_all_pairs_and_numbers_of_labelled_cases_of_a_domain_label_and_metric():
    random = np.random.default_rng(0)
    changes = [{}, {"domain": "there"}, {"metric": "IoU"}, {"label": "heart"}]
    tables = [
        result_rows(random.random(8), model=model, labelled_cases=number, **change)
        for model in ("A", "B", "C")
        for number in (1, 3)
        for change in changes
    ]
    compared = compare_models(together(*tables, result_rows(random.random(8), model="D", timestep=50)))
    assert len(compared) == 3 * 2 * 4
    assert (compared["model_a"] < compared["model_b"]).all()
    for _, family in compared.groupby(["domain", "label", "metric"]):
        assert len(family) == 6
        assert family["p_holm"].to_numpy() == pytest.approx(holm(family["p_value"].to_numpy()))


def test_models_of_different_numbers_of_labelled_cases_are_not_compared():
    compared = compare_models(
        together(result_rows([0.5, 0.6], model="A", labelled_cases=3), result_rows([0.5, 0.6], model="B"))
    )
    assert compared.empty
    assert [*compared.columns] == [*COLUMNS]
