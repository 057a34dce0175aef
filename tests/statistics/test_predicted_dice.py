"""Coverage against SciPy's formula and curves of retention worked by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from nnunet_diffusion_ensemble.benchmark.results import PREDICTED_DICE_COLUMNS
from nnunet_diffusion_ensemble.statistics.predicted_dice import interval_coverage, retention


def rows(dice: list[float], lower: list[float | None], upper: float = 1.0, **named: Any) -> pd.DataFrame:
    names = {"model": "A", "labelled_cases": 6, "seed": 0, "domain": "Home", "coverage": 0.9, "promised": 0.8} | named
    table = pd.DataFrame({"dice": dice, "lower": lower}, dtype=float)
    table = table.assign(case=[f"c{i}" for i in range(len(dice))], patient="p", **names)
    known = table["lower"].notna()
    table["upper"] = np.where(known, upper, np.nan)
    table["predicted_dice"] = np.where(known, (table["lower"] + upper) / 2, np.nan)
    return table[list(PREDICTED_DICE_COLUMNS)]


def test_coverage_counts_cases_inside_their_interval_ends_included() -> None:
    found = interval_coverage(rows([0.9, 0.8, 0.7, 0.6], [0.8, 0.8, 0.8, 0.5])).iloc[0]
    assert (found["covered"], found["num_cases"], found["coverage"]) == (3, 4, 0.75)
    assert (found["aimed_at"], found["promised"]) == (0.9, 0.8)
    assert found["width"] == pytest.approx((0.2 * 3 + 0.5) / 4)
    assert found["mean_error"] == pytest.approx((0.0 + 0.1 + 0.2 + 0.15) / 4)


def test_its_interval_is_that_of_clopper_and_pearson() -> None:
    found = interval_coverage(rows([0.9] * 18 + [0.1] * 2, [0.5] * 20)).iloc[0]
    assert found["ci_low"] == pytest.approx(beta.ppf(0.025, 18, 3))
    assert found["ci_high"] == pytest.approx(beta.ppf(0.975, 19, 2))


def test_cases_without_an_interval_are_counted_apart() -> None:
    found = interval_coverage(rows([0.9, 0.0], [0.8, None])).iloc[0]
    assert (found["num_cases"], found["num_without"], found["coverage"]) == (1, 1, 1.0)
    nothing = interval_coverage(rows([0.9], [None])).iloc[0]
    assert nothing["num_cases"] == 0 and np.isnan(nothing["coverage"])


def test_each_training_and_domain_has_a_row_also_without_a_number_of_labelled_cases() -> None:
    parts = [rows([0.9], [0.5], seed=seed, domain=domain) for seed in (0, 1) for domain in ("Home", "Away")]
    found = interval_coverage(pd.concat([*parts, rows([0.9], [0.5], model="B", labelled_cases=None)]))
    assert len(found) == 5 and found["labelled_cases"].isna().sum() == 1
    assert interval_coverage(rows([], [])).empty


def test_retention_worked_by_hand() -> None:
    # Sent in the order 0.9, 0.4, 0.8, 0.7: left are 0.7, then 1.9 / 3, then 0.75, then 0.7.
    curve = retention(rows([0.4, 0.7, 0.8, 0.9], [0.2, 0.5, 0.3, 0.1]))
    assert curve.judged == pytest.approx([0.7, 1.9 / 3, 0.75, 0.7])
    assert curve.oracle == pytest.approx([0.7, 0.8, 0.85, 0.9])
    assert curve.random == pytest.approx(0.7)
    assert curve.shares.tolist() == [0, 0.25, 0.5, 0.75]
    assert curve.share_of_oracle == pytest.approx((-0.2 / 3 + 0.05) / (0.1 + 0.15 + 0.2))


def test_the_true_order_is_as_good_as_the_oracle_and_the_reverse_is_worse_than_chance() -> None:
    dice = [0.4, 0.7, 0.8, 0.9]
    assert retention(rows(dice, dice)).share_of_oracle == pytest.approx(1)
    assert retention(rows(dice, [0.9, 0.8, 0.7, 0.4])).share_of_oracle < 0


def test_a_case_without_an_interval_is_sent_first() -> None:
    assert retention(rows([0.9, 0.5, 0.8], [0.1, None, 0.2])).judged[1] == pytest.approx(0.85)


def test_where_all_cases_are_alike_no_order_gains() -> None:
    assert np.isnan(retention(rows([0.8, 0.8], [0.1, 0.2])).share_of_oracle)
