"""The sentences on how far to trust a prediction."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dice_fits import unit_line
from looks import make_look

from nnunet_diffusion_ensemble.app.look import Inspection
from nnunet_diffusion_ensemble.app.trust import is_unusual, score_rows, trust_sentences
from nnunet_diffusion_ensemble.calibration.predicted_dice import DicePrediction


@pytest.mark.parametrize(("score", "unusual"), [(0.1, True), (0.2, False), (0.3, False), (0.4, False), (0.5, True)])
def test_too_low_a_score_is_as_unusual_as_too_high_a_one(score: float, unusual: bool) -> None:
    assert is_unusual(score, (0.4, 0.2)) is unusual


def test_without_training_scores_nothing_is_unusual() -> None:
    assert not is_unusual(9.0, ())


EMPTY = np.zeros((1, 8, 8), np.int8)


@pytest.mark.parametrize(
    ("changes", "scores", "verdict"),
    [
        ({}, (0.2, 0.3), "Nothing speaks against this outline"),
        ({}, (0.3, 0.4), "Do not rely on this outline without checking all of it: the image is unlike those"),
        ({}, (0.1, 0.2), "Do not rely on this outline without checking all of it: the image is unlike those"),
        ({"timestep_dice": 0.5}, (0.2, 0.3), "Do not rely on this outline without checking all of it: the timesteps"),
        ({"segmentation": EMPTY}, (0.3, 0.4), "The model finds nothing in this image"),
        ({}, (), "Check all of this outline: too little is known"),
        ({"denoising_error_at": {}}, (), "Check all of this outline: too little is known"),
        ({"timesteps": None, "timestep_dice": None}, (0.2, 0.3), "Check all of this outline: too little is known"),
    ],
)
def test_the_verdict_comes_first(
    changes: dict[str, Any], scores: tuple[float, ...], verdict: str, tmp_path: Path
) -> None:
    assert trust_sentences(make_look(tmp_path, scores, **changes)).startswith(f"**{verdict}")


def test_the_numbers_are_told(tmp_path: Path) -> None:
    entropy = np.zeros((1, 8, 8), np.float32)
    entropy[0, 3:5] = 0.9  # 16 of 32 pixels that are marked
    told = trust_sentences(make_look(tmp_path, entropy=entropy))
    assert "The denoising error is 0.250, which is among those of the training (0.200 to 0.400 for 3" in told
    assert "Its 2 timesteps draw nearly the same outline (mean Dice 0.970)." in told
    assert "undecided about an area of 50% of what it marks" in told


@pytest.mark.parametrize(
    ("dice", "words"), [(0.95, "nearly the same outline"), (0.9, "similar outlines"), (0.8, "different outlines")]
)
def test_how_well_timesteps_agree_in_words(dice: float, words: str, tmp_path: Path) -> None:
    assert f"draw {words} (mean Dice" in trust_sentences(make_look(tmp_path, timestep_dice=dice))


def test_where_training_images_are_not_known_it_says_how_to_make_them_known(tmp_path: Path) -> None:
    assert "set nnUNet_preprocessed" in trust_sentences(make_look(tmp_path, ()))
    assert "no denoiser" in trust_sentences(make_look(tmp_path, (), denoising_error_at={}))


def test_the_score_stands_beside_those_of_the_training(tmp_path: Path) -> None:
    assert score_rows(make_look(tmp_path, (0.2, 0.6, 0.3))) == [
        ["this image", "0.250"],
        ["training images, lowest", "0.200"],
        ["training images, median", "0.300"],
        ["training images, highest", "0.600"],
    ]
    assert score_rows(make_look(tmp_path, ())) == [["this image", "0.250"]]
    assert score_rows(make_look(tmp_path, denoising_error_at={})) == []


FIT = unit_line("timestep_dice", num_cases=24)


def calibrated(
    folder: Path, fit: DicePrediction | str | None = FIT, agreement: float | None = 0.9, **look: Any
) -> Inspection:
    scores = {"timestep_dice": agreement}
    return replace(make_look(folder, timestep_dice=agreement, **look), calibration=fit, scores=scores)


def test_a_calibration_says_which_dice_to_expect_and_what_that_rests_on(tmp_path: Path) -> None:
    told = trust_sentences(calibrated(tmp_path))
    assert told.startswith("**Expect a Dice of about 0.90, between 0.80 and 0.95.**")  # odds of 4, 9 and 20.25
    assert (
        "rests on 24 labelled cases that the training had not seen (nnunet-diffusion calibrate), by timestep dice"
        in told
    )
    assert "made to hold for 50% of cases like those, and not for those of another hospital" in told


def test_what_is_proved_is_told_where_it_is_less(tmp_path: Path) -> None:
    fit = FIT.model_copy(update={"method": "jackknife+", "coverage": 0.9, "residuals": (0.1,) * 10})
    assert "hold for 90% of cases like those, proved for 80%" in trust_sentences(calibrated(tmp_path, fit))


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        (
            {"training_scores": (0.3, 0.4)},
            "Do not rely on this outline without checking all of it: the image is unlike",
            "Its Dice cannot be told: what is known rests on 24 labelled cases",
        ),
        ({"segmentation": EMPTY}, "The model finds nothing in this image", ""),
        (
            {"agreement": None, "timesteps": None},
            "Check all of this outline: too little is known",
            "No Dice is predicted: the image lacks one of the scores",
        ),
        (
            {"fit": "a.json was fitted for other weights."},
            "Nothing speaks against this outline",
            "No Dice is predicted: a.json was fitted for other weights.\n",
        ),
    ],
)
def test_without_ground_no_dice_is_told(changes: dict[str, Any], verdict: str, reason: str, tmp_path: Path) -> None:
    told = trust_sentences(calibrated(tmp_path, **changes))
    assert told.startswith(f"**{verdict}")
    assert reason in told
    assert "Expect a Dice" not in told
