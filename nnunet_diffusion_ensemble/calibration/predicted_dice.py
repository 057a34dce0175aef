"""The Dice of a case without a label, with an interval: fitted on labelled cases, kept as numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from nnunet_diffusion_ensemble.calibration.conformal import (
    Method,
    cases_needed,
    interval,
    largest_coverage,
    promised_coverage,
)
from nnunet_diffusion_ensemble.calibration.dice_line import LEAST_CASES, Score, at, fit_line, to_dice, to_logit
from nnunet_diffusion_ensemble.calibration.dice_line import transformed as as_line_takes_them
from nnunet_diffusion_ensemble.system.mistakes import must_be
from nnunet_diffusion_ensemble.system.settings import Count, Listed, Once, Settings

LEAST_SPLIT = 20  # cases in each half
SPLIT_SEED = 0
Coverage = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class DiceInterval:
    """What is to be expected of a case: its Dice, mean over labels, and the ends of the interval, from 0 to 1."""

    predicted: float
    lower: float
    upper: float


class DicePrediction(Settings):
    """A fitted line with what its interval needs. Lines: height at zero and a slope for each score, of logits."""

    scores: Annotated[Listed[Score], Field(min_length=1), Once]
    method: Method
    coverage: Coverage
    line: Listed[float]
    lines_without: Annotated[Listed[Listed[float]], Field(min_length=1)]
    residuals: Listed[Annotated[float, Field(ge=0)]]
    num_cases: Count

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if any(len(line) != 1 + len(self.scores) for line in (self.line, *self.lines_without)):
            raise must_be("a prediction whose lines have a number for each score and one more")
        if len(self.lines_without) not in (1, len(self.residuals)):
            raise must_be("a prediction with one line, or one for each residual, in lines_without")
        return self

    @property
    def promised(self) -> float:
        """The coverage that is proved for cases exchangeable with those of the fit."""
        return promised_coverage(self.coverage, self.method)

    def of_case(self, scores: Mapping[str, float | None]) -> DiceInterval | None:
        """Prediction and interval of a case; None if it lacks a score, as a case without foreground may."""
        values = as_line_takes_them(scores, self.scores)
        if values is None:
            return None
        centres = np.broadcast_to(at(np.array(self.lines_without), values), len(self.residuals))
        ends = interval(centres.tolist(), self.residuals, self.coverage)
        predicted = float(at(np.array(self.line), values))
        # Centres are other fits than the prediction and may in theory all lie beside it.
        return DiceInterval(to_dice(predicted), *(to_dice(end) for end in ends))


def method_for(num_cases: int, coverage: float, wanted: Method | None = None) -> Method:
    """Split conformal where each half has cases enough for it, else jackknife+, unless one is wanted.

    Raises:
        ValueError: there are too few cases for a finite interval. The message says how many it takes.
    """
    of_half = num_cases // 2
    method = wanted or ("split" if of_half >= max(LEAST_SPLIT, cases_needed(coverage)) else "jackknife+")
    usable = of_half if method == "split" else num_cases
    if num_cases < LEAST_CASES or usable < cases_needed(coverage):
        needed = max(cases_needed(coverage) * (2 if method == "split" else 1), LEAST_CASES)
        most = largest_coverage(usable)
        less = f" Or ask for less: they give at most --coverage {_down(most)}." if num_cases >= LEAST_CASES else ""
        raise ValueError(
            f"{num_cases} labelled case(s) that the training has not seen are too few for an interval of "
            f"{coverage:.0%} coverage by {method}, which takes {needed}: it would reach from 0 to 1. Name more of them "
            f"with --images and --references.{less} Or fit the temperature alone: --temperature-only."
        )
    return method


def _down(share: float) -> str:
    """Two digits, rounded down, so that what is told works."""
    return f"{np.floor(share * 100 + 1e-9) / 100:.2f}"


def fit_dice(
    scores: Sequence[Mapping[str, float | None]],
    dice: Sequence[float],
    names: Sequence[Score],
    coverage: float,
    method: Method | None = None,
) -> DicePrediction:
    """Fits the line and the interval.

    Args:
        scores: of each labelled case, by name; none lacks one of `names`.
        dice: of each, between 0 and 1.
        names: of `SCORES`, those that the line uses.
        coverage: of the interval, between 0 and 1.
        method: None chooses, see `method_for`.

    Raises:
        ValueError: there are too few cases.
    """
    method = method_for(len(dice), coverage, method)
    values = np.array([as_line_takes_them(one, names) for one in scores])
    logits = np.array([to_logit(one) for one in dice])
    line, lines_without, residuals = _split(values, logits) if method == "split" else _jackknife(values, logits)
    return DicePrediction(
        scores=tuple(names),
        method=method,
        coverage=coverage,
        line=tuple(line.tolist()),
        lines_without=tuple(tuple(one) for one in lines_without.tolist()),
        residuals=tuple(residuals.tolist()),
        num_cases=len(dice),
    )


def _jackknife(values: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The line of all cases; of each the line without it, and how far that is off in it."""
    others = ~np.eye(len(logits), dtype=bool)
    without = np.array([fit_line(values[rest], logits[rest]) for rest in others])
    off = [abs(at(line, value) - logit) for line, value, logit in zip(without, values, logits, strict=True)]
    return fit_line(values, logits), without, np.array(off)


def _split(values: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The line of one half drawn at random, and how far it is off in each case of the other."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(logits))
    fitted, left = np.split(order, [len(logits) - len(logits) // 2])
    line = fit_line(values[fitted], logits[fitted])
    return line, line[None], np.array([abs(at(line, values[i]) - logits[i]) for i in left])
