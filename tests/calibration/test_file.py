"""The file of a calibration: read as written, and refused when damaged, of another model or of other settings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnunet_diffusion_ensemble.calibration.file import (
    Calibration,
    calibration_file,
    read_calibration,
    write_calibration,
)
from nnunet_diffusion_ensemble.calibration.predicted_dice import DicePrediction
from nnunet_diffusion_ensemble.system.records import checksums

SETTINGS = {"folds": [0], "use_mirroring": True, "denoiser": None}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "checkpoint_final.pth").write_bytes(b"weights")
    return tmp_path


def files(model: Path) -> list[Path]:
    return [model / "fold_0" / "checkpoint_final.pth"]


def calibration(model: Path, score: str = "expected_dice", **changes: Any) -> Calibration:
    values: dict[str, Any] = {"scores": (score,), "method": "split", "coverage": 0.5, "line": (0.0, 1.0)}
    dice = DicePrediction(**values, lines_without=((0.0, 1.0),), residuals=(0.1, 0.2, 0.3), num_cases=6)
    made = {"weights": checksums(files(model), model), "predicts_with": SETTINGS, "temperatures": (1.5,)}
    made |= {"nll_before": 0.2, "nll_after": 0.1, "dice": dice, "cases": {"a": 0.9}, "num_pixels": 10}
    return Calibration(**(made | changes))


def test_it_is_read_as_it_was_written(model: Path) -> None:
    file = calibration_file(model, (0, 1))
    assert file.name == "calibration_folds_0_1.json"
    write_calibration(calibration(model), file)
    assert read_calibration(file) == calibration(model)


def test_the_same_weights_and_settings_are_those_of_the_fit(model: Path) -> None:
    assert calibration(model).differs_from(files(model), model, {**SETTINGS, "folds": (0,)}) == ""


def test_weights_that_were_trained_again_are_others(model: Path) -> None:
    fitted = calibration(model)
    files(model)[0].write_bytes(b"Weights")
    assert "other weights" in fitted.differs_from(files(model), model, SETTINGS)


def test_other_settings_are_named(model: Path) -> None:
    told = calibration(model).differs_from(files(model), model, SETTINGS | {"use_mirroring": False})
    assert "use_mirroring True, now False" in told


def test_another_denoiser_matters_only_to_its_error(model: Path) -> None:
    other = SETTINGS | {"denoiser": "chest-xray-64"}
    assert calibration(model).differs_from(files(model), model, other) == ""
    told = calibration(model, score="denoising_error").differs_from(files(model), model, other)
    assert "denoiser None, now chest-xray-64" in told


def _cut(text: str) -> str:
    return text[: len(text) // 2]


def _without(key: str) -> Callable[[str], str]:
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != key})


def _with(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_cut, r"is not JSON.*nnunet-diffusion calibrate"),
        (lambda text: "[]", "must hold an object"),
        (_without("temperatures"), "temperatures"),
        (_with(temperatures=[0.0]), "temperatures"),
        (_with(temperatures=["1"]), "temperatures"),
        (_with(version=2), "version"),
        (_with(cases={}), "a calibration with cases"),
        (_with(colour=1), "colour"),
    ],
)
def test_a_damaged_file_is_told_in_a_sentence(model: Path, spoil: Callable[[str], str], words: str) -> None:
    file = calibration_file(model, (0,))
    write_calibration(calibration(model), file)
    file.write_text(spoil(file.read_text()))
    with pytest.raises(ValueError, match=words) as raised:
        read_calibration(file)
    assert file.name in str(raised.value)


def test_one_that_is_missing_is_asked_for(model: Path) -> None:
    with pytest.raises(FileNotFoundError, match="fit it with `nnunet-diffusion calibrate`"):
        read_calibration(calibration_file(model, (0,)))
