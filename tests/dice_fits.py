"""A fit of Dice that can be worked out by hand."""

import math

from nnunet_diffusion_ensemble.calibration.dice_line import Score
from nnunet_diffusion_ensemble.calibration.predicted_dice import DicePrediction


def unit_line(score: Score = "expected_dice", factor: float = 2.25, num_cases: int = 2) -> DicePrediction:
    """The odds of Dice are those of the score; the interval divides and multiplies them by the factor.

    So a score of 0.9, odds of 9, gives a Dice between odds of 4 and 20.25.
    """
    line = (0.0, 1.0)
    return DicePrediction(
        scores=(score,),
        method="split",
        coverage=0.5,
        line=line,
        lines_without=(line,),
        residuals=(math.log(factor),),
        num_cases=num_cases,
    )
