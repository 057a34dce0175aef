"""Describing statistics against hand-worked numbers, and results that are not whole."""

import numpy as np
import pandas as pd
import pytest
from benchmark_rows import result_rows, together

from nnunet_diffusion_ensemble.statistics.bootstrap import Bootstrap
from nnunet_diffusion_ensemble.statistics.describe import COUNT_COLUMNS, GROUP_COLUMNS, VALUE_COLUMNS, describe

pytestmark = pytest.mark.filterwarnings("error")


def only_row(results: pd.DataFrame) -> pd.Series:
    table = describe(results)
    assert len(table) == 1
    return table.iloc[0]


@pytest.mark.parametrize(("metric", "worst5"), [("NSD", 1), ("HD95", 19)])
def test_statistics_of_the_numbers_0_to_20_are_worked_by_hand(metric: str, worst5: float):
    row = only_row(result_rows(np.arange(21.0), metric=metric))
    assert (row["mean"], row["median"], row["q25"], row["q75"]) == (10, 10, 5, 15)
    assert row["sd"] ** 2 == pytest.approx(21 * 22 / 12)
    assert row["worst5"] == pytest.approx(worst5)


def test_a_case_is_one_observation_the_mean_over_its_seeds():
    row = only_row(result_rows([[0.2, 0.6], [0.4, 1.0]]))
    assert row["mean"] == pytest.approx(0.55)
    assert row["sd"] == pytest.approx(0.5 / np.sqrt(2))  # between 0.3 and 0.8
    assert row[["num_cases", "num_patients", "num_seeds"]].tolist() == [2, 2, 2]


def test_interval_is_that_of_the_replicates():
    values = np.random.default_rng(0).random(40)
    row = only_row(result_rows(values))
    expected = values.mean() + 1.96 * values.std() / np.sqrt(40) * np.array([-1, 1])  # near normal by then
    assert row[["ci_low", "ci_high"]].tolist() == pytest.approx(expected.tolist(), abs=0.01)
    narrow = describe(result_rows(values), bootstrap=Bootstrap(confidence=0.5)).iloc[0]
    assert row["ci_low"] < narrow["ci_low"] < values.mean() < narrow["ci_high"] < row["ci_high"]


def test_undefined_values_are_counted_and_left_out():
    row = only_row(result_rows([[0.2, np.nan, np.nan], [0.4, 0.9, np.nan]], ["a", "b", "b"]))
    assert row["mean"] == pytest.approx((0.3 + 0.9) / 2)
    assert row[[*COUNT_COLUMNS]].tolist() == [3, 2, 2, 3, 0]


def test_missing_results_are_counted():
    results = together(result_rows([[0.2, 0.4, 0.6]] * 2), result_rows([[0.3, 0.5, 0.7]] * 2, model="LEDM"))
    incomplete = results.query("not (model == 'LEDM' and case == 'case_2' and seed == 1)")
    without_case = incomplete.query("not (model == 'LEDM' and case == 'case_1')")
    assert describe(results)["num_missing"].tolist() == [0, 0]
    assert describe(incomplete)["num_missing"].tolist() == [0, 1]
    assert describe(without_case)["num_missing"].tolist() == [0, 3]
    assert describe(without_case)["num_cases"].tolist() == [3, 2]
    assert describe(without_case)["num_patients"].tolist() == [3, 2]
    assert describe(without_case)["num_undefined"].tolist() == [0, 0]


def test_one_value_has_a_mean_and_no_spread_and_none_has_nothing():
    one, none = only_row(result_rows([0.5])), only_row(result_rows([np.nan]))
    values = one[[*VALUE_COLUMNS]].astype(float)
    assert values[values.notna()].to_dict() == dict.fromkeys(("mean", "median", "q25", "q75", "worst5"), 0.5)
    assert none[[*VALUE_COLUMNS]].isna().all()
    assert (none["num_cases"], none["num_undefined"]) == (1, 1)


def test_models_numbers_of_cases_domains_labels_and_metrics_are_separate_and_keep_their_order():
    changes = [{}, {"model": "A"}, {"labelled_cases": 3}, {"label": "heart"}, {"metric": "HD95"}, {"domain": "a"}]
    table = describe(together(*(result_rows([0.1 * i, 0.1 * i], **change) for i, change in enumerate(changes))))
    assert table["mean"].tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert table["labelled_cases"].tolist() == [pd.NA, pd.NA, 3, pd.NA, pd.NA, pd.NA]
    assert table.loc[5, [*GROUP_COLUMNS]].drop("labelled_cases").tolist() == ["TEDM", "a", "lung", "Dice"]


def test_single_timesteps_and_seeds_are_described_only_if_asked_for():
    results = together(result_rows([[0.5, 0.6], [0.7, 0.8]]), result_rows([[0.1, 0.2]] * 2, timestep=50))
    assert describe(results)["mean"].tolist() == pytest.approx([0.65])
    by_timestep = describe(results, by=("timestep",))
    assert by_timestep["timestep"].tolist() == [pd.NA, 50]
    assert by_timestep["mean"].tolist() == pytest.approx([0.65, 0.15])
    by_seed = describe(results, by=("seed",))
    assert (by_seed["seed"].tolist(), by_seed["num_seeds"].tolist()) == ([0, 1], [1, 1])
    assert by_seed["mean"].tolist() == pytest.approx([0.55, 0.75])


def test_a_case_without_a_patient_is_its_own():
    results = result_rows([0.2, 0.4, 0.6], [None, None, "a"])
    assert only_row(results)["num_patients"] == 3


def test_no_results_give_a_table_without_rows():
    results = result_rows([0.5])
    table = describe(results[results["model"] == "none"])
    assert [*table.columns] == [*GROUP_COLUMNS, *COUNT_COLUMNS, *VALUE_COLUMNS]
    assert table.empty


def test_the_order_of_rows_does_not_matter():
    results = result_rows(np.random.default_rng(0).random((3, 10)), list("aabbccddee"))
    shuffled = results.sample(frac=1, random_state=0)
    values = describe(shuffled)[[*VALUE_COLUMNS]].to_numpy()
    assert values == pytest.approx(describe(results)[[*VALUE_COLUMNS]].to_numpy())


@pytest.mark.parametrize(
    ("results", "by", "message"),
    [
        (result_rows([0.5]).drop(columns="value"), (), "there is no value"),
        (result_rows([0.5], metric="dice"), (), "Metrics must be of Dice, IoU.*got dice"),
        (result_rows([0.5]), ("case",), "separated by seed, timestep, got case"),
        (result_rows([np.inf], metric="HD95"), (), "must be finite"),
        (together(result_rows([0.5]), result_rows([0.6])), (), "two values of one case: TEDM, here, lung, Dice"),
        (
            together(result_rows([0.5], ["a"]), result_rows([0.6], ["b"], model="LEDM")),
            (),
            "In here, the case case_0 is of two patients",
        ),
    ],
)
def test_results_that_are_not_as_they_must_be_are_refused(results: pd.DataFrame, by: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        describe(results, by)
