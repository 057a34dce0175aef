"""The denoising error of a denoiser that predicts zero, for which there are closed forms."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from nnunet_diffusion_ensemble.denoiser.denoising_error import denoising_error, scored_timesteps
from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.method import DenoiserSettings

SEED = 7
Make = Callable[..., Denoiser]


@pytest.fixture
def untrained(architecture: Callable) -> Make:
    """Denoisers as they are made: the last layer is zero, so that they predict zero."""

    def make(prediction_type: str, name: str = "2d", channels: int = 1, **settings: object) -> Denoiser:
        made = DenoiserSettings(prediction_type=prediction_type, **settings)  # type: ignore[arg-type]
        return Denoiser(architecture(name), channels, made).eval()

    return make


def noise_of(timesteps: int, channels: int, *size: int) -> np.ndarray:
    return np.random.RandomState(SEED).standard_normal((timesteps, channels, *size)).astype(np.float32)


def expected_error(prediction_type: str, images: np.ndarray, noise: np.ndarray, alpha_bar: float) -> float:
    """Of zero: the velocity itself, eps over sqrt(alpha_bar), or x_0 over sqrt(1 - alpha_bar)."""
    velocity = np.sqrt(alpha_bar) * noise - np.sqrt(1 - alpha_bar) * images
    wrong = {
        "v_prediction": velocity,
        "epsilon": noise / np.sqrt(alpha_bar),
        "sample": images / np.sqrt(1 - alpha_bar),
    }
    return float(np.mean(wrong[prediction_type].astype(np.float64) ** 2))


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon", "sample"])
def test_error_of_zero_is_the_mean_square_of_what_was_to_be_predicted(
    prediction_type: str, untrained: Make, randn: Callable
) -> None:
    denoiser, image = untrained(prediction_type), randn(1, 1, 16, 16)
    found = denoising_error(denoiser, image, (16, 16), SEED)
    noise = noise_of(5, 1, 16, 16)
    assert list(found) == [50, 200, 400, 600, 800]
    for position, (timestep, error) in enumerate(found.items()):
        alpha_bar = denoiser.schedule.alpha_bar[timestep].item()
        expected = expected_error(prediction_type, image.numpy()[0, 0], noise[position, 0], alpha_bar)
        assert error == pytest.approx(expected, rel=1e-3), timestep


def test_every_tile_gets_the_same_noise(untrained: Make) -> None:
    denoiser, noise = untrained("v_prediction"), noise_of(5, 1, 16, 16)
    found = denoising_error(denoiser, torch.zeros(1, 3, 32, 48), (16, 16), SEED)
    for position, (timestep, error) in enumerate(found.items()):
        expected = denoiser.schedule.alpha_bar[timestep].item() * np.mean(noise[position] ** 2)
        assert error == pytest.approx(expected, rel=1e-4)


def test_each_pixel_is_in_one_tile(untrained: Make, randn: Callable) -> None:
    denoiser, image = untrained("v_prediction"), randn(1, 1, 32, 48)
    found = denoising_error(denoiser, image, (16, 16), SEED)
    noise = np.tile(noise_of(5, 1, 16, 16), (1, 1, 2, 3))
    for position, (timestep, error) in enumerate(found.items()):
        alpha_bar = denoiser.schedule.alpha_bar[timestep].item()
        expected = expected_error("v_prediction", image.numpy()[0, 0], noise[position, 0], alpha_bar)
        assert error == pytest.approx(expected, rel=1e-4), timestep


def test_what_a_small_image_is_padded_with_does_not_count(untrained: Make) -> None:
    # 10 of 16 columns, padded with 3 on either side; of the image itself only ones are to be predicted.
    denoiser = untrained("sample")
    found = denoising_error(denoiser, torch.ones(1, 1, 16, 10), (16, 16), SEED)
    for timestep, error in found.items():
        assert error == pytest.approx(1 / (1 - denoiser.schedule.alpha_bar[timestep].item()), rel=1e-4)


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_slices_channels_and_volumes_are_averaged(name: str, untrained: Make, size_of: Callable) -> None:
    denoiser = untrained("sample", name, channels=2)
    image = torch.zeros(2, 8, 16, 16)
    image[0, :2] = 2.0
    found = denoising_error(denoiser, image, size_of(name), SEED)
    for timestep, error in found.items():  # a quarter of one of two channels
        expected = 4 * (1 / 4) / 2 / (1 - denoiser.schedule.alpha_bar[timestep].item())
        assert error == pytest.approx(expected, rel=1e-4)


def test_intensities_are_those_that_the_denoiser_sees(untrained: Make) -> None:
    denoiser = untrained("sample", input_scale=(2.0,), input_shift=(-1.0,))
    found = denoising_error(denoiser, torch.full((1, 1, 16, 16), 0.25), (16, 16), SEED)
    for timestep, error in found.items():
        assert error == pytest.approx(0.25 / (1 - denoiser.schedule.alpha_bar[timestep].item()), rel=1e-4)


@pytest.mark.parametrize(("steps", "expected"), [(1000, (50, 200, 400, 600, 800)), (10, (0, 2, 4, 6, 8)), (2, (0, 1))])
def test_timesteps_are_as_far_on_the_way_in_any_process(steps: int, expected: tuple[int, ...]) -> None:
    assert scored_timesteps(steps) == expected
