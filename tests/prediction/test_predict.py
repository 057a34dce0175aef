"""`nnunet-diffusion predict` against nnU-Net's own predictor, and against formulas in float64."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from PIL import Image
from predicted import CPU, read, run, table
from stock_prediction import stock

from nnunet_diffusion_ensemble.denoiser.pretrained import BEFORE_FINE_TUNING, denoiser_weights
from nnunet_diffusion_ensemble.prediction.model import read_model
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings

REGIONS = {"background": 0, "whole": [1, 2], "part": [2]}
THREE = {"background": 0, "lung left/right": 1, "heart": 2, "ignore": 3}
SIGMOID = {"ensemble.averaging": "sigmoid"}


# ---- the same as nnU-Net

KINDS = {
    "labels in slices": {"labels": THREE},
    "regions": {"labels": REGIONS, "options": SIGMOID},
    "two folds": {"folds": (0, 1)},
    "channels": {"channels": 2},
    "turned axes": {"transpose": (1, 0, 2)},
    "volumes": {"patch_size": [8, 8, 8], "spacing": [2.0, 1.0, 1.0], "mirror_axes": (0, 1, 2)},
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_segmentation_and_probability_are_those_of_nnunet(
    kind: str, model_folder: Callable, images: Callable, architecture: Callable, tmp_path: Path
) -> None:
    made = dict(KINDS[kind])
    folds = made.get("folds", (0,))
    if kind == "volumes":
        made["architecture"] = architecture("3d")
    shape = {"volumes": (9, 12, 13), "turned axes": (22, 4, 19)}.get(kind, (2, 22, 19))
    model, cases = model_folder(**made), images(channels=made.get("channels", 1), shape=shape)
    output = run(cases, tmp_path / "ours", model, PredictionSettings(folds=folds, device="cpu"))
    expected = stock(cases, tmp_path / "stock", model, folds=folds)
    for case in ("case_0", "case_1"):
        segmentation = read(output / f"{case}.nii.gz")
        assert len(np.unique(segmentation)) > 1
        assert np.array_equal(segmentation, read(expected / "False" / f"{case}.nii.gz"))
        probabilities = np.load(expected / "True" / f"{case}.npz")["probabilities"]
        folders = sorted((output / "probability").iterdir())
        assert len(folders) == len(probabilities)
        for folder, channel in zip(folders, probabilities, strict=True):
            np.testing.assert_allclose(read(folder / f"{case}.nii.gz"), channel, rtol=1e-6)


def test_step_size_and_mirroring_are_those_asked_for(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    model, cases = model_folder(), images(num_cases=1)
    settings = PredictionSettings(folds=(0,), device="cpu", tile_step_size=1.0, use_mirroring=False)
    output = run(cases, tmp_path / "ours", model, settings)
    expected = stock(cases, tmp_path / "stock", model, tile_step_size=1.0, use_mirroring=False)
    probability = np.load(expected / "True" / "case_0.npz")["probabilities"][1]
    np.testing.assert_allclose(read(output / "probability" / "1_organ" / "case_0.nii.gz"), probability, rtol=1e-6)


def test_a_timesteps_segmentation_is_that_of_a_model_of_this_timestep_alone(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    # The noise of the first timestep is the same in both; that of later ones depends on their position.
    model, cases = model_folder(options={"ensemble.timesteps": (50, 1, 400)}), images()
    output = run(cases, tmp_path / "ours", model)
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"]["diffusion"]["ensemble"]["timesteps"] = [50]
    (model / "plans.json").write_text(json.dumps(plans))
    expected = stock(cases, tmp_path / "stock", model)
    assert sorted(path.name for path in (output / "timesteps").iterdir()) == ["t001", "t050", "t400"]
    for case in ("case_0", "case_1"):
        found = read(output / "timesteps" / "t050" / f"{case}.nii.gz")
        assert np.array_equal(found, read(expected / "True" / f"{case}.nii.gz"))


def test_chosen_timesteps_are_those_of_stock_prediction_with_such_plans(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model, cases = model_folder(options={"ensemble.timesteps": (1, 50, 400)}), images(num_cases=1)
    output = run(cases, tmp_path / "ours", model, PredictionSettings(folds=(0,), device="cpu", timesteps=(400, 1)))
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"]["diffusion"]["ensemble"]["timesteps"] = [400, 1]
    (model / "plans.json").write_text(json.dumps(plans))
    expected = np.load(stock(cases, tmp_path / "stock", model) / "True" / "case_0.npz")["probabilities"][1]
    np.testing.assert_allclose(read(output / "probability" / "1_organ" / "case_0.nii.gz"), expected, rtol=1e-6)
    assert sorted(path.name for path in (output / "timesteps").iterdir()) == ["t001", "t400"]


def test_maps_lie_where_the_image_does(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    output, cases = tmp_path / "out", images(num_cases=1)
    run(cases, output, model_folder(labels=THREE))
    image = sitk.ReadImage(str(cases / "case_0_0000.nii.gz"))
    maps = [path for path in output.rglob("case_0.nii.gz") if path.parent != output]
    assert len(maps) == 3 + 3 + 1 + 1  # classes, timesteps, entropy, mutual information
    for file in maps:
        found = sitk.ReadImage(str(file))
        assert found.GetSize() == image.GetSize()
        for get in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(found, get)(), getattr(image, get)(), atol=1e-6)


def test_folders_of_classes_have_names_that_shells_take(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    output = run(images(num_cases=1), tmp_path / "out", model_folder(labels=THREE))
    names = sorted(path.name for path in (output / "probability").iterdir())
    assert names == ["0_background", "1_lung_left_right", "2_heart"]


# ---- uncertainty


@pytest.fixture
def one_tile(tmp_path: Path) -> Path:
    """An image of the size of the patch, of variance 1, which preprocessing leaves as it is."""
    values = np.random.RandomState(3).standard_normal((1, 16, 16))
    values = (values - values.mean()) / values.std()
    volume = sitk.GetImageFromArray(values.astype(np.float32))
    volume.SetSpacing((1.0, 1.0, 999.0))
    (tmp_path / "tile").mkdir()
    sitk.WriteImage(volume, str(tmp_path / "tile" / "case_0_0000.nii.gz"))
    return tmp_path / "tile"


@torch.no_grad()
def test_maps_and_numbers_of_one_tile_follow_from_the_logits_of_the_timesteps(
    one_tile: Path, model_folder: Callable, tmp_path: Path
) -> None:
    model = model_folder(labels=THREE)
    output = run(one_tile, tmp_path / "out", model, PredictionSettings(folds=(0,), use_mirroring=False, device="cpu"))
    image = torch.from_numpy(read(one_tile / "case_0_0000.nii.gz"))[None]
    network = read_model(model, CPU).module.network
    p = network.timestep_logits(image).softmax(2)[:, 0].double().numpy()
    mean = p.mean(0)
    entropy = -(mean * np.log(mean)).sum(0) / np.log(3)
    information = entropy + (p * np.log(p)).sum(1).mean(0) / np.log(3)
    np.testing.assert_allclose(read(output / "entropy" / "case_0.nii.gz")[0], entropy, atol=1e-2)
    np.testing.assert_allclose(read(output / "mutual_information" / "case_0.nii.gz")[0], information, atol=1e-2)
    row, foreground = table(output)["case_0"], mean.argmax(0) > 0
    assert int(row["foreground_voxels"]) == foreground.sum()
    for name, values in (("entropy", entropy), ("mutual_information", information)):
        assert float(row[name]) == pytest.approx(values.mean(), abs=1e-3)
        assert float(row[f"{name}_foreground"]) == pytest.approx(values[foreground].mean(), abs=2e-3)


def test_the_denoising_error_is_the_mean_over_folds_and_timesteps(
    one_tile: Path, model_folder: Callable, tmp_path: Path
) -> None:
    # A network that predicts no noise at all has the noise's mean square over alpha-bar.
    model = model_folder(options={"denoiser.prediction_type": "epsilon"}, folds=(0, 1))
    gains = {0: 0.0, 1: 1.0}
    for fold in gains:
        file = model / f"fold_{fold}" / "checkpoint_final.pth"
        checkpoint = torch.load(file, weights_only=False)
        weights = checkpoint["network_weights"]
        weights["denoiser.unet.output.weight"].zero_()
        weights["denoiser.unet.output.bias"].fill_(gains[fold])
        torch.save(checkpoint, file)
    row = table(run(one_tile, tmp_path / "out", model, PredictionSettings(folds=(0, 1), device="cpu")))["case_0"]
    noise = np.random.RandomState(12345).standard_normal((5, 16, 16))
    alpha_bar = read_model(model, CPU).module.network.denoiser.schedule.alpha_bar
    expected = [
        np.mean([np.mean((noise[i] - gain) ** 2) for gain in gains.values()]) / alpha_bar[t].item()
        for i, t in enumerate((50, 200, 400, 600, 800))
    ]
    found = [float(row[f"denoising_error_t{t}"]) for t in (50, 200, 400, 600, 800)]
    assert found == pytest.approx(expected, rel=2e-3)
    assert float(row["denoising_error"]) == pytest.approx(np.mean(expected), rel=2e-3)


def test_of_a_fine_tuned_denoiser_the_error_is_that_of_what_it_was_before(
    one_tile: Path, model_folder: Callable, tmp_path: Path
) -> None:
    both = PredictionSettings(folds=(0, 1), device="cpu")
    frozen = model_folder(name="frozen", folds=(0, 1))
    tuned = model_folder(name="tuned", folds=(0, 1), options={"training.fine_tune_denoiser": True})
    assert table(run(one_tile, tmp_path / "unknown", tuned, both))["case_0"]["denoising_error"] == ""
    for fold in both.folds:
        file = tuned / f"fold_{fold}" / "checkpoint_final.pth"
        before = torch.load(frozen / f"fold_{fold}" / file.name, weights_only=False)["network_weights"]
        checkpoint = torch.load(file, weights_only=False)
        weights = {name: value * 1.1 for name, value in before.items() if value.is_floating_point()}
        checkpoint["network_weights"] |= {name: v for name, v in weights.items() if name.startswith("denoiser.unet")}
        torch.save(checkpoint | {BEFORE_FINE_TUNING: denoiser_weights(before)}, file)
    expected = table(run(one_tile, tmp_path / "frozen", frozen, both))["case_0"]["denoising_error"]
    assert table(run(one_tile, tmp_path / "tuned", tuned, both))["case_0"]["denoising_error"] == expected


def test_another_denoiser_may_be_measured(one_tile: Path, model_folder: Callable, tmp_path: Path) -> None:
    model, other = model_folder(), model_folder(name="other", folds=("all", 0))
    file = other / "fold_0" / "checkpoint_final.pth"
    expected = table(run(one_tile, tmp_path / "b", other))["case_0"]["denoising_error"]
    found = table(run(one_tile, tmp_path / "a", model, denoiser=str(file)))["case_0"]["denoising_error"]
    own = table(run(one_tile, tmp_path / "c", model))["case_0"]["denoising_error"]
    assert found == expected != own


def test_a_model_without_timesteps_gives_probability_and_entropy(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model, cases = model_folder(nnUNetTrainer), images(num_cases=1)
    output = run(cases, tmp_path / "ours", model)
    expected = stock(cases, tmp_path / "stock", model, nnUNetTrainer)
    assert np.array_equal(read(output / "case_0.nii.gz"), read(expected / "False" / "case_0.nii.gz"))
    folders = {path.name for path in output.iterdir() if path.is_dir()}
    assert folders == {"probability", "entropy", "scores"}
    row = table(output)["case_0"]
    assert float(row["entropy"]) > 0
    assert row["mutual_information"] == row["timestep_dice"] == row["denoising_error"] == ""


def test_one_timestep_alone_has_nothing_to_disagree_with(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    output = run(images(num_cases=1), tmp_path / "out", model_folder(options={"ensemble.timesteps": (50,)}))
    assert not (output / "mutual_information").exists()
    row = table(output)["case_0"]
    assert row["mutual_information"] == row["timestep_dice"] == ""
    assert float(row["denoising_error"]) > 0


def test_pictures_get_maps_as_float_tiff(model_folder: Callable, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    pixels = np.random.RandomState(0).randint(0, 255, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "case_0_0000.png")  # three channels in one file
    model = model_folder(reader="NaturalImage2DIO", file_ending=".png", channels=3)
    output = run(tmp_path / "images", tmp_path / "out", model)
    entropy = np.asarray(Image.open(output / "entropy" / "case_0.tif"))
    assert (entropy.shape, entropy.dtype) == ((20, 24), np.float32)
    assert 0 < entropy.max() <= 1
    assert np.asarray(Image.open(output / "timesteps" / "t050" / "case_0.png")).shape == (20, 24)
