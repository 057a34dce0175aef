"""Denoisers of diffusers and MONAI inside our networks, against the libraries themselves."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import SavedByLibrary
from torch import Tensor

from nnunet_diffusion_ensemble.denoiser.foreign.denoiser import ForeignDenoiser, read_foreign
from nnunet_diffusion_ensemble.denoiser.model import FineTunedDenoiser, FrozenDenoiser
from nnunet_diffusion_ensemble.denoiser.noise import fixed_noise
from nnunet_diffusion_ensemble.denoiser.pretrained import read_pretrained
from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.network.ensemble import TimestepEnsembleNetwork
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer

Randn = Callable[..., Tensor]
Make = Callable[..., SavedByLibrary]
TIMESTEPS = torch.tensor([3, 700])

MODELS: dict[str, tuple[str, tuple, dict[str, Any]]] = {
    "diffusers": ("by_diffusers", (), {}),
    "diffusers pipeline": ("by_diffusers", ({"beta_schedule": "squaredcos_cap_v2"}, True), {}),
    "diffusers zero terminal SNR": (
        "by_diffusers",
        ({"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},),
        {"in_channels": 3, "out_channels": 3},
    ),
    "diffusers residual resampling": (
        "by_diffusers",
        ({"prediction_type": "sample", "trained_betas": [0.001 * i for i in range(1, 801)]},),
        {"downsample_type": "resnet", "upsample_type": "resnet", "resnet_time_scale_shift": "scale_shift"},
    ),
    "diffusers learned variance": (
        "by_diffusers",
        ({"variance_type": "learned_range"},),
        {
            "in_channels": 2,
            "out_channels": 4,
            "up_block_types": ("ResnetUpsampleBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        },
    ),
    "monai 2d": ("by_monai", (2, {"schedule": "scaled_linear_beta", "beta_start": 0.0005, "beta_end": 0.0195}), {}),
    "monai 3d": ("by_monai", (3, {"schedule": "cosine", "prediction_type": "v_prediction"}), {}),
    "monai 3d residual resampling": ("by_monai", (3,), {"resblock_updown": True, "in_channels": 2, "out_channels": 2}),
}


@pytest.fixture
def saved(request: pytest.FixtureRequest) -> SavedByLibrary:
    name, args, kwargs = MODELS[request.param]
    return request.getfixturevalue(name)(*args, **kwargs)


every_model = pytest.mark.parametrize("saved", MODELS, indirect=True)


def frozen(foreign: ForeignDenoiser) -> FrozenDenoiser:
    """The denoiser inside our network, its settings gone through the plans' JSON."""
    plans = json.loads(json.dumps(DiffusionMethod().with_options({"denoiser": foreign.settings.to_json()}).to_plans()))
    denoiser = FrozenDenoiser({}, foreign.channels, DiffusionMethod.from_plans({"diffusion": plans}).denoiser)
    denoiser.load_state_dict(dict(foreign.state_dict))
    return denoiser


# ---- against the libraries


@every_model
def test_features_are_those_that_forward_hooks_in_the_library_see(saved: SavedByLibrary, randn: Randn) -> None:
    foreign = read_foreign(saved.source).for_images([0.5] * saved.channels, [0.25] * saved.channels)
    images, noise = (randn(2, saved.channels, *saved.size) for _ in range(2))
    denoiser = frozen(foreign).train()
    found = denoiser.features(images.requires_grad_(), noise, TIMESTEPS)
    noisy = saved.scheduler.add_noise(0.5 * images.detach() + 0.25, noise, TIMESTEPS)
    torch.testing.assert_close(found, saved.features(noisy, TIMESTEPS))
    assert denoiser.unet.feature_channels == tuple(level.shape[1] for level in found)
    assert found[-1].shape[2:] == saved.size
    assert not any(level.requires_grad for level in found)
    assert not any(module.training for module in denoiser.modules())


@every_model
def test_prediction_is_that_of_the_library(saved: SavedByLibrary, randn: Randn) -> None:
    noisy = randn(2, saved.channels, *saved.size)
    with torch.no_grad():
        expected = saved.model(noisy, TIMESTEPS)
        expected = expected if isinstance(expected, Tensor) else expected.sample
        found = frozen(read_foreign(saved.source)).unet(noisy, TIMESTEPS)
    torch.testing.assert_close(found, expected[:, : saved.channels])


@every_model
def test_noising_is_that_of_the_librarys_scheduler_at_every_timestep(saved: SavedByLibrary, randn: Randn) -> None:
    schedule = frozen(read_foreign(saved.source)).schedule
    timesteps = torch.arange(len(saved.scheduler.betas))
    images, noise = (randn(len(timesteps), 1, 2, 2) for _ in range(2))
    expected = saved.scheduler.add_noise(images, noise, timesteps)
    torch.testing.assert_close(schedule.add_noise(images, noise, timesteps), expected)


@pytest.mark.parametrize("saved", ["diffusers zero terminal SNR", "monai 3d"], indirect=True)
def test_velocity_is_that_of_the_librarys_scheduler(saved: SavedByLibrary, randn: Randn) -> None:
    schedule = frozen(read_foreign(saved.source)).schedule
    images, noise = randn(2, 1, 4, 4), randn(2, 1, 4, 4)
    expected = saved.scheduler.get_velocity(images, noise, TIMESTEPS)
    torch.testing.assert_close(schedule.target(images, noise, TIMESTEPS), expected)


@every_model
def test_fine_tuned_every_weight_before_the_output_gets_a_gradient(saved: SavedByLibrary, randn: Randn) -> None:
    foreign = read_foreign(saved.source)
    denoiser = FineTunedDenoiser({}, foreign.channels, foreign.settings).train()
    denoiser.load_state_dict(dict(foreign.state_dict))
    images, noise = (randn(2, foreign.channels, *saved.size) for _ in range(2))
    levels = denoiser.features(images, noise, TIMESTEPS)
    torch.stack([level.square().mean() for level in levels]).sum().backward()
    learns = {name for name, p in denoiser.named_parameters() if p.requires_grad}
    assert {name for name, p in denoiser.named_parameters() if p.grad is not None} == learns
    frozen = {name.removeprefix("unet.model.").split(".")[0] for name, _ in denoiser.named_parameters()} - {
        name.removeprefix("unet.model.").split(".")[0] for name in learns
    }
    assert frozen in ({"conv_norm_out", "conv_out"}, {"out"})


@pytest.mark.parametrize("saved", ["diffusers", "monai 3d"], indirect=True)
def test_the_ensemble_is_the_mean_over_timesteps_of_the_head_on_the_librarys_features(
    saved: SavedByLibrary, randn: Randn, randomise: Callable
) -> None:
    foreign = read_foreign(saved.source)
    method = DiffusionMethod().with_options({"denoiser": foreign.settings.to_json(), "ensemble.timesteps": (1, 50)})
    network = TimestepEnsembleNetwork({}, 1, 2, method, saved.size)
    randomise(network.head)
    network.denoiser.load_state_dict(dict(foreign.state_dict))
    images = randn(1, 1, *saved.size)
    noise = fixed_noise(12345, (2, 1, 1, *saved.size))
    probabilities = []
    with torch.no_grad():
        for k, t in enumerate((1, 50)):
            noisy = saved.scheduler.add_noise(images, noise[k], torch.tensor([t]))
            probabilities.append(network.eval().head(saved.features(noisy, torch.tensor([t]))).softmax(1))
        found = network(images)
    torch.testing.assert_close(found.exp(), torch.stack(probabilities).mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("saved", ["diffusers", "monai 2d"], indirect=True)
def test_no_feature_is_kept_and_no_hook_stays_after_a_call(saved: SavedByLibrary, randn: Randn) -> None:
    unet = frozen(read_foreign(saved.source)).unet
    with pytest.raises(RuntimeError):  # the library's own, for a wrong number of channels
        unet.features(randn(1, 7, *saved.size), TIMESTEPS[:1])
    unet.features(randn(1, 1, *saved.size), TIMESTEPS[:1])
    assert not any(module._forward_pre_hooks for module in unet.modules())


@pytest.mark.parametrize("saved", ["diffusers", "monai 2d"], indirect=True)
def test_under_autocast_features_differ_by_rounding_only(saved: SavedByLibrary, randn: Randn) -> None:
    denoiser = frozen(read_foreign(saved.source))
    images, noise = randn(2, 1, *saved.size), randn(2, 1, *saved.size)
    exact = denoiser.features(images, noise, TIMESTEPS)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = denoiser.features(images, noise, TIMESTEPS)
    for one, other in zip(exact, rounded, strict=True):
        assert (one - other.float()).std() < 0.1 * one.std()


# ---- channels and scaling


@pytest.mark.parametrize("saved", ["diffusers zero terminal SNR"], indirect=True)
def test_grey_images_give_an_rgb_model_what_grey_rgb_images_gave_it(
    saved: SavedByLibrary, randn: Randn, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        grey = frozen(read_foreign(saved.source).for_images([2.0], [-1.0]))
    assert "trained on images of 3 channels, these have 1" in caplog.text
    noisy = randn(2, 1, *saved.size)
    repeated = noisy.expand(-1, 3, -1, -1)
    with torch.no_grad():
        found = grey.unet.features(noisy, TIMESTEPS)
        torch.testing.assert_close(found, saved.features(repeated, TIMESTEPS), rtol=1e-4, atol=1e-4)
        mean = saved.model(repeated, TIMESTEPS).sample.mean(1, keepdim=True)
        torch.testing.assert_close(grey.unet(noisy, TIMESTEPS), mean, rtol=1e-4, atol=1e-4)
    assert (grey.input_scale.item(), grey.input_shift.item()) == (2, -1)


def test_scaling_of_each_channel_is_in_the_plans_and_in_the_weights(by_monai: Make) -> None:
    foreign = read_foreign(by_monai(in_channels=2, out_channels=2).source).for_images([2.0, 0.5], [-1.0, 0.0])
    assert (foreign.settings.input_scale, foreign.settings.input_shift) == ((2.0, 0.5), (-1.0, 0.0))
    assert foreign.state_dict["input_scale"].shape == (1, 2, 1, 1)
    assert foreign.state_dict["input_shift"].flatten().tolist() == [-1, 0]


def test_what_planning_needs_is_read(by_monai: Make) -> None:
    further = {"image_range": [0, 1], "image_size": [8, 8, 8]}
    foreign = read_foreign(by_monai(3, {"num_train_timesteps": 300, "prediction_type": "sample"}, further).source)
    assert (foreign.channels, foreign.dimension, foreign.divisors) == (1, 3, (2, 2, 2))
    assert (foreign.image_range, foreign.native_size) == ((0, 1), (8, 8, 8))
    settings = foreign.settings
    assert (settings.num_diffusion_steps, settings.schedule) == (300, "checkpoint")
    assert settings.prediction_type == "sample"
    assert foreign.state_dict["intensity_range"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1000, (1, 10, 25, 50, 200, 400, 600, 800)), (4000, (4, 40, 100, 200, 800, 1600, 2400, 3200)), (2, (0, 1))],
)
def test_timesteps_are_as_far_on_the_way_as_the_published_ones(length: int, expected: tuple, by_monai: Make) -> None:
    foreign = read_foreign(by_monai(2, {"num_train_timesteps": length}).source)
    assert DiffusionMethod().with_options({"denoiser": foreign.settings.to_json()}).ensemble.timesteps == expected


def test_planning_learns_size_and_divisors_of_a_diffusers_model(by_diffusers: Make) -> None:
    foreign = read_foreign(by_diffusers().source)
    assert (foreign.dimension, foreign.divisors) == (2, (4, 4))
    assert (foreign.native_size, foreign.image_range) == ((16, 16), (-1, 1))


def test_a_patch_that_the_unet_cannot_halve_is_refused(by_diffusers: Make) -> None:
    method = DiffusionMethod().with_options({"denoiser": read_foreign(by_diffusers().source).settings.to_json()})
    with pytest.raises(ValueError, match="images of multiples of 4 x multiples of 4, not 18 x 16"):
        TimestepEnsembleNetwork({}, 1, 2, method, (18, 16))


# ---- through nnU-Net's trainer and checkpoints


@pytest.mark.parametrize("saved", ["diffusers", "monai 2d"], indirect=True)
def test_a_trained_head_predicts_without_the_folder_that_its_denoiser_came_from(
    saved: SavedByLibrary, make_trainer: Callable, randn: Randn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = read_foreign(saved.source).for_images([0.5], [0.0])
    options = {"denoiser": foreign.settings.to_json(), "pretrained_checkpoint": str(tmp_path / "foreign.pth")}
    trainer = make_trainer(DiffusionEnsembleTrainer, options)
    foreign.save_checkpoint(tmp_path / "foreign.pth", trainer.plans_manager.plans, "2d")
    monkeypatch.setattr("nnunet_diffusion_ensemble.training.trainer.nnUNetTrainer.on_train_start", lambda self: None)
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    trainer.train_step({"data": randn(2, 1, 16, 16), "target": (randn(2, 1, 16, 16) > 0).float()})
    trainer.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))

    shutil.rmtree(saved.source.partition(":")[2])
    (tmp_path / "foreign.pth").unlink()
    checkpoint = torch.load(tmp_path / "checkpoint_final.pth", weights_only=False)
    plans = checkpoint["init_args"]["plans"] | {"continue_training": False}  # which nnU-Net's trainer takes out
    fresh = DiffusionEnsembleTrainer(plans, "2d", 0, trainer.dataset_json, trainer.device)
    fresh.initialize()
    fresh.load_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    images = randn(2, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(fresh.network.eval()(images), trainer.network.eval()(images))
    log = Path(trainer.log_file).read_text()
    assert f"Denoiser: {tmp_path / 'foreign.pth'}, trained elsewhere" in log


def test_a_written_checkpoint_is_read_like_one_of_our_pretraining(
    by_monai: Make, make_trainer: Callable, tmp_path: Path, randn: Randn
) -> None:
    saved = by_monai()
    foreign = read_foreign(saved.source)
    trainer = make_trainer(DiffusionEnsembleTrainer, {"denoiser": foreign.settings.to_json()})
    foreign.save_checkpoint(tmp_path / "foreign.pth", trainer.plans_manager.plans, "2d")
    pretrained = read_pretrained(tmp_path / "foreign.pth")
    assert pretrained.patch_size == (16, 16)
    denoiser = pretrained.module()
    noisy = randn(2, 1, 16, 16)
    torch.testing.assert_close(denoiser.unet.features(noisy, TIMESTEPS), saved.features(noisy, TIMESTEPS))
    assert denoiser.is_pretrained
    assert not list(tmp_path.glob("*.partial"))


def test_a_foreign_denoiser_without_its_weights_is_an_error_in_words(by_monai: Make, randn: Randn) -> None:
    foreign = read_foreign(by_monai().source)
    denoiser = FrozenDenoiser({}, 1, foreign.settings)
    with pytest.raises(RuntimeError, match=r"noise schedule of this denoiser comes with its weights.*no weights"):
        denoiser.features(randn(1, 1, 8, 8), randn(1, 1, 8, 8), torch.tensor([1]))
    assert not denoiser.is_pretrained


def test_plans_for_another_number_of_channels_are_refused(by_monai: Make) -> None:
    with pytest.raises(ValueError, match=r"monai U-Net of the plans reads 1 and writes 1 channels, the images have 2"):
        FrozenDenoiser({}, 2, read_foreign(by_monai().source).settings)
