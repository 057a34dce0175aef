"""Ranks of models and how stable they are under resampling (Wiesenfarth et al. 2021)."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from nnunet_diffusion_ensemble.statistics.bootstrap import DEFAULT, Bootstrap, DomainBootstrap
from nnunet_diffusion_ensemble.statistics.comparison import common_cases, comparable
from nnunet_diffusion_ensemble.statistics.series import Series, case_means, series_of_domains, tidy

COLUMNS = (
    "labelled_cases",
    "domain",
    "label",
    "metric",
    "model",
    "num_patients",
    "left_out",
    "mean",
    "rank",
    "rank_low",
    "rank_high",
    "share_first",
    "kendall_tau",
)


def rank_models(results: pd.DataFrame, bootstrap: Bootstrap = DEFAULT) -> pd.DataFrame:
    """Ranks of the models with the same number of labelled cases, by domain, label and metric, the best first.

    Models are ranked by their mean over the cases where all of them have a value; `left_out` counts the domain's
    other cases. A model without any value is not ranked, and nothing is where fewer than two models can be.

    - `rank`: 1 is best, by the metric's direction; equal models share the mean of their ranks;
    - `rank_low`, `rank_high`: interval of the rank over bootstrap replicates;
    - `share_first`: share of the replicates in which no other model is better;
    - `kendall_tau`: mean over replicates of Kendall's tau-b between their ranks and these, the same for all models of
      a group; 1 if no replicate changes the order. A replicate whose models are all equal is left out.

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
            ranked = [one for one in group if not np.isnan(one.values).all()]
            if len(ranked) > 1 and common_cases(ranked).any():
                rows += [{"domain": domain.name, **row} for row in _ranks(ranked, resampling)]
    return tidy(rows, COLUMNS)


def _ranks(group: list[Series], resampling: DomainBootstrap) -> list[dict[str, Any]]:
    common = common_cases(group)
    values = [np.where(common, one.values, np.nan) for one in group]
    means = np.array([case_means(one)[common].mean() for one in values])
    replicates = np.stack([resampling.means(of, one.seeds) for of, one in zip(values, group, strict=True)], axis=1)
    replicates = replicates[~np.isnan(replicates).any(axis=1)]
    sign = -1 if group[0].higher_is_better else 1
    ranks, drawn_ranks = rankdata(sign * means), rankdata(sign * replicates, axis=1)
    is_first = rankdata(sign * replicates, axis=1, method="min") == 1
    shared = {
        "labelled_cases": group[0].labelled_cases,
        "label": group[0].label,
        "metric": group[0].metric,
        "num_patients": len(np.unique(resampling.domain.patients[common])),
        "left_out": int((~common).sum()),
        "kendall_tau": mean_tau(ranks, drawn_ranks),
    }
    rows = []
    for i in np.argsort(ranks, kind="stable"):
        low, high = resampling.bootstrap.interval(drawn_ranks[:, i])
        own = {"model": group[i].model, "mean": means[i], "rank": ranks[i], "rank_low": low, "rank_high": high}
        rows.append(shared | own | {"share_first": is_first[:, i].mean() if len(is_first) else np.nan})
    return rows


def mean_tau(ranks: np.ndarray, drawn_ranks: np.ndarray) -> float:
    """Mean of Kendall's tau-b between `ranks` (models,) and each row of `drawn_ranks` (replicates, models).

    Rows whose ranks are all equal are left out; NaN if none is left or `ranks` are all equal.
    """
    i, j = np.triu_indices(len(ranks), k=1)
    order, drawn = np.sign(ranks[i] - ranks[j]), np.sign(drawn_ranks[:, i] - drawn_ranks[:, j])
    norms = np.sqrt(np.sum(order**2) * np.sum(drawn**2, axis=1))
    taus = (drawn @ order)[norms > 0] / norms[norms > 0]
    return float(taus.mean()) if len(taus) else np.nan
