"""Prediction refuses faulty images, names what it leaves out, and writes nothing of what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import IMAGE_FAULTS, refused, voxel_free
from faulty_files import SHAPE, half, mask, save

from nnunet_diffusion_ensemble.cli.parser import main


@pytest.fixture
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all rows: making it takes longer than refusing."""
    if not MODELS:
        MODELS.append(tmp_path_factory.mktemp("model") / "model")
        shutil.copytree(request.getfixturevalue("model_folder")(), MODELS[0])
    return MODELS[0]


MODELS: list[Path] = []


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_a_faulty_image_to_predict(fault: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    images = tmp_path / "images"
    for case in "ab":
        save(images / f"{case}_0000.nii.gz", voxel_free())
    spoil, message = IMAGE_FAULTS[fault]
    spoil(images / "b_0000.nii.gz")
    refused(predicting(images, tmp_path, model), f"  b{message}", tmp_path, capsys)


def predicting(images: Path, root: Path, model: Path, *more: str) -> list[str]:
    return ["predict", "-i", str(images), "-o", str(root / "out"), "-m", str(model), "-f", "0", "-device", "cpu", *more]


MISPLACED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another ending": (
        lambda folder: save(folder / "c_0000.png", mask()[0]),
        r"c_0000\.png is not named CASE",
    ),
    "no channel number": (
        lambda folder: save(folder / "c.nii.gz", mask()),
        r"c.nii.gz is not named CASE",
    ),
    "an ending in capitals": (
        lambda folder: (folder / "c_0000.NII.GZ").write_bytes(b""),
        r"c_0000\.NII\.GZ is not",
    ),
    "a broken link": (
        lambda folder: (folder / "c_0000.nii.gz").symlink_to("gone"),
        r"is a link to gone",
    ),
    "a channel too many": (
        lambda folder: save(folder / "a_0001.nii.gz", voxel_free()),
        r"a_0000.nii.gz, a_0001.nii.gz: case a has 2 channel file\(s\), expected 1|hold 2 channel",
    ),
    "colours": (
        lambda folder: save(
            folder / "a_0000.nii.gz", np.zeros((3, *SHAPE), np.float32), spacing=(1, 1, 1, 1), origin=(0,) * 4
        ),
        "a_0000.nii.gz has several values in a voxel, e.g. colours",
    ),
}


@pytest.mark.parametrize("fault", MISPLACED)
def test_a_file_that_would_not_be_predicted(
    fault: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    images = tmp_path / "images"
    for case in "ab":
        save(images / f"{case}_0000.nii.gz", voxel_free())
    change, message = MISPLACED[fault]
    change(images)
    refused(predicting(images, tmp_path, model), message, tmp_path, capsys)


def test_what_is_left_out_of_a_prediction_is_counted(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    images = tmp_path / "images"
    for case in "abc":
        save(images / f"{case}_0000.nii.gz", voxel_free())
    half(images / "b_0000.nii.gz")
    save(images / "d.nii.gz", mask())
    (images / "notes.txt").write_text("x")
    assert main(predicting(images, tmp_path, model, "--on-problem", "skip")) == 0
    printed = capsys.readouterr().out
    assert "Left out: b_0000.nii.gz cannot be read" in printed
    assert "Left out: d.nii.gz is not named" in printed
    assert "Not looked at: notes.txt" in printed
    assert "Predicted 2 case(s), left out 2" in printed
    written = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert (written["num_cases"], sorted(written["left_out"])) == (2, ["b", "d.nii.gz"])
    assert sorted(file.name for file in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz"]
