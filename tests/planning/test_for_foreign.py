"""Planning a labelled data set for a denoiser of another library."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from planning_data import make_dataset

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.denoiser.pretrained import load_into_network
from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.network.ensemble import TimestepEnsembleNetwork
from nnunet_diffusion_ensemble.planning import single as plan_single

Make = Callable[..., Any]
PLANS_NAME = "nnUNetDiffusionEnsemblePlans"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Plans a data set of volumes of 24 x 80 x 70 voxels by the command; returns the plans."""

    def planned(source: str, channels: dict[str, str] | None = None, options: tuple[object, ...] = ()) -> dict:
        name = make_dataset(tmp_path, monkeypatch, channels or {"0": "MRI"}, (24, 80, 70), (3.0, 1.0, 1.0))
        assert main(["plan", "-d", "1", "--denoiser", source, *map(str, options)]) == 0
        return json.loads((tmp_path / "preprocessed" / name / f"{PLANS_NAME}.json").read_text())

    return planned


def segmentation_network(planned: dict, channels: int) -> TimestepEnsembleNetwork:
    method = DiffusionMethod.from_plans(planned)
    return TimestepEnsembleNetwork(planned["architecture"], channels, 2, method, planned["patch_size"])


@pytest.mark.parametrize(("dimension", "configuration"), [(2, "2d"), (3, "3d_fullres")])
def test_a_monai_denoiser_is_planned_for_and_loaded(by_monai: Make, plan, randn, dimension, configuration) -> None:
    saved = by_monai(dimension)
    plans = plan(saved.source, options=("--timesteps", 1, 50, "--epochs", 7))
    assert list(plans["configurations"]) == [configuration]
    planned = plans["configurations"][configuration]
    method = DiffusionMethod.from_plans(planned)
    assert (method.ensemble.timesteps, method.training.num_epochs) == ((1, 50), 7)
    network = segmentation_network(planned, 1)
    assert load_into_network(network, Path(str(method.pretrained_checkpoint)), planned["architecture"]) is None
    images = randn(1, 1, *saved.size)
    # z-scores of -2 to 2 fill the model's [-1, 1]
    noised = network.denoiser.schedule.add_noise(images / 2, torch.zeros_like(images), torch.tensor([50]))
    found = network.denoiser.features(images, torch.zeros_like(images), torch.tensor([50]))
    torch.testing.assert_close(found, saved.features(noised, torch.tensor([50])))


def test_the_patch_is_the_size_of_the_images_that_the_denoiser_saw(by_monai: Make, plan) -> None:
    planned = plan(by_monai(further={"image_size": [48, 32]}).source)["configurations"]["2d"]
    assert planned["patch_size"] == [48, 32]
    assert planned["median_image_size_in_voxels"] == [80, 70]


def test_without_that_size_patch_and_spacing_are_nnunets_and_fit_both_networks(by_monai: Make, plan) -> None:
    source = by_monai(channels=[4, 4, 4, 6], num_res_blocks=1, attention_levels=[False] * 3 + [True]).source
    planned = plan(source)["configurations"]["2d"]  # halved three times
    strides = torch.tensor(planned["architecture"]["arch_kwargs"]["strides"]).prod(0).tolist()
    assert all(n % 8 == 0 and n % stride == 0 for n, stride in zip(planned["patch_size"], strides, strict=True))
    assert all(0 <= n - size < 16 for n, size in zip(planned["patch_size"], (80, 70), strict=True))
    assert planned["spacing"] == [1.0, 1.0]


@pytest.mark.parametrize(("size", "spacing"), [([64, 64], [1.0, 1.0]), ([40, 56], [2.0, 1.25])])
def test_without_mm_images_become_as_large_as_those_of_the_denoiser_if_it_saw_much_smaller_ones(
    by_monai: Make, plan, caplog, monkeypatch, size, spacing
) -> None:
    monkeypatch.setattr(plan_single, "WITHOUT_MM", ("SimpleITKIO",))
    planned = plan(by_monai(further={"image_size": size}).source)["configurations"]["2d"]
    assert planned["spacing"] == spacing  # 80 x 70 pixels
    assert planned["patch_size"] == size
    assert (planned["data_identifier"] == "nnUNetPlans_2d") is (size == [64, 64])
    assert ("they are resampled" in caplog.text) is (size != [64, 64])


def test_each_channel_is_scaled_by_its_own_normalisation(by_monai: Make, plan) -> None:
    planned = plan(by_monai().source, {"0": "MRI", "1": "rescale_to_0_1"})["configurations"]["2d"]
    method = DiffusionMethod.from_plans(planned)
    assert method.denoiser.input_scale == (0.5, 2.0)
    assert method.denoiser.input_shift == (0.0, -1.0)
    network = segmentation_network(planned, 2)
    load_into_network(network, Path(str(method.pretrained_checkpoint)), planned["architecture"])
    assert network.denoiser.input_scale.flatten().tolist() == [0.5, 2.0]


def test_plans_hold_the_config_and_no_path_of_the_model(by_diffusers: Make, plan) -> None:
    saved = by_diffusers(as_pipeline=True)
    planned = plan(saved.source)["configurations"]["2d"]
    assert planned["patch_size"] == [16, 16]
    assert planned["diffusion"]["denoiser"]["library"]["name"] == "diffusers"
    assert "by_diffusers" not in json.dumps(planned)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("tensorflow:model", "LIBRARY:PATH with diffusers, monai, guided_diffusion as library"),
        ("monai:/nowhere", "/nowhere"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_is_written(source, told, capsys, tmp_path, monkeypatch) -> None:
    make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (24, 80, 70), (3.0, 1.0, 1.0))
    assert main(["plan", "-d", "1", "--denoiser", source]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.glob(f"preprocessed/*/{PLANS_NAME}*"))


def test_options_that_the_denoiser_decides_are_refused(by_monai: Make, capsys) -> None:
    assert main(["plan", "-d", "1", "--denoiser", by_monai().source, "--schedule", "cosine"]) == 2
    assert "come from the denoiser and cannot be chosen: denoiser.schedule" in capsys.readouterr().err


def test_a_3d_denoiser_of_2d_images_is_refused(by_monai: Make, tmp_path, monkeypatch, capsys) -> None:
    make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (1, 80, 70), (3.0, 1.0, 1.0))
    assert main(["plan", "-d", "1", "--denoiser", by_monai(3).source]) == 2
    assert "is a 3D denoiser, but the images of Dataset001_Made are 2D" in capsys.readouterr().err
