"""DDIM against the closed-form solution for Gaussian data, and the picture of samples pixel by pixel."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.denoiser.sampling import ddim_sample, ddim_timesteps, save_sample_grid
from nnunet_diffusion_ensemble.method import DenoiserSettings

MEAN, STD = 0.5, 0.3
SIZE = (16, 16)


class PerfectUNet(nn.Module):
    """The prediction that is right on average for pixels that are independently normal with MEAN and a given std."""

    def __init__(self, denoiser: Denoiser, std: float):
        super().__init__()
        self.alpha_bar, self.std = denoiser.schedule.alpha_bar.double(), std
        self.prediction_type = denoiser.schedule.prediction_type

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        alpha_bar = self.alpha_bar[timesteps].reshape(-1, 1, 1, 1)
        signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        surprise = (x.double() - signal * MEAN) / (alpha_bar * self.std**2 + 1 - alpha_bar)
        noise, image = sigma * surprise, MEAN + signal * self.std**2 * surprise
        return (noise if self.prediction_type == "epsilon" else signal * noise - sigma * image).float()


class ZeroUNet(nn.Module):
    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        return torch.zeros_like(x)


@pytest.fixture
def make_denoiser(architecture):
    """Denoisers for one channel whose samples are clipped to [low, high]."""

    def make(low: float = -10.0, high: float = 10.0, **settings) -> Denoiser:
        denoiser = Denoiser(architecture("2d"), 1, DenoiserSettings(**settings))
        denoiser.intensity_range.copy_(torch.tensor([low, high]))
        return denoiser

    return make


def initial_noise(num_images: int, seed: int) -> Tensor:
    return torch.randn(num_images, 1, *SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("num_diffusion_steps", "num_sampling_steps", "expected"),
    [(1000, 1, [999]), (1000, 2, [999, 0]), (11, 3, [10, 5, 0]), (4, 4, [3, 2, 1, 0]), (101, 5, [100, 75, 50, 25, 0])],
)
def test_timesteps_go_evenly_from_the_noisiest_to_zero(num_diffusion_steps, num_sampling_steps, expected):
    assert ddim_timesteps(num_diffusion_steps, num_sampling_steps) == expected


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_with_a_perfect_denoiser_samples_are_the_exact_solution_for_gaussian_data(
    make_denoiser, prediction_type, schedule
):
    # The probability flow of a Gaussian keeps each pixel's distance from the mean in standard deviations.
    denoiser = make_denoiser(schedule=schedule, prediction_type=prediction_type)
    denoiser.unet = PerfectUNet(denoiser, STD)
    alpha_bar = denoiser.schedule.alpha_bar[-1].item()
    distance = initial_noise(8, seed=3) - alpha_bar**0.5 * MEAN
    expected = MEAN + STD * distance / (alpha_bar * STD**2 + 1 - alpha_bar) ** 0.5
    found = ddim_sample(denoiser, 8, SIZE, 1000, seed=3)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


def test_with_a_perfect_denoiser_samples_have_the_moments_of_the_data(make_denoiser):
    denoiser = make_denoiser()
    denoiser.unet = PerfectUNet(denoiser, STD)
    samples = ddim_sample(denoiser, 64, SIZE, 200, seed=0)  # 16,384 pixels: standard errors 0.002
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert samples.std().item() == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize("num_sampling_steps", [1, 2, 20])
def test_data_without_spread_is_found_in_any_number_of_steps(make_denoiser, num_sampling_steps):
    denoiser = make_denoiser(prediction_type="v_prediction")
    denoiser.unet = PerfectUNet(denoiser, 0.0)
    samples = ddim_sample(denoiser, 2, SIZE, num_sampling_steps, seed=0)
    torch.testing.assert_close(samples, torch.full((2, 1, *SIZE), MEAN), rtol=0, atol=1e-3)


def test_samples_are_clipped_to_the_intensities_of_pretraining(make_denoiser):
    denoiser = make_denoiser(-0.25, 0.75, prediction_type="epsilon")
    denoiser.unet = ZeroUNet()  # one step divides the noise by the tiny signal of the last timestep
    expected = torch.where(initial_noise(2, seed=5) > 0, 0.75, -0.25)
    assert torch.equal(ddim_sample(denoiser, 2, SIZE, 1, seed=5), expected)


def test_samples_are_in_the_intensities_of_preprocessed_images(make_denoiser):
    denoiser = make_denoiser(prediction_type="v_prediction", input_scale=(2.0,), input_shift=(-1.0,))
    denoiser.unet = PerfectUNet(denoiser, 0.0)
    samples = ddim_sample(denoiser, 2, SIZE, 5, seed=0)
    torch.testing.assert_close(samples, torch.full((2, 1, *SIZE), (MEAN + 1) / 2), rtol=0, atol=1e-3)


def test_the_seed_alone_decides_the_samples(make_denoiser):
    denoiser = make_denoiser()
    denoiser.unet = PerfectUNet(denoiser, STD)
    one, same, other = (ddim_sample(denoiser, 2, SIZE, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert (one - other).abs().mean() > 0.1


def test_volumes_are_sampled_with_a_real_unet(architecture, randomise):
    denoiser = randomise(Denoiser(architecture("3d"), 2, DenoiserSettings()))
    denoiser.intensity_range.copy_(torch.tensor([-1.0, 1.0]))
    samples = ddim_sample(denoiser, 2, (8, 8, 8), 2, seed=0)
    assert samples.shape == (2, 2, 8, 8, 8)
    assert samples.abs().max() <= 1


def halves(height: int, width: int) -> Tensor:
    """Dark left, bright right."""
    return torch.tensor([-3.0, 5.0]).repeat_interleave(width // 2).expand(height, width)


def test_grid_holds_the_images_row_by_row_enlarged_and_stretched_to_black_and_white(tmp_path: Path):
    images = torch.zeros(3, 2, 64, 80)  # a constant image is black, as is the empty place; channel 1 is not shown
    images[1, 0] = halves(64, 80)
    images[:, 1] = torch.rand(3, 64, 80)
    save_sample_grid(images, tmp_path / "samples.png")
    found = imageio.imread(tmp_path / "samples.png")
    expected = np.zeros((2 * 128, 2 * 160), np.uint8)  # 64 pixels are doubled to 128
    expected[:128, 160 + 80 :] = 255
    np.testing.assert_array_equal(found, expected)


def test_grid_shows_the_middle_slice_of_volumes(tmp_path: Path):
    volumes = torch.zeros(1, 1, 5, 128, 128)
    volumes[0, 0, 2] = halves(128, 128)
    save_sample_grid(volumes, tmp_path / "samples.png")
    found = imageio.imread(tmp_path / "samples.png")
    np.testing.assert_array_equal(found, np.repeat([0, 255], 64)[None].repeat(128, axis=0))


def test_no_partial_picture_is_left(tmp_path: Path):
    save_sample_grid(torch.zeros(1, 1, 128, 128), tmp_path / "samples.png")
    assert [file.name for file in tmp_path.iterdir()] == ["samples.png"]
