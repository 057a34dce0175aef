"""Paired comparison of models: Wilcoxon's signed-rank test, Holm's correction, and the size of the effect."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata, wilcoxon

from nnunet_diffusion_ensemble.evaluation.metrics import METRICS
from nnunet_diffusion_ensemble.statistics.bootstrap import DEFAULT, Bootstrap, DomainBootstrap
from nnunet_diffusion_ensemble.statistics.series import Series, case_means, series_of_domains, tidy

ALPHA = 0.05
COLUMNS = (
    "labelled_cases",
    "domain",
    "label",
    "metric",
    "model_a",
    "model_b",
    "num_patients",
    "left_out",
    "mean_difference",
    "ci_low",
    "ci_high",
    "p_value",
    "p_holm",
    "effect_size",
    "better",
)
FAMILY = ["domain", "label", "metric"]


def compare_models(results: pd.DataFrame, bootstrap: Bootstrap = DEFAULT) -> pd.DataFrame:
    """All pairs of models with the same number of labelled cases, in each domain, label and metric.

    Both models are compared on the cases where both have a value; `left_out` counts the domain's other cases.

    - `mean_difference`: a less b, mean over cases of the mean over seeds, with its bootstrap interval;
    - `p_value`: two-sided, of Wilcoxon's signed-rank test over patients (mean of a patient's cases); patients without
      a difference are left out, as Wilcoxon did, and if none has one, p is 1. NaN if there is no common case;
    - `p_holm`: corrected for all pairs and numbers of labelled cases of one domain, label and metric;
    - `effect_size`: matched-pairs rank-biserial correlation, 1 if a has the larger value in every patient, -1 if b has;
    - `better`: the model that is better by the effect's sign and the metric's direction, empty if `p_holm` is ALPHA
      or more.

    Args:
        results: table with RESULT_COLUMNS; single timesteps are left out.
        bootstrap: how to resample.

    Raises:
        ValueError: results are not as they must be.
    """
    rows = []
    for domain in series_of_domains(results):
        resampling = DomainBootstrap(bootstrap, domain)
        for group in comparable(domain.series):
            rows += [{"domain": domain.name, **_pair(a, b, resampling)} for a, b in combinations(group, 2)]
    return corrected(tidy(rows, COLUMNS))


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Compared models with `p_holm` for all rows of a FAMILY, and `better`, which follows from it."""
    p_holm = table.groupby(FAMILY, sort=False)["p_value"].transform(lambda p: holm(p.to_numpy()))
    table = table.assign(p_holm=p_holm)
    better = [_better(*of_pair) for of_pair in zip(*(table[name] for name in _OF_BETTER), strict=True)]
    return table.assign(better=better).astype({"better": "string"})


def comparable(series: Iterable[Series]) -> list[list[Series]]:
    """The series of one label, metric and number of labelled cases, of each of them."""
    groups: dict[tuple[str, str, int | None], list[Series]] = defaultdict(list)
    for one in series:
        groups[one.label, one.metric, one.labelled_cases].append(one)
    return list(groups.values())


def common_cases(group: Iterable[Series]) -> np.ndarray:
    """The cases where each of the models has a value of some seed, as booleans (cases,)."""
    return np.all([~np.isnan(one.values).all(axis=0) for one in group], axis=0)


def _pair(a: Series, b: Series, resampling: DomainBootstrap) -> dict[str, Any]:
    common = common_cases((a, b))
    values_a, values_b = (np.where(common, one.values, np.nan) for one in (a, b))
    low, high = resampling.bootstrap.interval(resampling.means(values_a, a.seeds) - resampling.means(values_b, b.seeds))
    differences = (case_means(values_a) - case_means(values_b))[common]
    of_patients = patient_means(differences, resampling.domain.patients[common])
    return {
        "labelled_cases": a.labelled_cases,
        "label": a.label,
        "metric": a.metric,
        "model_a": a.model,
        "model_b": b.model,
        "num_patients": len(of_patients),
        "left_out": int((~common).sum()),
        "mean_difference": differences.mean() if len(differences) else np.nan,
        "ci_low": low,
        "ci_high": high,
        "p_value": signed_rank_p(of_patients),
        "effect_size": rank_biserial(of_patients),
    }


def patient_means(values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Means of each patient's cases, (patients,), of `values` (cases,) and the numbers of their patients (cases,)."""
    _, positions, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return np.bincount(positions, values, minlength=len(counts)) / counts


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; 1 if all differences are 0, NaN if there are none.

    scipy chooses: exact for up to 50 differences without ties, else by permutation or the normal distribution.
    """
    if not len(differences):
        return np.nan
    other = differences[differences != 0]
    return float(wilcoxon(other, method="auto").pvalue) if len(other) else 1.0


def rank_biserial(differences: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014), from -1 to 1; 0 if all differences are 0, NaN if none.

    The share of the sum of ranks that is of positive differences less the share of negative ones.
    """
    if not len(differences):
        return np.nan
    other = differences[differences != 0]
    ranks = rankdata(np.abs(other))
    return float(np.sum(np.sign(other) * ranks) / ranks.sum()) if len(other) else 0.0


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values corrected for their number (Holm 1979); those that are NaN stay so and do not count."""
    order = np.argsort(p_values)  # NaN come last
    factors = np.maximum(np.count_nonzero(~np.isnan(p_values)) - np.arange(len(order)), 1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return corrected


_OF_BETTER = ("model_a", "model_b", "metric", "p_holm", "effect_size")


def _better(a: str, b: str, metric: str, p_holm: float, effect_size: float) -> str:
    if not p_holm < ALPHA:
        return ""
    return a if (effect_size > 0) == METRICS[metric].higher_is_better else b
