"""The segmentation network: frozen denoiser, one head for all timesteps, mean over timesteps (TEDM)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser import FrozenDenoiser
from nnunet_diffusion_ensemble.ensemble import AVERAGE
from nnunet_diffusion_ensemble.heads import PixelClassifier
from nnunet_diffusion_ensemble.method import DiffusionMethod


def fixed_noise(seed: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise that is the same on every device and with every version of the libraries.

    NumPy promises that of `RandomState`, torch of no generator.
    """
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


class TimestepEnsembleNetwork(nn.Module):
    """Images to class scores by reading a frozen denoiser at several timesteps.

    Args:
        architecture: `architecture` of a configuration of the plans.
        input_channels: channels of the image.
        num_classes: channels of the result (nnU-Net's `num_segmentation_heads`).
        method: settings of the method.
        patch_size: spatial size for which the noise of prediction is kept at hand.

    Raises:
        ValueError: if the denoiser cannot work on images of that size.
    """

    noise: Tensor
    timesteps: Tensor

    def __init__(
        self,
        architecture: Mapping[str, Any],
        input_channels: int,
        num_classes: int,
        method: DiffusionMethod,
        patch_size: Sequence[int],
    ):
        super().__init__()
        self.settings = method.ensemble
        self.denoiser = FrozenDenoiser(architecture, input_channels, method.denoiser)
        unet = self.denoiser.unet
        unet.check_size(patch_size)
        self.head = PixelClassifier(unet.feature_channels, num_classes, unet.dimension, self.settings.head)
        self.average = AVERAGE[self.settings.averaging]
        self.register_buffer("timesteps", torch.tensor(self.settings.timesteps), persistent=False)
        self.register_buffer("noise", self._noise_of(input_channels, patch_size), persistent=False)

    def forward(self, images: Tensor, noise: Tensor | None = None, which: Sequence[int] | None = None) -> Tensor:
        """Ensemble prediction or, given noise, the predictions of the single timesteps.

        Args:
            images: preprocessed images (N, C, *space).
            noise: (timesteps, N, C, *space), for training. Without it the noise fixed by the plans' seed is used, so
                that the result depends on the image alone.
            which: positions in the plans' list of timesteps that `noise` stands for; all of them if not given.

        Returns:
            with noise, logits (timesteps, N, classes, *space); without, the ensemble's log-probabilities (regions:
            logits) (N, classes, *space).
        """
        if noise is not None:
            return self.logits(images, noise, self.timesteps if which is None else self.timesteps[list(which)])
        return self.average(self.timestep_logits(images))

    def timestep_logits(self, images: Tensor) -> Tensor:
        """Logits of every timestep with the fixed noise, (timesteps, N, classes, *space)."""
        noise = self._noise_for(images)
        chunks = [
            self.logits(images, noise[list(which)].expand(-1, *images.shape), self.timesteps[list(which)])
            for which in self.chunks(len(images))
        ]
        return torch.cat(chunks)

    def logits(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Logits of some timesteps in one pass; noise (timesteps, N, C, *space) to (timesteps, N, classes, *space)."""
        repeated = images.expand(len(timesteps), *images.shape).flatten(0, 1)
        features = self.denoiser.features(repeated, noise.flatten(0, 1), timesteps.repeat_interleave(len(images)))
        return self.head(features).unflatten(0, (len(timesteps), len(images)))

    def chunks(self, num_images: int) -> list[range]:
        """Positions of the timesteps, in groups that the plans' `images_per_pass` allows in one pass."""
        total = len(self.settings.timesteps)
        at_once = max(1, self.settings.images_per_pass // num_images)
        return [range(start, min(start + at_once, total)) for start in range(0, total, at_once)]

    def _noise_of(self, channels: int, size: Sequence[int]) -> Tensor:
        return fixed_noise(self.settings.noise_seed, (len(self.settings.timesteps), 1, channels, *size))

    def _noise_for(self, images: Tensor) -> Tensor:
        if images.shape[1:] == self.noise.shape[2:]:
            return self.noise
        return self._noise_of(images.shape[1], images.shape[2:]).to(images.device)
