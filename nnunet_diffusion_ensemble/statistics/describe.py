"""Describing statistics of each model in each domain, with bootstrap intervals of the mean."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from nnunet_diffusion_ensemble.statistics.bootstrap import DEFAULT, Bootstrap, DomainBootstrap
from nnunet_diffusion_ensemble.statistics.series import Series, case_means, series_of_domains, tidy

GROUP_COLUMNS = ("model", "labelled_cases", "domain", "label", "metric")
COUNT_COLUMNS = ("num_cases", "num_patients", "num_seeds", "num_undefined", "num_missing")
VALUE_COLUMNS = ("mean", "sd", "median", "q25", "q75", "worst5", "ci_low", "ci_high")
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def describe(results: pd.DataFrame, by: Sequence[str] = (), bootstrap: Bootstrap = DEFAULT) -> pd.DataFrame:
    """One row a model, number of labelled cases, domain, label, metric and what `by` names.

    The observation is the case: the mean over its seeds. All statistics are over the cases with a value:

    - `mean` and its interval `ci_low`, `ci_high` over patients and, where there are several, seeds;
    - `sd` between cases (n - 1), `median`, `q25`, `q75`, and `worst5`: the 5th percentile, or the 95th where lower is
      better;
    - `num_cases` and `num_patients` that were tested, `num_seeds`, `num_undefined` values among those of all seeds, and
      `num_missing`: pairs of a seed and one of the domain's cases, those of any model, without a result.

    The interval is NaN if fewer than two patients have a value, `sd` if fewer than two cases, the rest if none.

    Args:
        results: table with RESULT_COLUMNS. Single timesteps are left out unless `by` has `timestep`; then the model's
            own prediction is the row without one.
        by: columns to separate further, `timestep` or `seed`.
        bootstrap: how to resample.

    Raises:
        ValueError: results or columns are not as they must be.
    """
    rows = []
    for domain in series_of_domains(results, by):
        resampling = DomainBootstrap(bootstrap, domain)
        for series in domain.series:
            key = (series.model, series.labelled_cases, domain.name, series.label, series.metric)
            low, high = bootstrap.interval(resampling.means(series.values, series.seeds))
            rows.append(
                dict(zip(GROUP_COLUMNS, key, strict=True))
                | dict(zip(by, series.by, strict=True))
                | count_values(series, domain.patients)
                | spread_of_cases(series)
                | {"ci_low": low, "ci_high": high}
            )
    return tidy(rows, (*GROUP_COLUMNS, *by, *COUNT_COLUMNS, *VALUE_COLUMNS))


def count_values(series: Series, patients: np.ndarray) -> dict[str, int]:
    """COUNT_COLUMNS of a series, whose cases have these `patients` (cases,)."""
    tested_cases = series.tested.any(axis=0)
    return {
        "num_cases": int(tested_cases.sum()),
        "num_patients": len(np.unique(patients[tested_cases])),
        "num_seeds": len(series.seeds),
        "num_undefined": int((series.tested & np.isnan(series.values)).sum()),
        "num_missing": int((~series.tested).sum()),
    }


def spread_of_cases(series: Series) -> dict[str, Any]:
    """VALUE_COLUMNS but the interval, over cases; nothing if none has a value."""
    cases = case_means(series.values)
    cases = cases[~np.isnan(cases)]
    if not len(cases):
        return {}
    p5, q25, median, q75, p95 = np.quantile(cases, _QUANTILES)
    return {
        "mean": cases.mean(),
        "sd": cases.std(ddof=1) if len(cases) > 1 else np.nan,
        "median": median,
        "q25": q25,
        "q75": q75,
        "worst5": p5 if series.higher_is_better else p95,
    }
