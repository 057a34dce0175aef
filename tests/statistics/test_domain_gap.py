"""The domain gap: its mean, what is drawn together and what apart, and results that are not whole."""

import numpy as np
import pytest
from benchmark_rows import result_rows, together

from nnunet_diffusion_ensemble.statistics.bootstrap import Bootstrap
from nnunet_diffusion_ensemble.statistics.domain_gap import COLUMNS, domain_gaps

pytestmark = pytest.mark.filterwarnings("error")
ROLES = {"here": "source", "there": "target"}
INTERVAL = ["ci_low", "ci_high"]


def test_gap_is_the_source_mean_less_the_target_mean_of_each_pair():
    domains = {"here": [0.8, 1.0], "near": [0.7, 0.9], "there": [0.5, 0.6], "far": [0.1, 0.2]}
    results = together(*(result_rows(values, domain=name) for name, values in domains.items()))
    gaps = domain_gaps(results, {"here": "source", "near": "source", "there": "target", "far": "target"})
    assert gaps[["source", "target"]].values.tolist() == [[a, b] for a in ("here", "near") for b in ("there", "far")]
    assert gaps["gap"].tolist() == pytest.approx([0.35, 0.75, 0.25, 0.65])
    assert gaps[["source_mean", "target_mean"]].iloc[0].tolist() == pytest.approx([0.9, 0.55])


def test_seeds_are_drawn_together_for_both_domains():
    of_seed = np.array([[0.1], [0.2], [0.4]])
    results = together(result_rows(0.5 + of_seed + np.zeros(6)), result_rows(of_seed + np.zeros(9), domain="there"))
    assert domain_gaps(results, ROLES)[INTERVAL].iloc[0].tolist() == pytest.approx([0.5, 0.5])


def test_patients_of_both_domains_are_drawn_apart():
    """Variances of independent means add up; were the same patients drawn for both, nothing would vary here."""
    values = np.random.default_rng(0).random(60)
    gaps = domain_gaps(together(result_rows(values), result_rows(values, domain="there")), ROLES, Bootstrap(10_000))
    half_width = 1.96 * np.sqrt(2 * values.var() / 60)
    assert gaps[INTERVAL].iloc[0].tolist() == pytest.approx([-half_width, half_width], rel=0.06)


def test_only_seeds_that_were_tested_on_both_count():
    results = together(result_rows([[0.8, 1.0], [0.2, 0.2]]), result_rows([0.5, 0.7], domain="there"))
    row = domain_gaps(results, ROLES).iloc[0]
    assert (row["num_seeds"], row["gap"]) == (1, pytest.approx(0.3))
    none = domain_gaps(together(result_rows([0.8, 1.0]), result_rows([0.5], domain="there", seed=7)), ROLES).iloc[0]
    assert none["num_seeds"] == 0
    assert none[["source_mean", "target_mean", "gap", *INTERVAL]].isna().all()


def test_models_labels_and_metrics_that_one_domain_does_not_have_have_no_gap():
    changes = [{}, {"model": "LEDM"}, {"labelled_cases": 3}, {"label": "heart"}, {"metric": "IoU"}, {"timestep": 50}]
    sources = [result_rows([0.8, 0.9], **change) for change in changes]
    assert len(domain_gaps(together(*sources, result_rows([0.5, 0.6], domain="there")), ROLES)) == 1
    targets = [result_rows([0.5, 0.6], domain="there", **change) for change in changes]
    assert len(domain_gaps(together(*sources, *targets), ROLES)) == 5


def test_undefined_values_leave_a_gap_undefined_or_are_left_out():
    results = together(
        result_rows([0.8, np.nan, 0.6]),
        result_rows([0.5, 0.3], domain="there"),
        result_rows([0.8, 0.6], metric="HD95"),
        result_rows([np.nan], domain="there", metric="HD95"),
    )
    gaps = domain_gaps(results, ROLES)["gap"]
    assert gaps.tolist() == pytest.approx([0.3, np.nan], nan_ok=True)


def test_sources_alone_have_no_gap_and_a_domain_without_a_role_is_refused():
    gaps = domain_gaps(result_rows([0.8, 0.9]), ROLES)
    assert gaps.empty
    assert [*gaps.columns] == [*COLUMNS]
    with pytest.raises(ValueError, match="must be source or target; elsewhere is neither"):
        domain_gaps(result_rows([0.8], domain="elsewhere"), ROLES)
