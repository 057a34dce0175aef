"""The models of the page, what they say of an image, and the scores of their training images."""

import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from looks import calibrate, write_picture, write_volume
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from PIL import Image

from nnunet_diffusion_ensemble.app.look import look_at
from nnunet_diffusion_ensemble.app.models import Models, PageModel, model_of_folder, shipped_model
from nnunet_diffusion_ensemble.app.training_scores import scores_of_preprocessed
from nnunet_diffusion_ensemble.app.upload import read_upload
from nnunet_diffusion_ensemble.demo.hospitals import SAMPLE
from nnunet_diffusion_ensemble.demo.results import dice_of_masks, mean_shape, read_foreground
from nnunet_diffusion_ensemble.demo.shipped_model import HEAD, training_images
from nnunet_diffusion_ensemble.prediction.predict import PredictedCase, predict
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings

XRAYS = SAMPLE / "shenzhen"
MOST_BYTES = 1_000_000


@pytest.fixture(scope="module")
def shipped() -> PageModel:
    return shipped_model(timesteps=[1, 50], device="cpu")


def test_the_head_that_ships_is_small_and_names_no_place_of_its_maker() -> None:
    assert HEAD.stat().st_size < MOST_BYTES
    content = HEAD.read_bytes()
    assert not [place for place in (b"/home/", b"/root/", b"/tmp/", b"/Users/", b"nnUNet_results/") if place in content]


def test_the_shipped_model_finds_the_lungs_of_another_hospital_in_the_size_of_the_picture(
    shipped: PageModel, tmp_path: Path
) -> None:
    shape = mean_shape([read_foreground(SAMPLE / "montgomery" / "masks" / f.name) for f in training_images()])
    found, trivial = [], []
    for file in sorted((XRAYS / "images").iterdir())[:5]:
        look = look_at(read_upload(file), shipped)
        reference = read_foreground(XRAYS / "masks" / file.name)
        assert look.prediction.segmentation.shape == look.prediction.entropy.shape == (1, *reference.shape)
        assert list(look.prediction.timesteps or ()) == [1, 50]
        found.append(dice_of_masks(reference, look.prediction.segmentation[0] > 0))
        trivial.append(dice_of_masks(reference, shape))
    assert np.mean(found) > np.mean(trivial) + 0.1


def test_a_picture_upside_down_is_more_unusual_than_all_of_the_training(shipped: PageModel, tmp_path: Path) -> None:
    assert len(shipped.training_scores) == 6
    file = training_images()[0]
    Image.open(file).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(tmp_path / "turned.png")
    score = look_at(read_upload(tmp_path / "turned.png"), shipped).prediction.score
    assert score is not None
    assert score > max(shipped.training_scores)


def test_the_shipped_model_refuses_a_volume(shipped: PageModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a frontal chest X-ray; head\.nii\.gz is a volume"):
        look_at(read_upload(write_volume(tmp_path / "head.nii.gz")), shipped)


def test_a_grey_picture_in_colours_is_that_of_one_channel_and_a_colourful_one_is_refused(
    shipped: PageModel, tmp_path: Path
) -> None:
    grey = Image.open(write_picture(tmp_path / "grey.png"))
    grey.convert("RGB").save(tmp_path / "rgb.png")
    looks = [look_at(read_upload(tmp_path / name), shipped) for name in ("grey.png", "rgb.png")]
    assert np.array_equal(*(look.prediction.probabilities for look in looks))
    Image.merge("RGB", (grey, grey, Image.new("L", grey.size))).save(tmp_path / "colours.png")
    with pytest.raises(ValueError, match="3 channel"):
        look_at(read_upload(tmp_path / "colours.png"), shipped)


def test_a_volume_comes_back_in_its_size(model_folder: Callable, tmp_path: Path) -> None:
    model = model_of_folder(str(model_folder()), device="cpu")
    look = look_at(read_upload(write_volume(tmp_path / "head.nii.gz")), model)
    assert look.prediction.segmentation.shape == look.prediction.entropy.shape == look.image.shape == (3, 20, 24)
    assert look.aspect == pytest.approx(0.75 / 0.5)
    assert {one.shape for one in (look.prediction.timesteps or {}).values()} == {(3, 20, 24)}


def test_all_finished_folds_of_a_folder_are_averaged(model_folder: Callable) -> None:
    folder = model_folder(folds=(0, 3))
    assert len(model_of_folder(str(folder), device="cpu").loaded.trained.predictor.list_of_parameters) == 2


@pytest.mark.parametrize(
    ("folder", "message"),
    [("", "Name a results folder"), ("  ", "Name a results folder"), ("/nowhere", r"/nowhere has no finished fold")],
)
def test_what_is_no_results_folder_is_refused(folder: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        model_of_folder(folder)


def test_the_last_model_is_kept(model_folder: Callable) -> None:
    models, folder = Models("cpu"), str(model_folder())
    first = models.get(folder)
    assert models.get(folder) is first
    other = models.get(folder, [1])
    assert (first.loaded.timesteps, other.loaded.timesteps) == ((1, 50, 400), None)
    assert models.get(folder) is not first


def test_a_calibration_predicts_the_dice_that_the_command_would(model_folder: Callable, tmp_path: Path) -> None:
    folder, file = model_folder(), write_volume(tmp_path / "images" / "head_0000.nii.gz")
    calibrate(folder)
    settings = PredictionSettings(folds=(0,), device="cpu")
    (case,) = predict(tmp_path / "images", tmp_path / "out", folder, settings)
    look = look_at(read_upload(file), model_of_folder(str(folder), device="cpu"))
    assert isinstance(case, PredictedCase)
    assert look.expected_dice is not None
    assert look.expected_dice.predicted == pytest.approx(case.scores.predicted_dice, abs=1e-6)


@pytest.mark.parametrize(
    ("spoil", "timesteps", "reason"),
    [
        (lambda folder: None, [1, 50], r"calibration_folds_0\.json was fitted with all timesteps"),
        (lambda folder: calibrate(folder, dice=False), None, "holds a temperature alone"),
        (lambda folder: (folder / "calibration_folds_0.json").write_text("{"), None, "is not JSON"),
        (lambda folder: (folder / "dataset.json").open("a").write(" "), None, "was fitted for other weights"),
    ],
)
def test_a_calibration_that_does_not_fit_says_why(
    spoil: Callable, timesteps: list[int] | None, reason: str, model_folder: Callable
) -> None:
    folder = model_folder()
    calibrate(folder)
    spoil(folder)
    assert re.search(reason, str(model_of_folder(str(folder), timesteps, device="cpu").calibration))


def test_all_timesteps_ticked_is_the_model_as_it_is(model_folder: Callable) -> None:
    models, folder = Models("cpu"), str(model_folder())
    assert models.get(folder, None) is models.get(folder, [400, 1, 50])


def test_a_model_without_a_calibration_has_none(model_folder: Callable) -> None:
    assert model_of_folder(str(model_folder()), device="cpu").calibration is None


def test_a_model_of_pictures_takes_no_millimetres(model_folder: Callable, tmp_path: Path) -> None:
    """The same pixels as a picture and as an image of 0.5 mm are alike to a model that knows pixels alone."""
    model = model_of_folder(str(model_folder(reader="NaturalImage2DIO", file_ending=".png")), device="cpu")
    image = sitk.GetImageFromArray(np.asarray(Image.open(write_picture(tmp_path / "a.png"))))
    image.SetSpacing((0.5, 0.5))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    looks = [look_at(read_upload(tmp_path / name), model) for name in ("a.png", "a.nii.gz")]
    assert np.array_equal(*(look.prediction.entropy for look in looks))


def test_without_preprocessed_training_images_there_are_no_scores_of_them(
    model_folder: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = model_of_folder(str(model_folder()), device="cpu")
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    assert scores_of_preprocessed(model.loaded) == ()
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "elsewhere"))
    assert scores_of_preprocessed(model.loaded) == ()


def test_scores_of_training_images_are_those_of_the_preprocessed_cases(
    model_folder: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = model_of_folder(str(model_folder()), device="cpu")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    (folder,) = (tmp_path / "preprocessed").glob("*/nnUNetPlans_2d")
    dataset = infer_dataset_class(str(folder))(str(folder))
    images = [torch.from_numpy(dataset.load_case(case)[0][:]) for case in sorted(dataset.identifiers)]
    expected = [fmean(model.loaded.trained.denoising_error(image).values()) for image in images]
    assert model.training_scores == pytest.approx(expected)
    assert scores_of_preprocessed(model.loaded, most=2) == pytest.approx([expected[0], expected[-1]])
