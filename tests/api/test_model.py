"""`load_model`: arrays in, arrays out, to the last bit those that the command writes."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from PIL import Image

from nnunet_diffusion_ensemble.api.model import LoadedModel, load_model
from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.method import CONCATENATED_FEATURES
from nnunet_diffusion_ensemble.prediction.case import Prediction

REGIONS = {"background": 0, "whole": [1, 2], "part": [2]}
KINDS: dict[str, dict[str, Any]] = {
    "slices": {},
    "regions": {"labels": REGIONS, "options": {"ensemble.averaging": "sigmoid"}},
    "turned axes and two channels": {"transpose": (1, 0, 2), "channels": 2},
    "volumes": {"patch_size": [8, 8, 8], "spacing": [2.0, 1.0, 1.0], "mirror_axes": (0, 1, 2)},
}


def read(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def command(images: Path, output: Path, model: Path, *options: str) -> dict[str, str]:
    """Runs `nnunet-diffusion predict`; returns the row of case_0."""
    arguments = ["-i", str(images), "-o", str(output), "-m", str(model), "-f", "0", "-device", "cpu", *options]
    assert main(["predict", *arguments]) == 0
    with (output / "uncertainty.csv").open() as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}["case_0"]


def assert_equals_files(found: Prediction, output: Path, ending: str, map_ending: str) -> None:
    """To the bit: maps are written as float32."""
    assert np.array_equal(found.segmentation, read(output / f"case_0{ending}"))
    files = sorted((output / "probability").glob(f"*/case_0{map_ending}"))
    assert len(files) == len(found.probabilities)
    maps = dict(zip(files, found.probabilities, strict=True))
    maps |= {output / "entropy" / f"case_0{map_ending}": found.entropy}
    maps |= {output / "mutual_information" / f"case_0{map_ending}": found.mutual_information}
    for file, values in maps.items():
        assert np.array_equal(np.float32(values), read(file)), file
    for timestep, segmentation in found.timesteps.items():
        assert np.array_equal(segmentation, read(output / "timesteps" / f"t{timestep:03d}" / f"case_0{ending}"))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_arrays_are_those_of_the_command(
    kind: str, model_folder: Callable, images: Callable, architecture: Callable, tmp_path: Path
) -> None:
    made = {**KINDS[kind], **({"architecture": architecture("3d")} if kind == "volumes" else {})}
    shape = (22, 4, 15) if "transpose" in made else (3, 22, 15)
    model, cases = model_folder(**made), images(1, made.get("channels", 1), shape)
    row = command(cases, tmp_path / "out", model)
    array, properties = SimpleITKIO().read_images([str(file) for file in sorted(cases.iterdir())])
    loaded = load_model(model, folds=[0], device="cpu")
    found = loaded.predict(array, properties["spacing"])
    assert len(np.unique(found.segmentation)) > 1
    assert tuple(found.timesteps) == loaded.timesteps == (1, 50, 400)
    assert_equals_files(found, tmp_path / "out", ".nii.gz", ".nii.gz")
    assert float(row["denoising_error"]) == pytest.approx(found.score, rel=1e-5)
    assert float(row["timestep_dice"]) == pytest.approx(found.timestep_dice, rel=1e-5)


def test_a_picture_has_two_axes(model_folder: Callable, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    file = tmp_path / "images" / "case_0_0000.png"
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (20, 24, 3), np.uint8)).save(file)
    model = model_folder(reader="NaturalImage2DIO", file_ending=".png", channels=3)
    command(tmp_path / "images", tmp_path / "out", model)
    picture = NaturalImage2DIO().read_images([str(file)])[0][:, 0]
    found = load_model(model, folds=0, device="cpu").predict(torch.from_numpy(picture), spacing=(1, 1))
    assert found.segmentation.shape == found.entropy.shape == (20, 24)
    assert_equals_files(found, tmp_path / "out", ".png", ".tif")


def test_a_model_of_nnunet_has_no_timesteps(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    model, cases = model_folder(nnUNetTrainer), images(1)
    command(cases, tmp_path / "out", model)
    array, properties = SimpleITKIO().read_images([str(cases / "case_0_0000.nii.gz")])
    loaded = load_model(model, folds=[0], device="cpu")
    found = loaded.predict(array[0], properties["spacing"])
    assert np.array_equal(found.segmentation, read(tmp_path / "out" / "case_0.nii.gz"))
    assert np.array_equal(np.float32(found.entropy), read(tmp_path / "out" / "entropy" / "case_0.nii.gz"))
    assert loaded.timesteps is found.timesteps is found.mutual_information is found.timestep_dice is found.score is None


def test_without_a_denoising_error_there_is_no_score(model_folder: Callable) -> None:
    loaded = load_model(model_folder(), folds=[0], device="cpu")
    found = loaded.predict(np.random.RandomState(0).rand(20, 24), (1, 1), with_denoising_error=False)
    assert found.score is None
    assert found.timesteps


def test_probabilities_follow_the_classes(model_folder: Callable) -> None:
    labels = {"background": 0, "heart": 2, "lung": 1}
    loaded = load_model(model_folder(labels=labels), folds=[0], device="cpu")
    assert loaded.classes == {"background": (0,), "lung": (1,), "heart": (2,)}
    found = loaded.predict(np.random.RandomState(0).rand(20, 24), (1, 1))
    assert np.array_equal(found.probabilities.argmax(0), found.segmentation)
    np.testing.assert_allclose(found.probabilities.sum(0), 1, atol=1e-5)


def test_what_is_given_stays_as_it_is(model_folder: Callable) -> None:
    image = np.random.RandomState(0).rand(20, 24).astype(np.float32)
    before = image.copy()
    load_model(model_folder(), folds=[0], device="cpu").predict(image, (1, 1))
    assert np.array_equal(image, before)


# ---- mistakes


@pytest.fixture
def loaded(model_folder: Callable) -> LoadedModel:
    return load_model(model_folder(channels=2), folds=[0], device="cpu")


@pytest.mark.parametrize(
    ("image", "spacing", "error", "message"),
    [
        (np.ones((3, 9, 9)), (1, 1), ValueError, r"has 3 channel\(s\), the model was trained on 2"),
        (np.ones((9, 9)), (1, 1), ValueError, r"has 1 channel\(s\), the model was trained on 2"),
        (np.ones((2, 9, 9, 9)), (1, 1), ValueError, "With 2 numbers of spacing.*A volume needs three numbers"),
        (np.ones((9, 9)), (1, 1, 1), ValueError, r"With 3 numbers.*\(depth, height, width\).*shape \(9, 9\)"),
        (np.ones((2, 9, 9)), (1, 0), ValueError, r"above 0, got \(1, 0\)"),
        ([1], (1, 1), TypeError, "image must be a NumPy array or a tensor, got list"),
    ],
)
def test_an_image_that_does_not_fit_is_told_which_does(
    image: Any, spacing: Any, error: type, message: str, loaded: LoadedModel
) -> None:
    with pytest.raises(error, match=message):
        loaded.predict(image, spacing)


def test_a_picture_is_no_volume(model_folder: Callable, architecture: Callable) -> None:
    model = model_folder(architecture=architecture("3d"), patch_size=[8, 8, 8], spacing=[1.0] * 3)
    with pytest.raises(ValueError, match=r"segments volumes: .*three numbers of spacing"):
        load_model(model, folds=[0], device="cpu").predict(np.ones((20, 24)), (1, 1))


def test_a_missing_fold_is_told_which_there_are(model_folder: Callable) -> None:
    with pytest.raises(FileNotFoundError, match=r"fold_all.*there is -f 0 -chk checkpoint_final\.pth"):
        load_model(model_folder(), folds="all", device="cpu")


def test_it_says_what_it_is(loaded: LoadedModel) -> None:
    text = repr(loaded)
    assert text.startswith("LoadedModel(")
    assert "2 channel(s), background, organ, timesteps (1, 50, 400), cpu" in text


def test_a_single_chosen_timestep_is_that_of_a_model_planned_for_it(model_folder: Callable) -> None:
    image = np.random.default_rng(0).normal(size=(20, 24)).astype(np.float32)
    folder = model_folder()
    chosen = load_model(folder, folds=0, device="cpu", timesteps=[1]).predict(image, (1, 1))
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["2d"]["diffusion"]["ensemble"]["timesteps"] = [1]
    (folder / "plans.json").write_text(json.dumps(plans))
    planned = load_model(folder, folds=0, device="cpu").predict(image, (1, 1))
    assert np.array_equal(chosen.probabilities, planned.probabilities)


@pytest.mark.parametrize(
    ("timesteps", "made", "message"),
    [
        ([], {}, "timesteps"),
        ([1000], {}, "ensemble.timesteps must be below denoiser.num_diffusion_steps"),
        (
            [1],
            {"options": {"ensemble.fusion": CONCATENATED_FEATURES}},
            "does not average over timesteps, so none can be chosen",
        ),
    ],
)
def test_timesteps_that_cannot_be_are_refused(
    timesteps: list[int], made: dict[str, Any], message: str, model_folder: Callable
) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(model_folder(**made), folds=0, device="cpu", timesteps=timesteps)
