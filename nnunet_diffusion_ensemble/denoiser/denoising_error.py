"""How badly a denoiser removes noise from an image: a score for images unlike those that it was pretrained on.

Denoising at several timesteps as a measure of what is out of distribution: Graham et al. 2023 (arXiv 2211.07740); few
timesteps suffice (Abdi et al. 2025, arXiv 2507.23411, who measure the course of the score over five).
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.denoiser.noise import fixed_noise

SHARES_OF_PROCESS = (0.05, 0.2, 0.4, 0.6, 0.8)
NOISE_SEED = 12345


def scored_timesteps(num_diffusion_steps: int) -> tuple[int, ...]:
    """The timesteps of the score: 50, 200, 400, 600 and 800 of 1,000."""
    return tuple(dict.fromkeys(int(share * num_diffusion_steps) for share in SHARES_OF_PROCESS))


@torch.no_grad()
def denoising_error(
    denoiser: Denoiser, image: Tensor, patch_size: Sequence[int], seed: int = NOISE_SEED
) -> dict[int, float]:
    """Mean squared error of the velocity for each of `scored_timesteps`.

    The velocity is sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0, whatever the denoiser predicts. Its error is that of
    x_0 over 1 - alpha_bar and that of eps over alpha_bar, so that neither small nor large timesteps rule a mean over
    them. For images of variance 1, a denoiser that knows nothing has an error of about 1.

    Args:
        denoiser: in eval mode; the image goes to its device.
        image: preprocessed image (channels, *space) of three axes; a 2D denoiser looks at each slice along the first.
        patch_size: of the tiles, which do not overlap but at the image's end. The noise is the same in each of them.
        seed: of the noise.

    Returns:
        Timestep to error, a mean over channels and voxels; what a small image is padded with does not count.
    """
    device = denoiser.input_scale.device
    timesteps = scored_timesteps(len(denoiser.schedule.alpha_bar))
    noise = fixed_noise(seed, (len(timesteps), 1, len(image), *patch_size)).to(device)
    slices_or_volume = image.transpose(0, 1) if len(patch_size) == 2 else image[None]
    from monai.inferers import sliding_window_inference  # takes seconds

    of_tiles = sliding_window_inference(
        slices_or_volume.float(),
        tuple(patch_size),
        1,
        lambda tiles: _errors(denoiser, tiles, noise, torch.tensor(timesteps, device=device)),
        overlap=0.0,
        sw_device=device,
        device="cpu",
    )
    means = cast(Tensor, of_tiles).double().transpose(0, 1).flatten(1).mean(1)
    return dict(zip(timesteps, means.tolist(), strict=True))


def _errors(denoiser: Denoiser, tiles: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Squared error of the velocity at each voxel, averaged over channels: tiles (N, C, *space) to (N, T, *space)."""
    clean = denoiser.scaled(tiles).expand(len(timesteps), *tiles.shape)
    repeated = timesteps.repeat_interleave(len(tiles))
    flat, schedule = clean.flatten(0, 1), denoiser.schedule
    noisy = schedule.add_noise(flat, noise.expand_as(clean).flatten(0, 1), repeated)
    denoised = schedule.predicted_image(denoiser.unet(noisy, repeated), noisy, repeated)
    _, sigma = schedule.signal_and_noise(repeated, flat.ndim)
    squared = ((denoised - flat) / sigma).square().mean(1)
    return squared.unflatten(0, (len(timesteps), len(tiles))).transpose(0, 1)
