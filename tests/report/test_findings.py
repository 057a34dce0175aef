"""The sentences of the summary, from numbers made up for them."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from nnunet_diffusion_ensemble.evaluation.metrics import METRICS
from nnunet_diffusion_ensemble.report.findings import Statistics, caveats, findings, leaders
from nnunet_diffusion_ensemble.report.view import View

DESCRIBED = ["model", "labelled_cases", "domain", "label", "mean", "ci_low", "ci_high"]
COMPARED = ["labelled_cases", "domain", "label", "model_a", "model_b", "mean_difference", "ci_low", "ci_high"]
COMPARED += ["p_holm", "better"]
GAPS = ["model", "labelled_cases", "label", "source", "target", "gap", "ci_low", "ci_high"]


def make_view(metric: str = "Dice", seeds: int = 3) -> View:
    """A view of two domains, of which only what the sentences use is there."""
    model = SimpleNamespace(name="A", labelled_cases=6, seeds=dict.fromkeys(range(seeds)))
    domains = (SimpleNamespace(name="Home", role="source"), SimpleNamespace(name="Away", role="target"))
    results: Any = SimpleNamespace(spec=SimpleNamespace(models=(model,), domains=domains, unit="mm"))
    return View(results, METRICS[metric], ("lung",), (), 6, pd.DataFrame())


def make_statistics(
    described: list[tuple[Any, ...]], compared: list[tuple[Any, ...]] = (), gaps: list[tuple[Any, ...]] = ()
) -> Statistics:
    """Of 40 cases of 30 patients and three seeds."""
    types = {"labelled_cases": "Int64"}
    counts = {"num_cases": 40, "num_patients": 30, "num_seeds": 3}
    return Statistics(
        pd.DataFrame(described, columns=DESCRIBED).astype(types).assign(**counts),
        pd.DataFrame(list(compared), columns=COMPARED).astype(types),
        pd.DataFrame(list(gaps), columns=GAPS).astype(types),
    )


A = ("A", 6, "Away", "lung", 0.93, 0.92, 0.94)
B = ("B", 6, "Away", "lung", 0.90, 0.88, 0.92)
C = ("C", 6, "Away", "lung", 0.80, 0.78, 0.82)


def pair(first: str, second: str, p: float, better: str, difference: float = 0.03) -> tuple[Any, ...]:
    return (6, "Away", "lung", first, second, difference, difference - 0.01, difference + 0.01, p, better)


@pytest.mark.parametrize("compared", [pair("A", "B", 0.0002, "A"), pair("B", "A", 0.0002, "A", -0.03)])
def test_a_significant_lead_is_told_with_its_interval_whichever_way_the_pair_was_compared(
    compared: tuple[Any, ...],
) -> None:
    (sentence,) = findings(make_view(), make_statistics([B, A], [compared]))
    assert sentence == (
        "In Away (target; 40 cases of 30 patients, 3 seeds, trained on 6 labelled), A has the best mean Dice for lung: "
        "0.930 (95% interval 0.920 to 0.940). The next is B with 0.900; the difference of 0.030 (95% interval 0.020 to "
        "0.040) is significant (p <0.001)."
    )


def test_a_lead_that_is_not_significant_does_not_say_who_is_better() -> None:
    (sentence,) = findings(make_view(), make_statistics([A, B], [pair("A", "B", 0.05, "")]))
    assert sentence.endswith("is not significant (p = 0.050): these results do not say which of the two is better.")


def test_a_higher_mean_that_most_cases_contradict_is_told() -> None:
    (sentence,) = findings(make_view(), make_statistics([A, B], [pair("A", "B", 0.01, "B")]))
    assert "due to few cases: by the ranks of all of them B is better (p = 0.010)" in sentence


def test_with_three_models_it_is_told_how_many_the_best_leaves_behind() -> None:
    compared = [pair("A", "B", 0.2, ""), pair("A", "C", 0.01, "A")]
    (sentence,) = findings(make_view(), make_statistics([A, B, C], compared))
    assert sentence.endswith("It is significantly better than 1 of the 2 other models.")
    compared[0] = pair("A", "B", 0.02, "A")
    (sentence,) = findings(make_view(), make_statistics([A, B, C], compared))
    assert sentence.endswith("It is significantly better than both other models.")
    undecided = [pair("A", "B", 0.2, ""), pair("A", "C", 0.3, "")]
    (sentence,) = findings(make_view(), make_statistics([A, B, C], undecided))
    assert sentence.endswith("It is significantly better than none of the 2 other models.")


def test_where_lower_is_better_the_lowest_leads_and_the_lead_is_a_positive_length() -> None:
    (sentence,) = findings(make_view("HD95"), make_statistics([A, B], [pair("A", "B", 0.01, "B")]))
    assert "B has the best mean 95th percentile of the Hausdorff distance for lung: 0.90 mm" in sentence
    assert "The next is A with 0.93 mm; the difference of 0.03 mm (95% interval 0.02 mm to 0.04 mm)" in sentence


def test_one_model_alone_is_not_called_the_best() -> None:
    (sentence,) = findings(make_view(), make_statistics([A]))
    assert sentence.endswith("A has a mean Dice of 0.930 (95% interval 0.920 to 0.940) for lung.")


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        ((0.05, 0.03, 0.07), "From Home to Away, the mean Dice of A falls by 0.050 (95% interval 0.030 to 0.070)."),
        ((-0.05, -0.07, -0.03), "From Home to Away, the mean Dice of A rises by 0.050 (95% interval 0.030 to 0.070)."),
        ((0.01, -0.02, 0.04), "changes by no more than chance could explain"),
    ],
)
def test_the_domain_gap_falls_rises_or_is_not_clear(gap: tuple[float, float, float], expected: str) -> None:
    *_, sentence = findings(make_view(), make_statistics([A], gaps=[("A", 6, "lung", "Home", "Away", *gap)]))
    assert expected in sentence


def test_the_model_that_loses_least_is_named() -> None:
    gaps = [("A", 6, "lung", "Home", "Away", 0.05, 0.04, 0.06), ("B", 6, "lung", "Home", "Away", 0.02, 0.01, 0.03)]
    *_, sentence = findings(make_view(), make_statistics([A, B], [pair("A", "B", 0.01, "A")], gaps))
    assert "the mean Dice of A, the best there, falls" in sentence
    assert sentence.endswith("Least is lost by B (source less target 0.020).")


def test_the_leader_of_each_number_of_labelled_cases_has_its_p_value() -> None:
    one = [("A", 1, "Away", "lung", 0.5, 0.4, 0.6), ("B", 1, "Away", "lung", 0.7, 0.6, 0.8)]
    compared = [pair("A", "B", 0.01, "A"), (1, *pair("A", "B", 0.04, "B", -0.2)[1:])]
    table = leaders(make_view(), make_statistics([A, B, *one], compared))
    assert table[["labelled_cases", "best", "best_mean", "second", "p_holm"]].to_numpy().tolist() == [
        [1, "B", 0.7, "A", 0.04],
        [6, "A", 0.93, "B", 0.01],
    ]


def test_a_single_seed_is_said_to_tell_nothing_about_another_training() -> None:
    assert "trained once" in next(caveats(make_view(seeds=1)))
    assert "trained 3 times each" in next(caveats(make_view(seeds=3)))
