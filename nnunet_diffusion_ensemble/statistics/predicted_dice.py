"""Do intervals of predicted Dice hold, and is a case that is called bad one? Of each training in each domain.

Retention as in the error-retention curves of Malinin et al. 2021 (arXiv:2107.07455), with Dice for the error: cases are
sent to a person in the order of the lower ends of their intervals, and what is left is averaged.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

GROUP = ("model", "labelled_cases", "seed", "domain")
CONFIDENCE = 0.95
COVERAGE_COLUMNS = (
    *GROUP,
    *("num_cases", "num_without", "aimed_at", "promised", "covered", "coverage", "ci_low", "ci_high"),
    *("width", "mean_error", "share_of_oracle"),
)


def interval_coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a training and domain, with COVERAGE_COLUMNS.

    - `coverage` is the share of `num_cases` whose Dice lies in its interval, `ci_low` to `ci_high` its exact binomial
      (Clopper-Pearson) interval, which takes cases as independent; `num_without` further cases have no interval;
    - `aimed_at` and `promised` are those of the calibration;
    - `width` is the mean width of the intervals, `mean_error` the mean of |predicted Dice - Dice|;
    - `share_of_oracle` is that of `Retention`.

    Args:
        rows: table with PREDICTED_DICE_COLUMNS.
    """
    found = []
    for key, group in rows.groupby(list(GROUP), sort=False, dropna=False, observed=True):
        judged = group.dropna(subset="lower")
        inside = (judged["lower"] <= judged["dice"]) & (judged["dice"] <= judged["upper"])
        covered, number = int(inside.sum()), len(judged)
        low, high = _binomial(covered, number)
        found.append(
            dict(zip(GROUP, key, strict=True))
            | {
                "num_cases": number,
                "num_without": len(group) - number,
                "aimed_at": group["coverage"].iloc[0],
                "promised": group["promised"].iloc[0],
                "covered": covered,
                "coverage": covered / number if number else np.nan,
                "ci_low": low,
                "ci_high": high,
                "width": (judged["upper"] - judged["lower"]).mean(),
                "mean_error": (judged["predicted_dice"] - judged["dice"]).abs().mean(),
                "share_of_oracle": retention(group).share_of_oracle,
            }
        )
    return pd.DataFrame(found, columns=list(COVERAGE_COLUMNS)).astype({"labelled_cases": "Int64"})


def _binomial(covered: int, number: int) -> tuple[float, float]:
    if not number:
        return np.nan, np.nan
    found = binomtest(covered, number).proportion_ci(CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Retention:
    """Mean Dice of the cases that are left when the first k are sent to a person, for k = 0, ..., n - 1.

    Attributes:
        judged: in the order of the lower ends, cases without an interval first.
        oracle: in the order of Dice itself, the best there can be.
        random: in no order: the mean of all.
    """

    judged: np.ndarray
    oracle: np.ndarray
    random: float

    @property
    def shares(self) -> np.ndarray:
        """Of the cases, that are sent."""
        return np.arange(len(self.judged)) / len(self.judged)

    @property
    def share_of_oracle(self) -> float:
        """Area between the curve and random order, as a share of that between the oracle and random order: 1 is as good
        as knowing Dice, 0 no better than chance, below 0 worse. NaN if all cases have the same Dice."""
        possible = float((self.oracle - self.random).mean())
        return float((self.judged - self.random).mean()) / possible if possible > 1e-12 else np.nan


def retention(rows: pd.DataFrame) -> Retention:
    """The curves of the cases of one training in one domain; of equal lower ends the earlier row is sent first."""
    dice = rows["dice"].to_numpy(float)
    order = np.argsort(rows["lower"].fillna(-1).to_numpy(float), kind="stable")
    return Retention(_mean_of_rest(dice[order]), _mean_of_rest(np.sort(dice)), float(dice.mean()))


def _mean_of_rest(dice: np.ndarray) -> np.ndarray:
    """Of all, of all but the first, ..., of the last."""
    return np.cumsum(dice[::-1])[::-1] / np.arange(len(dice), 0, -1)
