"""The denoisers that ship with the package."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nnunet_diffusion_ensemble.demo.hospitals import SAMPLE
from nnunet_diffusion_ensemble.demo.steps import DENOISER
from nnunet_diffusion_ensemble.denoiser.pretrained import read_pretrained
from nnunet_diffusion_ensemble.denoiser.source import denoiser_file, shipped_denoisers

LARGEST_MB = 6


def test_the_demos_denoiser_ships() -> None:
    assert DENOISER in shipped_denoisers()


@pytest.mark.parametrize("name", shipped_denoisers())
def test_each_is_small_and_has_a_model_card(name: str) -> None:
    file = denoiser_file(name)
    assert file.stat().st_size < LARGEST_MB * 1e6
    assert file.with_suffix(".md").read_text().startswith(f"# {name}")


@pytest.mark.parametrize("name", shipped_denoisers())
def test_each_holds_numbers_only_and_no_path(name: str) -> None:
    checkpoint = torch.load(denoiser_file(name), weights_only=True)
    assert "/" not in json.dumps(checkpoint["init_args"])
    read_pretrained(denoiser_file(name)).refuse_untrained()


@pytest.mark.parametrize("timestep", [50, 200, 400])
def test_chest_x_rays_are_denoised_far_better_than_pixel_by_pixel(timestep: int) -> None:
    # Of pixels with mean 0 and variance 1 the best estimate by themselves is signal * x_t, off by 1 - alpha_bar (MSE).
    denoiser = read_pretrained(denoiser_file(DENOISER)).module()
    images = torch.cat([x_ray(file) for file in sorted((SAMPLE / "shenzhen" / "images").iterdir())[:8]])
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    timesteps = torch.full((len(images),), timestep)
    with torch.no_grad():
        noisy = denoiser.schedule.add_noise(denoiser.scaled(images), noise, timesteps)
        estimate = denoiser.schedule.predicted_image(denoiser.unet(noisy, timesteps), noisy, timesteps)
    by_pixel = 1 - denoiser.schedule.alpha_bar[timestep]
    assert (estimate - denoiser.scaled(images)).square().mean() < by_pixel / 2


def x_ray(file: Path) -> torch.Tensor:
    """One of the demo's X-rays as nnU-Net preprocesses it: z-scores of 64 x 64 pixels."""
    pixels = np.asarray(Image.open(file).convert("L").resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
    return torch.from_numpy((pixels - pixels.mean()) / pixels.std())[None, None]
