"""The domain gap: how much a model's mean falls from a source domain to a target domain."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from nnunet_diffusion_ensemble.statistics.bootstrap import DEFAULT, Bootstrap, DomainBootstrap
from nnunet_diffusion_ensemble.statistics.series import Series, case_means, series_of_domains, tidy

COLUMNS = (
    "model",
    "labelled_cases",
    "label",
    "metric",
    "source",
    "target",
    "num_seeds",
    "source_mean",
    "target_mean",
    "gap",
    "ci_low",
    "ci_high",
)


def domain_gaps(results: pd.DataFrame, roles: Mapping[str, str], bootstrap: Bootstrap = DEFAULT) -> pd.DataFrame:
    """Source less target, of each pair of them, model, number of labelled cases, label and metric.

    `source_mean` and `target_mean` are over cases of the mean over the seeds that were tested on both, `num_seeds`;
    `gap` is their difference. For its interval patients are drawn in each domain on their own, seeds for both together,
    since the same training is tested on both. Where lower is better, a negative gap is the loss.

    Args:
        results: table with RESULT_COLUMNS; single timesteps are left out.
        roles: from the name of each domain to `source` or `target`.
        bootstrap: how to resample.

    Raises:
        ValueError: results are not as they must be, or a domain has no role.
    """
    domains = {domain.name: DomainBootstrap(bootstrap, domain) for domain in series_of_domains(results)}
    unknown = [name for name in domains if roles.get(name) not in ("source", "target")]
    if unknown:
        raise ValueError(f"Every domain must be source or target; {', '.join(unknown)} is neither.")
    of_role = {role: [domains[name] for name in domains if roles[name] == role] for role in ("source", "target")}
    rows = [row for source in of_role["source"] for target in of_role["target"] for row in _gaps(source, target)]
    return tidy(rows, COLUMNS)


def _gaps(source: DomainBootstrap, target: DomainBootstrap) -> list[dict[str, Any]]:
    of_target = {_key(one): one for one in target.domain.series}
    pairs = [(one, of_target[_key(one)]) for one in source.domain.series if _key(one) in of_target]
    names = {"source": source.domain.name, "target": target.domain.name}
    return [names | _gap(source, target, *pair) for pair in pairs]


def _key(series: Series) -> tuple[str, int | None, str, str]:
    return series.model, series.labelled_cases, series.label, series.metric


def _gap(source: DomainBootstrap, target: DomainBootstrap, of_source: Series, of_target: Series) -> dict[str, Any]:
    seeds = tuple(seed for seed in of_source.seeds if seed in of_target.seeds)
    values = [one.values[[one.seeds.index(seed) for seed in seeds]] for one in (of_source, of_target)]
    row: dict[str, Any] = dict(zip(("model", "labelled_cases", "label", "metric"), _key(of_source), strict=True))
    if not seeds:
        return row | {"num_seeds": 0}
    low, high = source.bootstrap.interval(source.means(values[0], seeds) - target.means(values[1], seeds))
    means = [_mean(one) for one in values]
    row |= {"num_seeds": len(seeds), "source_mean": means[0], "target_mean": means[1]}
    return row | {"gap": means[0] - means[1], "ci_low": low, "ci_high": high}


def _mean(values: np.ndarray) -> float:
    cases = case_means(values)
    defined = cases[~np.isnan(cases)]
    return float(defined.mean()) if len(defined) else np.nan
