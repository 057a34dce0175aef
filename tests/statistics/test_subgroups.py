"""Subgroups: means, tests, corrections and other mixes against numbers worked by hand."""

import numpy as np
import pandas as pd
import pytest
from benchmark_rows import result_rows, together

from nnunet_diffusion_ensemble.statistics.bootstrap import Bootstrap
from nnunet_diffusion_ensemble.statistics.comparison import holm
from nnunet_diffusion_ensemble.statistics.subgroups import (
    compare_models_in_subgroups,
    compare_subgroups,
    describe_subgroups,
    mix_subgroups,
    rank_sum,
)

pytestmark = pytest.mark.filterwarnings("error")
FEW = Bootstrap(replicates=200)


def members(column: str, groups: list[str], domain: str = "here") -> pd.DataFrame:
    """The group of case_0, case_1 and so on, in the order of the groups' names."""
    rows = [(column, group, domain, f"case_{position}") for position, group in enumerate(groups)]
    table = pd.DataFrame(rows, columns=["column", "group", "domain", "case"])
    return table.sort_values("group", kind="stable", ignore_index=True).astype("string")


SEX = members("sex", ["F"] * 6 + ["M"] * 6 + ["X"] * 2)
VALUES = [0.9, 0.8, 0.7, 0.9, 0.8, 0.7, 0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.1, 0.3]


def test_means_are_those_of_the_groups_and_a_group_of_fewer_than_six_patients_is_small() -> None:
    found = describe_subgroups(result_rows(VALUES), SEX, FEW)
    assert found[["column", "group"]].to_numpy().tolist() == [["sex", "F"], ["sex", "M"], ["sex", "X"]]
    assert found["mean"].tolist() == pytest.approx([0.8, 0.55, 0.2])
    assert found["num_patients"].tolist() == [6, 6, 2]
    assert found["is_small"].tolist() == [False, False, True]
    assert ((found["ci_low"] <= found["mean"]) & (found["mean"] <= found["ci_high"])).all()


@pytest.mark.parametrize(("metric", "worst"), [("Dice", "M"), ("HD95", "F")])
def test_the_worst_group_is_that_by_the_direction_of_the_metric_among_those_not_small(metric: str, worst: str) -> None:
    found = describe_subgroups(result_rows(VALUES, metric=metric), SEX, FEW)
    assert found.loc[found["is_worst"], "group"].tolist() == [worst]


def test_no_group_is_worst_without_another_that_is_large_enough() -> None:
    found = describe_subgroups(result_rows([0.5] * 8), members("sex", ["F"] * 6 + ["M"] * 2), FEW)
    assert not found["is_worst"].any()


def test_patients_not_cases_make_a_group_large() -> None:
    patients = [f"p{case // 2}" for case in range(10)]  # five, with two cases each
    (row,) = describe_subgroups(result_rows([0.5] * 10, patients), members("sex", ["F"] * 10), FEW).to_dict("records")
    assert (row["num_cases"], row["num_patients"], row["is_small"]) == (10, 5, True)


@pytest.mark.parametrize(
    ("a", "b", "p", "effect"),
    [
        ([1, 2, 3], [4, 5, 6], 2 / 20, -1.0),  # of 20 ways to draw three of six, one has no larger value, one all
        ([1, 3], [2, 4], 4 / 6, -0.5),  # one of four pairs is larger: of six ways two have at most one
        ([5, 5], [5, 5, 5], 1.0, 0.0),
        ([], [1.0], np.nan, np.nan),
    ],
)
def test_rank_sums_worked_by_hand(a: list[float], b: list[float], p: float, effect: float) -> None:
    assert rank_sum(np.array(a, float), np.array(b, float)) == pytest.approx((p, effect), nan_ok=True)


def test_groups_of_one_model_are_compared_by_patients() -> None:
    values = [0.9, 0.8, 0.85, 0.7, 0.1, 0.2, 0.3]
    patients = ["a", "a", "b", "c", "d", "e", "f"]
    (row,) = compare_subgroups(result_rows(values, patients), members("sex", ["F"] * 4 + ["M"] * 3), FEW).to_dict(
        "records"
    )
    assert (row["group_a"], row["group_b"], row["num_patients_a"], row["num_patients_b"]) == ("F", "M", 3, 3)
    assert row["difference"] == pytest.approx(3.25 / 4 - 0.2)
    assert (row["p_value"], row["effect_size"]) == (pytest.approx(2 / 20), 1.0)
    assert row["worse"] == ""  # not significant


def test_the_worse_group_is_named_if_that_is_significant() -> None:
    values = np.concatenate([np.linspace(0.8, 0.9, 6), np.linspace(0.1, 0.2, 6)])
    sex = members("sex", ["F"] * 6 + ["M"] * 6)
    for metric, worse in (("Dice", "M"), ("HD95", "F")):
        (row,) = compare_subgroups(result_rows(values, metric=metric), sex, FEW).to_dict("records")
        assert row["p_value"] == pytest.approx(2 / 924)  # of 924 ways to draw 6 of 12
        assert row["worse"] == worse


def test_a_patient_in_both_groups_is_in_the_means_but_not_in_the_test() -> None:
    patients = ["a", "b", "c", "a", "e", "f"]
    row = compare_subgroups(result_rows([1, 2, 3, 4, 5, 6], patients), members("view", ["AP"] * 3 + ["PA"] * 3), FEW)
    (row,) = row.to_dict("records")
    assert (row["num_in_both"], row["num_patients_a"], row["num_patients_b"]) == (1, 2, 2)
    assert (row["difference"], row["effect_size"]) == (-3.0, -1.0)
    assert row["p_value"] == pytest.approx(2 / 6)


def test_the_correction_is_for_all_columns_groups_and_models_of_a_domain_label_and_metric() -> None:
    random = np.random.default_rng(0)
    models = [result_rows(random.random(9), model=model, metric=metric) for model in "AB" for metric in ("Dice", "IoU")]
    both = together(members("sex", ["F", "M", "X"] * 3), members("age", ["old"] * 5 + ["young"] * 4))
    differences = compare_subgroups(together(*models), both, FEW)
    assert len(differences) == 2 * 2 * (3 + 1)
    within = compare_models_in_subgroups(together(*models), both, FEW)
    assert len(within) == 2 * 5
    for table, size in ((differences, 8), (within, 5)):
        for _, family in table.groupby("metric"):
            assert len(family) == size
            assert family["p_holm"].to_numpy() == pytest.approx(holm(family["p_value"].to_numpy()))


def test_models_are_compared_on_the_cases_of_a_group() -> None:
    a, b = np.linspace(0.5, 0.6, 12), np.linspace(0.4, 0.48, 12)
    b[6:] = a[6:] + np.linspace(0.1, 0.15, 6)
    tables = [result_rows(values, model=name) for name, values in (("A", a), ("B", b))]
    found = compare_models_in_subgroups(together(*tables), members("sex", ["F"] * 6 + ["M"] * 6), FEW)
    assert found["mean_difference"].tolist() == pytest.approx([(a - b)[:6].mean(), (a - b)[6:].mean()])
    assert found["p_value"].tolist() == pytest.approx([2 / 2**6] * 2)
    assert found["p_holm"].tolist() == pytest.approx([4 / 2**6] * 2)
    assert found["better"].tolist() == ["", ""]  # 0.0625


def test_a_mix_weighs_each_case_by_the_share_of_its_group_over_its_size() -> None:
    values = np.array([0.9, 1.0, 0.8, 0.5])
    (row,) = mix_subgroups(
        result_rows(values), members("sex", ["F", "F", "F", "M"]), {"sex": {"F": 0.25, "M": 0.75}}, FEW
    ).to_dict("records")
    assert row["mean"] == pytest.approx(0.8)
    assert row["mixed_mean"] == pytest.approx(0.25 * 0.9 + 0.75 * 0.5)
    assert row["mixed_mean"] == pytest.approx(np.dot([0.25 / 3, 0.25 / 3, 0.25 / 3, 0.75], values))


def test_the_mix_that_there_is_changes_nothing() -> None:
    values = np.random.default_rng(0).random((2, 12))
    shares = {"sex": {"F": 0.25, "M": 0.75}}
    (row,) = mix_subgroups(result_rows(values), members("sex", ["F"] * 3 + ["M"] * 9), shares).to_dict("records")
    assert row["mixed_mean"] == pytest.approx(row["mean"])
    assert row["ci_low"] < row["mean"] < row["ci_high"]


def test_a_group_of_the_mix_without_a_case_is_named() -> None:
    shares = {"sex": {"F": 0.5, "X": 0.5}}
    (row,) = mix_subgroups(result_rows([0.5] * 4), members("sex", ["F"] * 4), shares, FEW).to_dict("records")
    assert row["without"] == "X" and np.isnan(row["mixed_mean"])


def test_domains_have_groups_of_their_own() -> None:
    tables = together(result_rows([0.1, 0.2]), result_rows([0.6, 0.8], domain="there"))
    found = describe_subgroups(tables, members("sex", ["F", "M"], "there"), FEW)
    assert found[["domain", "group", "mean"]].to_numpy().tolist() == [["there", "F", 0.6], ["there", "M", 0.8]]


def test_without_members_the_tables_are_empty() -> None:
    nothing = SEX.iloc[:0]
    for compute in (describe_subgroups, compare_subgroups, compare_models_in_subgroups):
        assert compute(result_rows([0.5, 0.6]), nothing, FEW).empty
    assert mix_subgroups(result_rows([0.5, 0.6]), nothing, {}, FEW).empty
