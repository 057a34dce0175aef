"""Agreement of two measurements: limits of agreement (Bland & Altman 1999) and intraclass correlation.

The latter after Shrout & Fleiss 1979.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nnunet_diffusion_ensemble.statistics.bootstrap import DEFAULT

KEYS = ("model", "labelled_cases", "seed", "domain", "label")
Z = 1.96  # of the limits, as Bland and Altman have it


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; NaN where there are too few observations."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan

    def named(self, name: str) -> dict[str, float]:
        """As columns of a table."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True)
class Limits:
    """Of the differences of two measurements."""

    bias: Estimate = Estimate()
    lower: Estimate = Estimate()
    upper: Estimate = Estimate()


def limits_of_agreement(differences: np.ndarray, confidence: float = DEFAULT.confidence) -> Limits:
    """Mean of the differences (cases,) and mean -+ 1.96 SD, with intervals by Student's t.

    The standard error of the mean is s / sqrt(n), that of a limit s sqrt(1 / n + 1.96^2 / (2 (n - 1))). NaN if there
    are fewer than two.
    """
    n = len(differences)
    if n < 2:
        return Limits(Estimate(float(differences[0])) if n else Estimate())
    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    t = float(stats.t.ppf((1 + confidence) / 2, n - 1))
    of_mean, of_limit = t * sd / np.sqrt(n), t * sd * np.sqrt(1 / n + Z**2 / (2 * (n - 1)))

    def around(value: float, half: float) -> Estimate:
        return Estimate(value, float(value - half), float(value + half))

    return Limits(around(mean, of_mean), around(mean - Z * sd, of_limit), around(mean + Z * sd, of_limit))


def intraclass_correlation(ratings: np.ndarray, confidence: float = DEFAULT.confidence) -> Estimate:
    """ICC(2,1): two-way random, absolute agreement, single measurement; its interval by the F distribution.

    (B - E) / (B + (k - 1) E + k (J - E) / n) of the mean squares between targets, between judges and of the rest. 1 if
    all judges agree in everything; NaN with fewer than two targets, or if nothing differs at all.

    Args:
        ratings: (targets, judges), without NaN.
        confidence: of the interval.
    """
    n, k = ratings.shape
    if n < 2 or k < 2:
        return Estimate()
    targets, judges, mean = ratings.mean(axis=1), ratings.mean(axis=0), ratings.mean()
    between = k * np.sum((targets - mean) ** 2) / (n - 1)
    of_judges = n * np.sum((judges - mean) ** 2) / (k - 1)
    rest = np.sum((ratings - targets[:, None] - judges + mean) ** 2) / ((n - 1) * (k - 1))
    whole = between + (k - 1) * rest + k * (of_judges - rest) / n
    if whole <= 0:
        return Estimate()
    icc = float((between - rest) / whole)
    if rest <= np.finfo(float).eps * between:  # F divides by it
        return Estimate(icc)
    share = n * (1 + (k - 1) * icc) - k * icc
    ratio = k * icc * of_judges / rest
    freedom = (k - 1) * (n - 1) * (ratio + share) ** 2 / ((n - 1) * ratio**2 + share**2)
    tail = (1 + confidence) / 2
    below, above = stats.f.ppf(tail, n - 1, freedom), stats.f.ppf(tail, freedom, n - 1)
    others = k * of_judges + (k * n - k - n) * rest
    low = n * (between - below * rest) / (below * others + n * between)
    high = n * (above * between - rest) / (others + n * above * between)
    return Estimate(icc, float(low), float(high))


def agreement_of_volumes(volumes: pd.DataFrame) -> pd.DataFrame:
    """Prediction less reference: limits of agreement and ICC(2,1) of each model, number of labelled cases, seed, domain
    and label, `num_cases` and `axes`.

    Args:
        volumes: table with VOLUME_COLUMNS.
    """
    rows = []
    for key, cases in volumes.groupby(list(KEYS), sort=False, dropna=False, observed=True):
        pairs = cases[["prediction", "reference"]].to_numpy(float)
        limits = limits_of_agreement(pairs[:, 0] - pairs[:, 1])
        row: dict[str, Any] = dict(zip(KEYS, key, strict=True))
        row |= {"axes": int(cases["axes"].max()), "num_cases": len(cases)}
        row |= limits.bias.named("bias") | limits.lower.named("lower_limit") | limits.upper.named("upper_limit")
        rows.append(row | intraclass_correlation(pairs).named("icc"))
    table = pd.DataFrame(rows, columns=None if rows else list(KEYS))
    return table.astype({"labelled_cases": "Int64"})
