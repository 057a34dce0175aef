"""Scores of the demo on masks small enough to count by hand."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nnunet_diffusion_ensemble.demo.results import (
    HospitalScores,
    dice_of_masks,
    dice_of_models,
    mean_shape,
    score,
    score_table,
)


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
    save(tmp_path / "references" / "a.png", mask("xx.."))
    save(tmp_path / "references" / "b.png", mask("..xx"))
    training = [save(tmp_path / "training" / "t.png", mask("xx.."))]
    return score(
        "Here", {"ours": {"a": 0.9, "b": 0.7}, "theirs": {"a": 0.5, "b": 0.5}}, tmp_path / "references", training
    )


def test_means_of_the_models_stand_beside_that_of_the_mean_shape(scores: HospitalScores) -> None:
    assert scores.mean_shape_dice == {"a": 1.0, "b": 0.0}
    assert scores.means == {"ours": pytest.approx(0.8), "theirs": 0.5, "mean shape": 0.5}


def test_the_table_has_a_row_for_each_hospital(scores: HospitalScores) -> None:
    heading, row = score_table([scores]).splitlines()
    assert heading.split() == ["Mean", "Dice", "cases", "ours", "theirs", "mean", "shape"]
    assert row.split() == ["Here", "2", "0.800", "0.500", "0.500"]
    assert len(heading) == len(row)


def test_only_dice_of_a_models_own_predictions_in_the_hospital_counts() -> None:
    rows = [
        ("ours", "Here", "a", None, "Dice", 0.9),
        ("ours", "Here", "a", 50, "Dice", 0.1),
        ("ours", "Here", "a", None, "HD95", 3.0),
        ("ours", "There", "a", None, "Dice", 0.2),
        ("theirs", "Here", "a", None, "Dice", 0.5),
    ]
    table = pd.DataFrame(rows, columns=["model", "domain", "case", "timestep", "metric", "value"])
    assert dice_of_models(table, "Here") == {"ours": {"a": 0.9}, "theirs": {"a": 0.5}}
