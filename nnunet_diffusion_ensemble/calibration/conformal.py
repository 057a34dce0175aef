"""Intervals whose coverage is promised: jackknife+ (Barber et al. 2021, arXiv:1905.02928) and split conformal.

Both are one formula. Each labelled case has a centre, the prediction of a fit without it, and a residual, how far that
fit was off in the case. Where all fits are the same and have seen none of these cases, it is split conformal.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

Method = Literal["split", "jackknife+"]
ROUNDING = 1e-9  # 10 x 0.9 is 9, whatever binary fractions make of it


def interval(centres: Sequence[float], residuals: Sequence[float], coverage: float) -> tuple[float, float]:
    """The interval of a new case.

    Args:
        centres: prediction of the new case by the fit without each labelled one.
        residuals: |value - prediction without it| of each labelled case, in the same order.
        coverage: aimed at, 1 - alpha, between 0 and 1.

    Returns:
        Its ends: with k = ceil((n + 1) coverage), the k-th largest of centre - residual and the k-th smallest of
        centre + residual. From minus to plus infinity if there are too few cases: k above n.

    Raises:
        ValueError: there are not as many residuals as centres.
    """
    if len(centres) != len(residuals):
        raise ValueError(f"Each centre needs a residual, got {len(centres)} and {len(residuals)}.")
    number, rank = len(residuals), _rank(len(residuals), coverage)
    if rank > number:
        return -math.inf, math.inf
    lower = np.sort(np.asarray(centres) - np.asarray(residuals))[number - rank]
    upper = np.sort(np.asarray(centres) + np.asarray(residuals))[rank - 1]
    return float(lower), float(upper)


def cases_needed(coverage: float) -> int:
    """The fewest residuals that give a finite interval."""
    return math.ceil(coverage / (1 - coverage) - ROUNDING)


def largest_coverage(num_cases: int) -> float:
    """The largest coverage that so many residuals give a finite interval for."""
    return num_cases / (num_cases + 1)


def promised_coverage(coverage: float, method: Method) -> float:
    """What is proved for exchangeable cases: the coverage itself, 1 - alpha, or for jackknife+ 1 - 2 alpha, at least 0.

    In practice jackknife+ comes to about 1 - alpha as well.
    """
    return coverage if method == "split" else max(0.0, 1 - 2 * (1 - coverage))


def _rank(number: int, coverage: float) -> int:
    return math.ceil((number + 1) * coverage - ROUNDING)
