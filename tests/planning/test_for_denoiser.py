"""Planning a labelled data set for a denoiser that was trained elsewhere."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planning_data import make_dataset

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.denoiser.pretrained import read_pretrained
from nnunet_diffusion_ensemble.method import DenoiserSettings, DiffusionMethod
from nnunet_diffusion_ensemble.planning import single
from nnunet_diffusion_ensemble.planning.for_denoiser import (
    DenoiserPlanner,
    for_channels,
    refuse_contradictions,
    refuse_incomplete,
)
from nnunet_diffusion_ensemble.planning.options import PlanningOptions
from nnunet_diffusion_ensemble.training.denoising_network import PretrainingNetwork

CT_NUMBERS = {"mean": -50.0, "std": 300.0, "percentile_00_5": -990.0, "percentile_99_5": 800.0}
PATCHES = {"2d": [64, 48], "3d": [16, 32, 32]}
SPACINGS = {"2d": [0.8, 0.6], "3d": [2.0, 0.8, 0.6]}


@pytest.fixture
def save_denoiser(architecture: Callable, tmp_path: Path) -> Callable[..., Path]:
    """Writes the checkpoint of a pretraining on CT; further arguments change its configuration in the plans."""

    def save(
        name: str = "2d",
        channels: int = 1,
        settings: DenoiserSettings | None = None,
        reader: str = "SimpleITKIO",
        transpose: tuple[list[int], list[int]] = ([0, 1, 2], [0, 1, 2]),
        iterations: int = 7,
        **changes: Any,
    ) -> Path:
        settings = settings or DenoiserSettings(
            num_diffusion_steps=900, schedule="linear", prediction_type="epsilon", input_scale=(0.5,)
        )
        made = architecture(name)
        configuration = {
            "architecture": made,
            "patch_size": PATCHES[name],
            "spacing": SPACINGS[name],
            "median_image_size_in_voxels": PATCHES[name],
            "normalization_schemes": ["ZScoreNormalization"] * channels,
            "use_mask_for_norm": [False] * channels,
            "diffusion": DiffusionMethod().to_plans() | {"denoiser": settings.to_json(), "mirror_axes": [1]},
        }
        plans = {
            "image_reader_writer": reader,
            "transpose_forward": transpose[0],
            "transpose_backward": transpose[1],
            "foreground_intensity_properties_per_channel": {str(i): CT_NUMBERS for i in range(channels)},
            "configurations": {name: configuration | changes},
        }
        network = PretrainingNetwork(made, channels, settings)
        network.denoiser.trained_iterations.fill_(iterations)
        checkpoint = {
            "network_weights": network.state_dict(),
            "init_args": {"plans": plans, "configuration": name},
            "trainer_name": "DiffusionPretrainTrainer",
        }
        torch.save(checkpoint, tmp_path / "denoiser.pth")
        return tmp_path / "denoiser.pth"

    return save


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Plans a data set of volumes for a denoiser by the command; returns the plans."""

    def planned(
        denoiser: Path,
        channels: dict[str, str] | None = None,
        shape: tuple[int, int, int] = (24, 80, 70),
        spacing: tuple[float, float, float] = (3.0, 1.0, 1.0),
        labels: dict | None = None,
        options: tuple[object, ...] = (),
    ) -> dict:
        name = make_dataset(tmp_path, monkeypatch, channels or {"0": "MRI"}, shape, spacing, labels)
        file = tmp_path / "preprocessed" / name / "nnUNetDiffusionEnsemblePlans.json"
        file.write_text('{"configurations": {"3d_lowres": {}}}')  # older plans of this name
        assert main(["plan", "-d", "1", "--denoiser", str(denoiser), *map(str, options)]) == 0
        return json.loads(file.read_text())

    return planned


def test_denoiser_decides_topology_patch_process_and_mirroring(save_denoiser, architecture, plan) -> None:
    file = save_denoiser()
    plans = plan(file, options=("--timesteps", 1, 50, "--epochs", 7))
    assert list(plans["configurations"]) == ["2d"]  # not those of older plans, whose spacing may be another
    planned = plans["configurations"]["2d"]
    assert planned["architecture"] == architecture("2d")
    assert planned["patch_size"] == [64, 48]
    method = DiffusionMethod.from_plans(planned)
    assert method.denoiser == DenoiserSettings(
        num_diffusion_steps=900, schedule="linear", prediction_type="epsilon", input_scale=(0.5,), input_shift=(0.0,)
    )
    assert method.pretrained_checkpoint == str(file.resolve())
    assert method.mirror_axes == (1,)
    assert (method.ensemble.timesteps, method.training.num_epochs) == ((1, 50), 7)


def test_a_short_diffusion_process_can_be_planned_for(save_denoiser, plan) -> None:
    planned = plan(save_denoiser(settings=DenoiserSettings(num_diffusion_steps=60)))["configurations"]["2d"]
    # 1, 10, 25, 50 and 25, 100, 250, 500 of 1000 steps, times 0.06
    assert planned["diffusion"]["ensemble"]["timesteps"] == [0, 1, 2, 3]
    assert planned["diffusion"]["pretraining"]["timestep_bands"] == [2, 6, 15, 30]


def test_images_get_the_spacing_of_the_denoisers_in_mm(save_denoiser, plan) -> None:
    planned = plan(save_denoiser("3d"))["configurations"]["3d_fullres"]
    assert planned["spacing"] == [2.0, 0.8, 0.6]
    # (24, 80, 70) voxels of (3, 1, 1) mm
    assert planned["median_image_size_in_voxels"] == [36, 100, 117]
    assert planned["data_identifier"] == "nnUNetDiffusionEnsemblePlans_3d_fullres"


def test_no_time_is_spent_on_a_low_resolution_that_the_plans_leave_out(save_denoiser, plan, monkeypatch) -> None:
    # Patches of 16 x 32 x 32 cover 4% of 36 x 100 x 117 voxels; below 25% nnU-Net plans 3d_lowres.
    planned, name_of = [], DenoiserPlanner.generate_data_identifier
    monkeypatch.setattr(
        DenoiserPlanner, "generate_data_identifier", lambda self, name: planned.append(name) or name_of(self, name)
    )
    plan(save_denoiser("3d"))
    assert planned == ["3d_fullres", "2d"]


def test_axes_are_taken_in_the_order_of_the_denoiser(save_denoiser, plan) -> None:
    # The denoiser's first axis is the image's second, so that its spacing (2, 0.8, 0.6) is (0.8, 2, 0.6) in the file.
    plans = plan(save_denoiser("3d", transpose=([1, 0, 2], [1, 0, 2])), spacing=(1.0, 1.0, 1.0))
    assert plans["transpose_forward"] == [1, 0, 2]
    planned = plans["configurations"]["3d_fullres"]
    assert planned["spacing"] == [2.0, 0.8, 0.6]
    assert planned["median_image_size_in_voxels"] == [40, 30, 117]  # 80 / 2, 24 / 0.8, 70 / 0.6


def test_with_equal_spacing_and_normalisation_nnunets_preprocessed_data_is_shared(save_denoiser, plan) -> None:
    planned = plan(save_denoiser(spacing=[1.0, 1.0]))["configurations"]["2d"]
    assert planned["data_identifier"] == "nnUNetPlans_2d"


@pytest.mark.parametrize(
    "changes", [{"use_mask_for_norm": [True]}, {"normalization_schemes": ["RescaleTo01Normalization"]}]
)
def test_with_another_normalisation_they_are_not(changes: dict, save_denoiser, plan, caplog) -> None:
    planned = plan(save_denoiser(spacing=[1.0, 1.0], **changes))["configurations"]["2d"]
    assert planned["data_identifier"] == "nnUNetDiffusionEnsemblePlans_2d"
    assert {key: planned[key] for key in changes} == changes
    told = "normalised as the denoiser's images were: RescaleTo01Normalization, not ZScore" in caplog.text
    assert told is ("normalization_schemes" in changes)


def test_pixels_without_a_size_in_mm_keep_nnunets_spacing(save_denoiser, plan, caplog) -> None:
    planned = plan(save_denoiser(reader="NaturalImage2DIO"))["configurations"]["2d"]
    assert planned["spacing"] == [1.0, 1.0]
    assert "Only pixels of Dataset001_Made have a size in mm" in caplog.text


@pytest.mark.parametrize("size", [[60, 48], [56, 47]])  # ours, 80 x 70 pixels, is less than 1.5 times as large
def test_without_mm_images_about_as_large_as_those_of_the_denoiser_are_left_alone(save_denoiser, plan, caplog, size):
    planned = plan(save_denoiser(reader="NaturalImage2DIO", median_image_size_in_voxels=size))["configurations"]["2d"]
    assert planned["spacing"] == [1.0, 1.0]
    assert planned["data_identifier"] == "nnUNetPlans_2d"
    assert "The denoiser was trained on" not in caplog.text


def test_without_mm_whole_images_become_as_large_as_those_of_the_denoiser(save_denoiser, plan, caplog) -> None:
    file = save_denoiser(reader="NaturalImage2DIO", median_image_size_in_voxels=[40, 28])
    planned = plan(file)["configurations"]["2d"]
    assert planned["spacing"] == [2.0, 2.5]  # 80 / 40, 70 / 28
    assert planned["median_image_size_in_voxels"] == [40, 28]
    assert planned["patch_size"] == [64, 48]
    assert planned["data_identifier"] == "nnUNetDiffusionEnsemblePlans_2d"
    assert "images of 40 x 28 pixels, those of Dataset001_Made have 80 x 70: they are resampled" in caplog.text


def test_it_is_said_what_labels_lose_at_the_size_of_the_denoiser(save_denoiser, plan, caplog, monkeypatch) -> None:
    square = np.zeros((1, 80, 70), np.uint8)
    square[:, 20:60, 20:50] = 1  # edges of pixels twice as high and five halves as wide, too
    monkeypatch.setattr(single, "label_maps", lambda *where: [square])
    file = save_denoiser(reader="NaturalImage2DIO", median_image_size_in_voxels=[40, 28])
    plan(file, shape=(1, 80, 70), spacing=(999.0, 1.0, 1.0))
    assert "should show the same field of view; your labels keep a Dice of 1.000. Masks are predicted" in caplog.text


def test_without_mm_images_larger_than_its_patches_leave_open_how_large_ours_should_be(
    save_denoiser, plan, caplog
) -> None:
    file = save_denoiser(reader="NaturalImage2DIO", median_image_size_in_voxels=[300, 250])
    assert plan(file)["configurations"]["2d"]["spacing"] == [1.0, 1.0]
    assert "patches of images of 300 x 250 pixels" in caplog.text
    assert "--image-size 300" in caplog.text


def test_the_user_may_say_how_large_images_without_mm_should_be(save_denoiser, plan, caplog) -> None:
    file = save_denoiser(reader="NaturalImage2DIO", median_image_size_in_voxels=[40, 28])
    planned = plan(file, shape=(1, 80, 70), spacing=(999.0, 1.0, 1.0), options=("--image-size", 20))
    assert planned["configurations"]["2d"]["spacing"] == [4.0, 4.0]
    assert "resampled" not in caplog.text


def test_ct_is_normalised_with_the_numbers_of_the_denoiser(save_denoiser, plan) -> None:
    file = save_denoiser(spacing=[1.0, 1.0], normalization_schemes=["CTNormalization"])
    plans = plan(file, channels={"0": "CT"})
    assert plans["foreground_intensity_properties_per_channel"]["0"] == CT_NUMBERS
    assert plans["configurations"]["2d"]["data_identifier"] == "nnUNetDiffusionEnsemblePlans_2d"


def test_labels_are_those_of_the_data_set(save_denoiser, plan) -> None:
    plans = plan(save_denoiser(), labels={"background": 0, "whole": [1, 2], "part": 2})
    assert plans["configurations"]["2d"]["diffusion"]["ensemble"]["averaging"] == "sigmoid"


def test_other_channels_are_normalised_and_scaled_alike(save_denoiser, plan) -> None:
    planned = plan(save_denoiser(), channels={"0": "T1", "1": "T2"})["configurations"]["2d"]
    assert planned["normalization_schemes"] == ["ZScoreNormalization"] * 2
    assert planned["diffusion"]["denoiser"]["input_scale"] == [0.5, 0.5]


def test_batch_size_follows_nnunets_rule_for_the_denoisers_patch(save_denoiser, plan) -> None:
    # 20 cases of 24 x 100 x 117 pixels after resampling: 5% of them in patches of 64 x 48 are 91.
    assert plan(save_denoiser())["configurations"]["2d"]["batch_size"] == 91


def test_values_of_channels_are_repeated_only_if_they_are_equal() -> None:
    assert for_channels([1, 2], 2, "scale") == [1, 2]
    assert for_channels([3, 3], 1, "scale") == [3]
    assert for_channels([3], 2, "scale") == [3, 3]
    with pytest.raises(ValueError, match=r"2 channels that differ in scale \(1, 2\).*with 3 channel"):
        for_channels([1, 2], 3, "scale")


@pytest.mark.parametrize(
    ("denoiser", "dataset", "message"),
    [
        ({"name": "3d"}, {"shape": (1, 80, 70), "spacing": (999.0, 1.0, 1.0)}, "3D denoiser, but the images of .* 2D"),
        ({"iterations": 0}, {}, "has never been trained"),
        ({}, {"spacing": (1.0, 1.0, 5.0)}, r"slices are those along axis 0.*thick slices along axis 2"),
        ({}, {"channels": {"0": "CT"}, "options": ("--schedule", "cosine")}, "cannot be chosen: denoiser.schedule"),
        ({}, {"options": ("--base-features", 8, "--target-spacing", 1, 1, 1)}, "base_features, target_spacing"),
        (
            {},
            {"shape": (1, 80, 70), "spacing": (9.0, 1.0, 1.0), "options": ("--image-size", 20)},
            "in mm decides the size of images. Leave --image-size out",
        ),
        ({"normalization_schemes": ["CTNormalization"]}, {}, "fixed scale; channel 0 of .* has ZScoreNormalization"),
        (
            {"channels": 2, "normalization_schemes": ["ZScoreNormalization", "RescaleTo01Normalization"]},
            {},
            r"2 channels that differ in normalisation",
        ),
    ],
    ids=["dimension", "untrained", "slices", "schedule", "topology", "size", "CT", "channels"],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    denoiser: dict, dataset: dict, message: str, save_denoiser, tmp_path, monkeypatch, capsys
) -> None:
    options = dataset.pop("options", ())
    shown = {"channels": {"0": "MRI"}, "shape": (24, 80, 70), "spacing": (3.0, 1.0, 1.0)} | dataset
    name = make_dataset(tmp_path, monkeypatch, **shown)
    command = ["plan", "-d", "1", "--denoiser", str(save_denoiser(**denoiser)), *map(str, options)]
    assert main(command) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "preprocessed" / name / "nnUNetDiffusionEnsemblePlans.json").exists()


def test_no_second_denoiser_can_be_named() -> None:
    with pytest.raises(ValueError, match="cannot be chosen: pretrained_checkpoint"):
        refuse_contradictions(PlanningOptions(method={"pretrained_checkpoint": "another.pth"}))


def test_a_checkpoint_of_stock_nnunet_is_refused_by_its_trainer(tmp_path, capsys) -> None:
    torch.save({"network_weights": {}, "init_args": {}, "trainer_name": "nnUNetTrainer"}, tmp_path / "stock.pth")
    assert main(["plan", "-d", "1", "--denoiser", str(tmp_path / "stock.pth")]) == 2
    assert "holds no denoiser: it was written by nnUNetTrainer" in capsys.readouterr().err


class MakesFile:
    """When it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.write_text, (self.file, "code was run")


def test_plans_for_a_trusted_denoiser_name_a_copy_without_code(
    plan: Callable[..., dict], save_denoiser: Callable[..., Path], tmp_path: Path
) -> None:
    hostile = save_denoiser()
    checkpoint = torch.load(hostile, weights_only=True)
    torch.save(checkpoint | {"logging": MakesFile(tmp_path / "run")}, hostile)
    plans = plan(hostile, options=("--trust",))
    assert (tmp_path / "run").is_file()
    copy = Path(plans["configurations"]["2d"]["diffusion"]["pretrained_checkpoint"])
    assert copy.name == "nnUNetDiffusionEnsemblePlans_denoiser.pth"
    weights = torch.load(copy, weights_only=True)["network_weights"]
    assert all(torch.equal(value, checkpoint["network_weights"][name]) for name, value in weights.items())


def test_a_denoiser_whose_plans_do_not_say_how_images_were_preprocessed_is_refused(
    save_denoiser: Callable[..., Path], tmp_path: Path
) -> None:
    denoiser = save_denoiser()
    checkpoint = torch.load(denoiser, weights_only=True)
    del checkpoint["init_args"]["plans"]["image_reader_writer"]
    torch.save(checkpoint, denoiser)
    with pytest.raises(ValueError, match=r"plans in .*denoiser\.pth lack image_reader_writer, so nobody knows how"):
        refuse_incomplete(read_pretrained(denoiser))
