"""Drawing images from a denoiser with DDIM (Song et al. 2021, arXiv 2010.02502), and a picture of them."""

from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
from torch import Tensor

from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.system.atomic import whole_file
from nnunet_diffusion_ensemble.system.guard import alone_at

SMALLEST_SHOWN_PX = 128


def ddim_timesteps(num_diffusion_steps: int, num_sampling_steps: int) -> list[int]:
    """Evenly spaced timesteps from the noisiest down to 0.

    Raises:
        ValueError: there are more steps than timesteps.
    """
    if not 1 <= num_sampling_steps <= num_diffusion_steps:
        raise ValueError(
            f"Sampling takes 1 to {num_diffusion_steps} steps, the length of the diffusion process; got "
            f"{num_sampling_steps}."
        )
    return np.linspace(num_diffusion_steps - 1, 0, num_sampling_steps).round().astype(int).tolist()


@torch.no_grad()
def ddim_sample(denoiser: Denoiser, num_images: int, size: Sequence[int], num_sampling_steps: int, seed: int) -> Tensor:
    """Deterministic DDIM (eta = 0), every predicted image clipped to the intensities seen in pretraining.

    Args:
        denoiser: a pretrained denoiser.
        num_images: how many images to draw.
        size: spatial size.
        num_sampling_steps: denoiser passes.
        seed: of the noise at the start; the same seed gives the same images.

    Returns:
        (num_images, channels, *size) in the intensities of preprocessed images, on the CPU.
    """
    device, schedule = denoiser.input_scale.device, denoiser.schedule
    channels = denoiser.input_scale.shape[1]
    low, high = denoiser.intensity_range.tolist()
    x = torch.randn(num_images, channels, *size, generator=torch.Generator().manual_seed(seed)).to(device)
    timesteps = ddim_timesteps(len(schedule.alpha_bar), num_sampling_steps)
    for t, t_next in zip(timesteps, [*timesteps[1:], None], strict=True):
        now = torch.full((num_images,), t, device=device)
        image = schedule.predicted_image(denoiser.unet(x, now), x, now).clamp(low, high)
        if t_next is None:
            x = image
            break
        signal, sigma = schedule.signal_and_noise(now, x.ndim)
        noise = (x - signal * image) / sigma
        x = schedule.add_noise(image, noise, torch.full_like(now, t_next))
    return ((x - denoiser.input_shift) / denoiser.input_scale).cpu()


def save_sample_grid(images: Tensor, file: Path) -> None:
    """Writes a grid of images as PNG: the first channel, of volumes the middle slice, each stretched to black-white.

    Args:
        images: (N, C, *space).
        file: PNG to write.
    """
    shown = images[:, 0].numpy()
    if shown.ndim == 4:
        shown = shown[:, shown.shape[1] // 2]
    low, high = (np.quantile(shown, q, axis=(1, 2), keepdims=True) for q in (0.005, 0.995))
    grey = (255 * np.clip((shown - low) / np.maximum(high - low, 1e-6), 0, 1)).astype(np.uint8)
    zoom = -(-SMALLEST_SHOWN_PX // min(grey.shape[1:]))
    grey = grey.repeat(zoom, axis=1).repeat(zoom, axis=2)
    columns = int(np.ceil(np.sqrt(len(grey))))
    rows = -(-len(grey) // columns)
    grid = np.zeros((rows * columns, *grey.shape[1:]), np.uint8)
    grid[: len(grey)] = grey
    grid = grid.reshape(rows, columns, *grey.shape[1:]).swapaxes(1, 2).reshape(rows * grey.shape[1], -1)
    with alone_at(file), whole_file(file) as temporary:
        imageio.imwrite(temporary, grid, extension=".png")
