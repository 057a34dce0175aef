"""Regions and ignore label, colour pictures and thick slices with two channels: from raw images to predictions."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

pytestmark = pytest.mark.slow

REGIONS = {"background": 0, "whole": [1, 2], "core": 2}
WITH_IGNORE = {"background": 0, "organ": 1, "ignore": 2}
TRAINED, UNLABELLED, TESTED = (
    [f"{name}_{i}" for i in range(count)] for name, count in (("case", 5), ("other", 3), ("new", 2))
)
PICTURE_SIZE_PX = (44, 52)  # height, width
VOLUME_SIZE = (9, 36, 40)  # slices, rows, columns
SPACING_MM = (1.0, 1.0, 4.0)  # columns, rows, slices, which is SimpleITK's order


def nested_balls(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Labels 0, 1 and 2: a ball (an ellipse of a third of each axis) with a core, somewhere near the middle."""
    middle = np.random.RandomState(seed).uniform(0.4, 0.6, len(shape))
    grid = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij"), axis=-1)
    distance = np.linalg.norm(grid - middle, axis=-1)
    return ((distance < 0.33).astype(np.uint8)) + (distance < 0.18)


def noisy(labels: np.ndarray, seed: int) -> np.ndarray:
    """An image of labels, between 0 and 255."""
    noise = np.random.RandomState(seed).normal(0, 12, labels.shape)
    return np.clip(60 + 60 * labels.astype(float) + noise, 0, 255)


def save_picture(folder: Path, images: str, case: str, seed: int) -> None:
    labels = nested_balls(PICTURE_SIZE_PX, seed)
    colours = np.stack([noisy(labels, 10 * seed + channel) for channel in range(3)], axis=-1).astype(np.uint8)
    Image.fromarray(colours).save(folder / images / f"{case}_0000.png")
    if images == "imagesTr":
        Image.fromarray(labels).save(folder / "labelsTr" / f"{case}.png")


def save_volume(folder: Path, images: str, case: str, seed: int) -> None:
    """Two channels; only the middle half of the columns is annotated, the rest carries the ignore label."""
    labels = np.minimum(nested_balls(VOLUME_SIZE, seed), 1)
    for channel in range(2):
        _write(noisy(labels, 10 * seed + channel).astype(np.float32), folder / images / f"{case}_{channel:04d}.nii.gz")
    if images == "imagesTr":
        labels[..., :10] = labels[..., 30:] = WITH_IGNORE["ignore"]
        _write(labels, folder / "labelsTr" / f"{case}.nii.gz")


def _write(array: np.ndarray, file: Path) -> None:
    volume = sitk.GetImageFromArray(array)
    volume.SetSpacing(SPACING_MM)
    volume.SetOrigin((-20.0, 15.0, 100.0))
    sitk.WriteImage(volume, str(file))


def run_chain(chain, save_case: Callable, **dataset: object) -> Path:
    """Writes a data set, trains on it and predicts; returns the folder of predictions."""
    folder = chain.workplace.raw / "Dataset001_Made"
    (folder / "labelsTr").mkdir(parents=True)
    for images, cases in (("imagesTr", TRAINED), ("imagesUn", UNLABELLED), ("imagesTs", TESTED)):
        (folder / images).mkdir()
        for i, case in enumerate(cases):
            save_case(folder, images, case, seed=100 * len(images) + 10 * len(cases) + i)
    (folder / "dataset.json").write_text(json.dumps(dataset | {"numTraining": len(TRAINED)}))
    chain.plan_and_preprocess()
    chain.train()
    return chain.predict(folder / "imagesTs")


@pytest.fixture(scope="module")
def pictures(make_chain: Callable):
    """Colour pictures with labels that are regions."""
    chain = make_chain("2d")
    channels = {str(i): "rgb_to_0_1" for i in range(3)}
    dataset = {"channel_names": channels, "labels": REGIONS, "regions_class_order": [1, 2], "file_ending": ".png"}
    run_chain(chain, save_picture, **dataset)
    return chain


@pytest.fixture(scope="module")
def volumes(make_chain: Callable):
    """Thick slices with two channels, scaled in two ways, and an ignore label."""
    chain = make_chain("3d_fullres")
    channels = {"0": "rescale_to_0_1", "1": "MRI"}
    run_chain(chain, save_volume, channel_names=channels, labels=WITH_IGNORE, file_ending=".nii.gz")
    return chain


def predictions(chain, ending: str) -> list[Path]:
    return [chain.workplace.root / "predictions" / f"{case}{ending}" for case in TESTED]


def values(array: np.ndarray) -> set[int]:
    return set(np.unique(array).tolist())


def test_regions_are_averaged_as_sigmoids(pictures) -> None:
    assert pictures.settings["diffusion"]["ensemble"]["averaging"] == "sigmoid"


def test_an_ignore_label_leaves_labels_averaged_as_softmax(volumes) -> None:
    assert volumes.settings["diffusion"]["ensemble"]["averaging"] == "softmax"


def test_every_colour_is_scaled_from_0_1_to_minus_1_1(pictures) -> None:
    denoiser = pictures.settings["diffusion"]["denoiser"]
    assert (denoiser["input_scale"], denoiser["input_shift"]) == ([2.0] * 3, [-1.0] * 3)


def test_every_channel_is_scaled_as_its_normalisation_asks(volumes) -> None:
    denoiser = volumes.settings["diffusion"]["denoiser"]
    assert (denoiser["input_scale"], denoiser["input_shift"]) == ([2.0, 1.0], [-1.0, 0.0])


def test_thick_slices_are_not_mixed_in_the_first_stage(volumes) -> None:
    arguments = volumes.settings["architecture"]["arch_kwargs"]
    assert arguments["kernel_sizes"][0] == [1, 3, 3]
    assert arguments["strides"][1] == [1, 2, 2]


def test_predictions_of_regions_hold_the_labels_they_are_made_of(pictures) -> None:
    for file in predictions(pictures, ".png"):
        assert values(np.asarray(Image.open(file))) <= {0, 1, 2}


def test_predictions_of_pictures_have_the_size_of_the_pictures(pictures) -> None:
    for file in predictions(pictures, ".png"):
        assert np.asarray(Image.open(file)).shape == PICTURE_SIZE_PX


def test_the_ignore_label_is_never_predicted(volumes) -> None:
    for file in predictions(volumes, ".nii.gz"):
        assert values(sitk.GetArrayFromImage(sitk.ReadImage(str(file)))) <= {0, 1}


def test_predictions_of_volumes_lie_where_the_volumes_do(volumes) -> None:
    for file in predictions(volumes, ".nii.gz"):
        prediction = sitk.ReadImage(str(file))
        image = sitk.ReadImage(
            str(volumes.workplace.raw / "Dataset001_Made" / "imagesTs" / f"{file.name[:5]}_0001.nii.gz")
        )
        assert prediction.GetSize() == VOLUME_SIZE[::-1]
        for get in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(prediction, get)(), getattr(image, get)(), atol=1e-6)


@pytest.mark.parametrize(("kind", "num_outputs"), [("pictures", 2), ("volumes", 2)])
def test_the_head_scores_regions_or_labels_but_not_what_is_ignored(kind, num_outputs, request) -> None:
    chain = request.getfixturevalue(kind)
    checkpoint = torch.load(chain.folder("DiffusionEnsembleTrainer", "0") / "checkpoint_final.pth", weights_only=False)
    last = [w for name, w in checkpoint["network_weights"].items() if name.startswith("head.")][-1]
    assert len(last) == num_outputs
