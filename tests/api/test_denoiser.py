"""`load_denoiser`: features, samples and export, for arrays as they lie in a notebook."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_architecture
from torch import Tensor

import nnunet_diffusion_ensemble
from nnunet_diffusion_ensemble.api.denoiser import LoadedDenoiser, load_denoiser
from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.denoiser.pretrained import load_into_network, read_pretrained
from nnunet_diffusion_ensemble.denoiser.sampling import ddim_sample
from nnunet_diffusion_ensemble.denoiser.source import denoiser_file
from nnunet_diffusion_ensemble.method import DenoiserSettings, DiffusionMethod
from nnunet_diffusion_ensemble.network.ensemble import TimestepEnsembleNetwork

SHIPPED = "chest-xray-64"
TIMESTEPS = [1, 50]


@pytest.fixture(scope="module")
def shipped() -> LoadedDenoiser:
    return load_denoiser(SHIPPED, "cpu")


@pytest.fixture
def save(tmp_path: Path, randomise: Callable) -> Callable[..., Path]:
    """`save("3d", channels=2, trained_iterations=7)`: a checkpoint of the pretraining, all weights random."""

    def saved(topology: str = "2d", channels: int = 1, trained_iterations: int = 7) -> Path:
        settings = DenoiserSettings(input_scale=(0.5,) * channels, input_shift=(0.2,) * channels)
        denoiser = randomise(Denoiser(make_architecture(topology), channels, settings))
        denoiser.trained_iterations.fill_(trained_iterations)
        denoiser.intensity_range.copy_(torch.tensor([-1.0, 1.0]))
        scaling = {"denoiser.input_scale": settings.input_scale, "denoiser.input_shift": settings.input_shift}
        configuration = {
            "architecture": make_architecture(topology),
            "diffusion": DiffusionMethod().with_options(scaling).to_plans(),
            "patch_size": [8, 8, 8] if topology == "3d" else [16, 16],
            "spacing": [1.0] * (3 if topology == "3d" else 2),
            "normalization_schemes": ["ZScoreNormalization"] * channels,
            "use_mask_for_norm": [False] * channels,
            "preprocessor_name": "DefaultPreprocessor",
        }
        intensities = {"foreground_intensity_properties_per_channel": {str(i): {} for i in range(channels)}}
        checkpoint = {
            "network_weights": {f"denoiser.{name}": value for name, value in denoiser.state_dict().items()},
            "init_args": {"plans": {"configurations": {"2d": configuration}} | intensities, "configuration": "2d"},
            "trainer_name": "DiffusionPretrainTrainer",
        }
        torch.save(checkpoint, tmp_path / "denoiser.pth")
        return tmp_path / "denoiser.pth"

    return saved


def x_rays(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 255, shape).astype(np.uint8)


def z_scores(images: np.ndarray) -> Tensor:
    space = tuple(range(2, images.ndim))
    images = images.astype(np.float64)
    normal = (images - images.mean(space, keepdims=True)) / images.std(space, keepdims=True)
    return torch.from_numpy(normal).float()


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


# ---- features


def test_features_are_those_that_a_head_with_these_timesteps_reads(shipped: LoadedDenoiser) -> None:
    images = z_scores(x_rays(2, 1, 64, 64))
    of_plans = read_pretrained(denoiser_file(SHIPPED))
    method = DiffusionMethod.from_plans(of_plans.configuration).with_options({"ensemble.timesteps": TIMESTEPS})
    network = TimestepEnsembleNetwork(of_plans.architecture, 1, 2, method, (64, 64)).eval()
    load_into_network(network, of_plans.file, of_plans.architecture)
    read: list[Tensor] = []
    network.head.register_forward_pre_hook(lambda module, arguments: read.extend(arguments[0]))
    with torch.no_grad():
        network(images)
    expected = [level.unflatten(0, (len(TIMESTEPS), 2)) for level in read]
    assert_same(shipped.features(images, TIMESTEPS, preprocessed=True), expected)


def test_images_are_scaled_and_noised_by_the_formula_of_the_process(save: Callable) -> None:
    denoiser, timestep = load_denoiser(save(channels=2), "cpu"), 300
    images = z_scores(x_rays(3, 2, 16, 16))
    alpha_bar = denoiser.module.schedule.alpha_bar[timestep].double().item()
    noise = np.random.RandomState(5).standard_normal((1, 1, 2, 16, 16))[0]
    noisy = np.sqrt(alpha_bar) * (0.5 * images.numpy() + 0.2) + np.sqrt(1 - alpha_bar) * noise
    with torch.no_grad():
        levels = denoiser.module.unet.features(torch.from_numpy(noisy).float(), torch.full((3,), timestep))
    found = denoiser.features(images, [timestep], preprocessed=True, seed=5)
    assert_same(found, [level[None] for level in levels])


def test_without_noise_the_image_itself_is_read(save: Callable) -> None:
    denoiser, images = load_denoiser(save(), "cpu"), z_scores(x_rays(1, 1, 16, 16))
    with torch.no_grad():
        levels = denoiser.module.unet.features(0.5 * images + 0.2, torch.tensor([50]))
    found = denoiser.features(images, [50], preprocessed=True, adds_noise=False)
    assert_same(found, [level[None] for level in levels])


def test_raw_images_are_normalised_each_by_itself_as_the_plans_say(shipped: LoadedDenoiser) -> None:
    raw = x_rays(2, 1, 64, 64)
    raw[1] //= 3
    expected = shipped.features(z_scores(raw), TIMESTEPS, preprocessed=True)
    assert_same(shipped.features(raw, TIMESTEPS), expected)


@pytest.mark.parametrize(
    "as_given",
    [
        lambda image: image[0, 0],
        lambda image: image[0],
        lambda image: torch.from_numpy(image),
        lambda image: torch.from_numpy(image).to(torch.int32),
        lambda image: torch.from_numpy(image).to(torch.bfloat16),  # whole numbers below 256 are exact
        lambda image: image.astype(">f8"),
        lambda image: image.astype(np.float16)[..., ::-1][..., ::-1],
        lambda image: torch.from_numpy(image).float().requires_grad_(),
    ],
)
def test_an_image_may_come_in_any_form(as_given: Callable, shipped: LoadedDenoiser) -> None:
    image = x_rays(1, 1, 64, 64)
    found, expected = shipped.features(as_given(image), [50]), shipped.features(image, [50])
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_volume_may_come_without_channels(save: Callable) -> None:
    denoiser, volume = load_denoiser(save("3d"), "cpu"), x_rays(1, 1, 8, 16, 8)
    assert_same(denoiser.features(volume[0, 0], [50]), denoiser.features(volume, [50]))
    assert denoiser.features(volume, [50, 1])[-1].shape[:2] == (2, 1)


def test_what_is_given_stays_as_it_is(shipped: LoadedDenoiser) -> None:
    image = x_rays(64, 64).astype(np.float32)
    before = image.copy()
    shipped.features(image, [50])
    assert np.array_equal(image, before)


def test_the_number_of_images_at_once_changes_nothing(save: Callable) -> None:
    denoiser, images = load_denoiser(save(), "cpu"), x_rays(5, 1, 16, 16)
    assert_same(denoiser.features(images, TIMESTEPS, batch_size=2), denoiser.features(images, TIMESTEPS))


def test_features_of_another_library_are_those_of_its_own_forward_pass(by_monai: Callable) -> None:
    saved = by_monai()
    denoiser, images = load_denoiser(saved.source, "cpu"), torch.randn(2, saved.channels, *saved.size)
    found = denoiser.features(images, [40], preprocessed=True, adds_noise=False)
    expected = saved.features(images, torch.tensor([40, 40]))
    assert_same(found, [level[None] for level in expected])


# ---- samples


def test_samples_are_those_of_the_process_and_their_seed(shipped: LoadedDenoiser) -> None:
    found = shipped.sample(2, seed=3, steps=2, size=(32, 16))
    assert torch.equal(found, ddim_sample(shipped.module, 2, (32, 16), 2, 3))
    assert not torch.equal(found, shipped.sample(2, seed=4, steps=2, size=(32, 16)))


def test_samples_have_the_size_of_the_training_images(shipped: LoadedDenoiser) -> None:
    assert shipped.sample(1, steps=1).shape == (1, 1, 64, 64)


# ---- mistakes


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((60, 64), "multiples of 16 x multiples of 16, not 60 x 64. The nearest that fit: 48 or 64 x 64"),
        ((70, 70), "The nearest that fit: 64 or 80 x 64 or 80"),
        ((8, 64), "The nearest that fit: 16 x 64"),
        ((16, 16), "one pixel in this denoiser's deepest stage.*twice as large"),
        ((3, 64, 64), r"have 3 channel\(s\) \(axes: channels, height, width\), the denoiser takes 1"),
        ((2, 3, 64, 64), r"have 3 channel\(s\) \(axes: images, channels, height, width\)"),
        ((64,), r"must have the axes \(height, width\), \(channels, height, width\) or .*got the shape \(64,\)"),
        ((1, 1, 1, 64, 64), r"must have the axes .*got the shape \(1, 1, 1, 64, 64\)"),
        ((0, 1, 64, 64), r"at least one pixel, got the shape \(0, 1, 64, 64\)"),
    ],
)
def test_images_of_another_shape_are_told_which_fits(shape: tuple, message: str, shipped: LoadedDenoiser) -> None:
    with pytest.raises(ValueError, match=message):
        shipped.features(np.ones(shape), [1])


def test_one_channel_for_a_denoiser_of_several_is_refused(save: Callable) -> None:
    with pytest.raises(ValueError, match=r"have 1 channel\(s\) \(axes: one channel, height, width\), .* takes 2"):
        load_denoiser(save(channels=2), "cpu").features(np.ones((16, 16)), [1])


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([[1.0]], TypeError, "must be a NumPy array or a tensor, got list"),
        (np.full((64, 64), 1j), TypeError, "must hold real numbers .*got complex128"),
        (torch.full((64, 64), 1j), TypeError, r"must hold real numbers .*got torch\.complex64"),
        (np.full((64, 64), "a"), TypeError, "must hold real numbers .*got str"),
        (np.eye(64) * np.nan, ValueError, "4096 of 4096 values are NaN or infinite"),
        (np.eye(64) * 1e60, ValueError, "finite in float32: 64 of 4096 values"),
    ],
)
def test_values_that_are_no_image_are_refused(images: Any, error: type, message: str, shipped: LoadedDenoiser) -> None:
    with pytest.raises(error, match=message):
        shipped.features(images, [1])


@pytest.mark.parametrize(
    ("timesteps", "error", "message"),
    [
        ([1000], ValueError, "timesteps must be from 0 to 999, got 1000"),
        ([-1], ValueError, "timesteps must be from 0 to 999, got -1"),
        ([], ValueError, "one or more whole numbers, got none"),
        (50, TypeError, r"a list of whole numbers, such as \[1, 50\], got 50"),
        ("50", TypeError, "a list of whole numbers.*got '50'"),
        ([1.5], TypeError, r"must be a whole number, got 1\.5"),
        ([True], TypeError, "must be a whole number, got True"),
    ],
)
def test_timesteps_that_are_none_are_refused(
    timesteps: Any, error: type, message: str, shipped: LoadedDenoiser
) -> None:
    with pytest.raises(error, match=message):
        shipped.features(np.eye(64), timesteps)


@pytest.mark.parametrize("timesteps", [range(1, 3), np.array([1, 2]), torch.tensor([1, 2]), (1, 2)])
def test_timesteps_may_come_in_any_list(timesteps: Any, save: Callable) -> None:
    denoiser, image = load_denoiser(save(), "cpu"), x_rays(16, 16)
    assert_same(denoiser.features(image, timesteps), denoiser.features(image, [1, 2]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_images": 0}, ValueError, "num_images must be 1 or more, got 0"),
        ({"num_images": 2.0}, TypeError, r"num_images must be a whole number, got 2\.0"),
        ({"steps": 1001}, ValueError, "steps must be from 1 to 1000, got 1001"),
        ({"seed": -1}, ValueError, "seed must be from 0 to 4294967295, got -1"),
        ({"size": (64,)}, ValueError, "multiples of 16 x multiples of 16, not 64"),
        ({"size": (60, 64)}, ValueError, "The nearest that fit: 48 or 64 x 64"),
        ({"size": 64}, TypeError, "size must be a list of whole numbers"),
    ],
)
def test_samples_that_cannot_be_drawn_are_refused(
    arguments: dict, error: type, message: str, shipped: LoadedDenoiser
) -> None:
    with pytest.raises(error, match=message):
        shipped.sample(**{"num_images": 1, **arguments})


def test_another_librarys_denoiser_says_what_its_files_do_not(by_monai: Callable, tmp_path: Path) -> None:
    saved = by_monai(further={"image_range": [0, 1]})
    denoiser = load_denoiser(saved.source, "cpu")
    assert denoiser.spacing is denoiser.normalisation is denoiser.image_size is None
    with pytest.raises(ValueError, match="to the range that it was trained on, 0 to 1, and say preprocessed=True"):
        denoiser.features(np.ones((saved.channels, *saved.size)), [1])
    with pytest.raises(ValueError, match=r"does not say the size of its images\. Name one"):
        denoiser.sample(1)
    with pytest.raises(ValueError, match=r"has no plans yet\. Plan a data set for it"):
        denoiser.export(tmp_path / "out.pth")


def test_what_was_never_trained_is_refused(save: Callable) -> None:
    with pytest.raises(ValueError, match="has never been trained: its weights are random"):
        load_denoiser(save(trained_iterations=0))


def test_a_wrong_name_is_told_which_there_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"no denoiser of this name that ships .*chest-xray-64"):
        load_denoiser("chest-xray-46")


def test_a_device_that_is_not_here_is_told_which_are() -> None:
    with pytest.raises(ValueError, match=r"There is no device cuda:99 here\. Choose one of: .*cpu"):
        load_denoiser(SHIPPED, "cuda:99")


# ---- from elsewhere


def test_an_exported_denoiser_has_the_same_features(save: Callable, tmp_path: Path) -> None:
    denoiser, image = load_denoiser(save(), "cpu"), x_rays(16, 16)
    denoiser.export(tmp_path / "out.pth")
    again = nnunet_diffusion_ensemble.load_denoiser(tmp_path / "out.pth", device="cpu")
    assert_same(again.features(image, [50]), denoiser.features(image, [50]))


def test_it_says_what_it_is(shipped: LoadedDenoiser) -> None:
    assert repr(shipped) == (
        "LoadedDenoiser('chest-xray-64', 1 channel(s), multiples of 16 x multiples of 16, 1000 timesteps, cpu)"
    )
    assert (shipped.image_size, shipped.spacing) == ((64, 64), (1.0, 1.0))
    assert shipped.normalisation == ("ZScoreNormalization",)
