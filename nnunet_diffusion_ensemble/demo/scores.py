"""Scores of the demo: Dice from nnU-Net's evaluation beside that of a predictor that never looks at the image."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from nnunet_diffusion_ensemble.data.pixels import read_mask


@dataclass(frozen=True)
class HospitalScores:
    """Dice of each case of one hospital: of the prediction, and of the mean shape."""

    hospital: str
    dice: dict[str, float]
    mean_shape_dice: dict[str, float]

    def to_json(self) -> dict[str, object]:
        return {
            "cases": len(self.dice),
            "mean_dice": fmean(self.dice.values()),
            "mean_dice_of_mean_shape": fmean(self.mean_shape_dice.values()),
            "dice": self.dice,
            "dice_of_mean_shape": self.mean_shape_dice,
        }


def read_foreground(file: Path) -> np.ndarray:
    """A mask as booleans (height, width): everything but 0 is foreground."""
    return read_mask(file) > 0


def mean_shape(masks: Sequence[np.ndarray]) -> np.ndarray:
    """The pixels that are foreground in at least half of the masks; all of the same shape."""
    return np.mean(np.stack(masks), axis=0) >= 0.5


def dice_of_masks(reference: np.ndarray, prediction: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of two boolean masks; NaN, as in nnU-Net, where both are empty."""
    total = int(reference.sum()) + int(prediction.sum())
    return 2 * int((reference & prediction).sum()) / total if total else math.nan


def read_dice(summary_file: Path, label: int = 1) -> dict[str, float]:
    """Dice of a label for each case from the summary.json of nnU-Net's evaluation."""
    cases = json.loads(summary_file.read_text())["metric_per_case"]
    return {Path(case["prediction_file"]).stem: float(case["metrics"][str(label)]["Dice"]) for case in cases}


def score(hospital: str, summary_file: Path, references: Path, training_masks: Sequence[Path]) -> HospitalScores:
    """The scores of one hospital.

    Args:
        hospital: its name.
        summary_file: summary.json of nnU-Net's evaluation.
        references: folder of the masks that it was evaluated against.
        training_masks: the masks that the mean shape is made of.
    """
    shape = mean_shape([read_foreground(file) for file in training_masks])
    trivial = {file.stem: dice_of_masks(read_foreground(file), shape) for file in sorted(references.glob("*.png"))}
    return HospitalScores(hospital, read_dice(summary_file), trivial)


def score_table(scores: Sequence[HospitalScores]) -> str:
    """The scores as lines of text."""
    width = max(len(one.hospital) for one in scores)
    lines = [f"{'Dice':<{width}}  cases   mean  worst  mean shape"]
    for one in scores:
        values, trivial = one.dice.values(), fmean(one.mean_shape_dice.values())
        lines.append(
            f"{one.hospital:<{width}}  {len(values):>5}  {fmean(values):.3f}  {min(values):.3f}  {trivial:>10.3f}"
        )
    return "\n".join(lines)
