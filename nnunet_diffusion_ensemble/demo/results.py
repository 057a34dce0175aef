"""The demo's results: Dice of both models from the benchmark, beside a predictor that never looks at the image."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd

from nnunet_diffusion_ensemble.benchmark.results import ResultFolder, read_table
from nnunet_diffusion_ensemble.data.pixels import read_mask
from nnunet_diffusion_ensemble.demo.hospitals import SOURCE, TARGET, sample_split
from nnunet_diffusion_ensemble.system.atomic import write_text

MEAN_SHAPE = "mean shape"


@dataclass(frozen=True)
class HospitalScores:
    """Dice of each case of one hospital: by model, and of the mean shape."""

    hospital: str
    dice: dict[str, dict[str, float]]
    mean_shape_dice: dict[str, float]

    @property
    def means(self) -> dict[str, float]:
        """By model, the mean shape last."""
        return {name: fmean(dice.values()) for name, dice in {**self.dice, MEAN_SHAPE: self.mean_shape_dice}.items()}

    def to_json(self) -> dict[str, object]:
        return {
            "cases": len(self.mean_shape_dice),
            "mean_dice": self.means,
            "dice": {**self.dice, MEAN_SHAPE: self.mean_shape_dice},
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


def dice_of_models(results: pd.DataFrame, hospital: str) -> dict[str, dict[str, float]]:
    """By model and case, from the table of a benchmark: Dice of the models' own predictions."""
    rows = results[(results["metric"] == "Dice") & (results["domain"] == hospital) & results["timestep"].isna()]
    return {
        str(model): dict(zip(of_model["case"], of_model["value"].astype(float), strict=True))
        for model, of_model in rows.groupby("model", sort=False)
    }


def score(
    hospital: str, dice: dict[str, dict[str, float]], references: Path, training_masks: Sequence[Path]
) -> HospitalScores:
    """The scores of one hospital.

    Args:
        hospital: its name.
        dice: by model and case.
        references: folder of the masks that the models were tested against.
        training_masks: the masks that the mean shape is made of.
    """
    shape = mean_shape([read_foreground(file) for file in training_masks])
    trivial = {file.stem: dice_of_masks(read_foreground(file), shape) for file in sorted(references.glob("*.png"))}
    return HospitalScores(hospital, dice, trivial)


def score_table(scores: Sequence[HospitalScores]) -> str:
    """Mean Dice as lines of text, a row for each hospital."""
    heading = "Mean Dice"
    width = max(len(heading), *(len(one.hospital) for one in scores))
    columns = {name: max(len(name), len("0.000")) for name in scores[0].means}
    lines = [f"{heading:<{width}}  cases  {'  '.join(f'{name:>{column}}' for name, column in columns.items())}"]
    for one in scores:
        values = "  ".join(f"{one.means[name]:>{column}.3f}" for name, column in columns.items())
        lines.append(f"{one.hospital:<{width}}  {len(one.mean_shape_dice):>5}  {values}")
    return "\n".join(lines)


def write_results(folder: Path, labelled: str) -> None:
    """results.txt and summary.json from the benchmark's table.

    Args:
        folder: of the demo.
        labelled: path in it of the data set whose training masks make the mean shape.
    """
    results = read_table(ResultFolder(folder / "benchmark").results_file)
    training_masks = [folder / labelled / "labelsTr" / f"{case}.png" for case in sample_split()["train"]]
    scores = [
        score(one.title, dice_of_models(results, one.title), folder / one.raw / "labelsTr", training_masks)
        for one in (SOURCE, TARGET)
    ]
    write_text(folder / "results.txt", score_table(scores))
    write_text(folder / "summary.json", json.dumps({one.hospital: one.to_json() for one in scores}, indent=2))
