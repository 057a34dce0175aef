"""Dice of a case from the scores that `nnunet-diffusion predict` gives it: a line that never slopes the wrong way.

Few labelled cases bear few coefficients. So the line is drawn between logits of Dice and logits or logarithms of
scores, where it is about straight; each slope is zero or says that a better score means a better Dice; and all are
shrunk (ridge) as by one further case that shows no connection.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from scipy.optimize import nnls
from scipy.special import expit, logit

MARGIN = 1e-3  # Dice below it and above 1 - it count as these: their logits have no end
SMALLEST_SCORE = 1e-6
PENALTY = 1.0
# Columns of `uncertainty.csv`. Those of Dice are near 1 in a good case, the others near 0.
Score = Literal[
    "expected_dice", "timestep_dice", "entropy", "entropy_foreground", "mutual_information", "denoising_error"
]
SCORES: tuple[Score, ...] = get_args(Score)
DICE_SCORES = ("expected_dice", "timestep_dice")
LEAST_CASES = 4  # for a fit of all but one


def transformed(scores: Mapping[str, float | None], names: Sequence[str]) -> np.ndarray | None:
    """Scores of a case as the line takes them, (names,), larger is better; None if it lacks one."""
    values = [scores.get(name) for name in names]
    found = [_transformed(name, value) for name, value in zip(names, values, strict=True) if value is not None]
    return np.array(found) if len(found) == len(names) else None


def _transformed(name: str, value: float) -> float:
    return to_logit(value) if name in DICE_SCORES else -float(np.log(max(value, SMALLEST_SCORE)))


def to_logit(dice: float) -> float:
    """Logit of a Dice between 0 and 1."""
    return float(logit(min(max(dice, MARGIN), 1 - MARGIN)))


def to_dice(value: float) -> float:
    """The Dice of a logit; what lies at the margin or beyond is 0 or 1, so that an interval covers these."""
    dice = float(expit(value))
    return 0.0 if dice <= MARGIN * (1 + 1e-9) else 1.0 if dice >= 1 - MARGIN * (1 + 1e-9) else dice


def fit_line(scores: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The line through cases.

    Args:
        scores: (cases, scores), from `transformed`.
        logits: (cases,), of their Dice.

    Returns:
        (1 + scores,): height at zero, and a slope of at least zero for each score.
    """
    mean, scale = scores.mean(0), scores.std(0)
    standard = (scores - mean) / np.where(scale > 0, scale, 1)
    number = scores.shape[1]
    penalised = np.vstack([standard, np.sqrt(PENALTY) * np.eye(number)])
    slopes, _ = nnls(penalised, np.concatenate([logits - logits.mean(), np.zeros(number)]))
    slopes = slopes / np.where(scale > 0, scale, 1)
    return np.concatenate([[logits.mean() - slopes @ mean], slopes])


def at(lines: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Logits of Dice by lines (..., 1 + scores) at the scores (scores,) of a case."""
    return np.asarray(lines)[..., 0] + np.asarray(lines)[..., 1:] @ scores
