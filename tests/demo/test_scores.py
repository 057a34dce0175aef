"""Scores of the demo on masks small enough to count by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnunet_diffusion_ensemble.demo.scores import HospitalScores, dice_of_masks, mean_shape, score, score_table


def mask(*rows: str) -> np.ndarray:
    return np.array([[character == "x" for character in row] for row in rows])


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        (mask("xx.."), mask("xx.."), 1.0),
        (mask("xx.."), mask("..xx"), 0.0),
        (mask("xx.."), mask(".x.."), 2 / 3),
        (mask("x..."), mask("xxx."), 0.5),
        (mask("...."), mask("...."), math.nan),
    ],
)
def test_dice_by_hand(reference: np.ndarray, prediction: np.ndarray, expected: float) -> None:
    assert dice_of_masks(reference, prediction) == pytest.approx(expected, nan_ok=True)


def test_the_mean_shape_is_where_at_least_half_of_the_masks_are() -> None:
    masks = [mask("x.x."), mask("xx.."), mask("x.x."), mask("....")]
    np.testing.assert_array_equal(mean_shape(masks), mask("x.x."))


def save(file: Path, shape: np.ndarray) -> Path:
    file.parent.mkdir(exist_ok=True)
    Image.fromarray((shape * 255).astype(np.uint8)).save(file)
    return file


@pytest.fixture
def scores(tmp_path: Path) -> HospitalScores:
    summary = tmp_path / "summary.json"
    cases = [
        {"prediction_file": f"/p/{name}.png", "metrics": {"1": {"Dice": d}}} for name, d in (("a", 0.9), ("b", 0.7))
    ]
    summary.write_text(json.dumps({"metric_per_case": cases}))
    save(tmp_path / "references" / "a.png", mask("xx.."))
    save(tmp_path / "references" / "b.png", mask("..xx"))
    training = [save(tmp_path / "training" / "t.png", mask("xx.."))]
    return score("Here", summary, tmp_path / "references", training)


def test_scores_set_nnunets_dice_beside_that_of_the_mean_shape(scores: HospitalScores) -> None:
    assert scores.dice == {"a": 0.9, "b": 0.7}
    assert scores.mean_shape_dice == {"a": 1.0, "b": 0.0}


def test_the_table_has_mean_and_worst(scores: HospitalScores) -> None:
    assert score_table([scores]).splitlines()[1].split() == ["Here", "2", "0.800", "0.700", "0.500"]
