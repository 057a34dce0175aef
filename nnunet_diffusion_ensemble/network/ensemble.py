"""The segmentation network: a denoiser read at several timesteps, and a head that brings them together."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.model import Denoiser, FineTunedDenoiser, FrozenDenoiser
from nnunet_diffusion_ensemble.denoiser.noise import fixed_noise
from nnunet_diffusion_ensemble.method import CONCATENATED_FEATURES, DiffusionMethod
from nnunet_diffusion_ensemble.network.averaging import AVERAGE
from nnunet_diffusion_ensemble.network.heads import ConcatenatingClassifier, PixelClassifier


class TimestepEnsembleNetwork(nn.Module):
    """Images to class scores by reading a denoiser at several timesteps.

    By `ensemble.fusion` of the plans, one head predicts from each timestep and the mean is the result (TEDM), or one
    head predicts from the features of all of them (LEDM). A network for prediction is the same whether the denoiser was
    frozen or fine-tuned.

    Args:
        architecture: `architecture` of a configuration of the plans.
        input_channels: channels of the image.
        num_classes: channels of the result (nnU-Net's `num_segmentation_heads`).
        method: settings of the method.
        patch_size: spatial size for which the noise of prediction is kept at hand.

    Raises:
        ValueError: if the denoiser cannot work on images of that size, or has fewer levels than the head is to read.
    """

    noise: Tensor | None
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
        denoiser_class = FineTunedDenoiser if method.training.fine_tune_denoiser else FrozenDenoiser
        self.denoiser: Denoiser = denoiser_class(architecture, input_channels, method.denoiser)
        unet = self.denoiser.unet
        unet.check_size(patch_size)
        self.num_levels = self._number_of_levels(len(unet.feature_channels))
        head_of = (unet.feature_channels[-self.num_levels :], num_classes, unet.dimension, self.settings.head)
        self.concatenates = self.settings.fusion == CONCATENATED_FEATURES
        self.head: Any = (
            ConcatenatingClassifier(*head_of, len(self.settings.timesteps))
            if self.concatenates
            else PixelClassifier(*head_of)
        )
        self.average = AVERAGE[self.settings.averaging]
        self.register_buffer("timesteps", torch.tensor(self.settings.timesteps), persistent=False)
        self.register_buffer("noise", self._noise_of(input_channels, patch_size), persistent=False)

    def forward(self, images: Tensor, noise: Tensor | None = None, timesteps: Tensor | None = None) -> Tensor:
        """The prediction or, given timesteps, what the loss of training is taken of.

        Args:
            images: preprocessed images (N, C, *space).
            noise: (timesteps, N, C, *space), for training; None where the plans add no noise.
            timesteps: (timesteps, N), for training: those that each image is noised to. Without them the plans'
                timesteps are read, with noise fixed by the plans' seed, so that the result depends on the image alone.

        Returns:
            with timesteps, logits (predictions, N, classes, *space), a prediction for each timestep or one of all of
            them; without, log-probabilities (regions: logits) (N, classes, *space).
        """
        if timesteps is not None:
            return self.logits(images, noise, timesteps)
        return self.average(self.timestep_logits(images))

    def timestep_logits(self, images: Tensor) -> Tensor:
        """Logits with the fixed noise, (predictions, N, classes, *space)."""
        noise = self._noise_for(images)
        timesteps = self.timesteps[:, None].expand(-1, len(images))
        passes = self.passes(len(images), len(timesteps))
        return torch.cat([self.logits(images, _rows(noise, which), _rows(timesteps, which)) for which in passes])

    def logits(self, images: Tensor, noise: Tensor | None, timesteps: Tensor) -> Tensor:
        """Logits (predictions, N, classes, *space) for timesteps (timesteps, N) and their noise, as in `forward`."""
        if self.concatenates:
            return self._logits_of_concatenation(images, noise, timesteps)
        features = [level.flatten(0, 1) for level in self._features(images, noise, timesteps)]
        return self.head(features).unflatten(0, timesteps.shape)

    def _logits_of_concatenation(self, images: Tensor, noise: Tensor | None, timesteps: Tensor) -> Tensor:
        sums: list[Tensor] = []
        for which in self._chunks(len(images), len(timesteps)):
            features = self._features(images, _rows(noise, which), _rows(timesteps, which))
            shares = self.head.projected(features, which.start)
            sums = [total + share for total, share in zip(sums, shares, strict=True)] if sums else shares
        return self.head.classified(sums)[None]

    def _features(self, images: Tensor, noise: Tensor | None, timesteps: Tensor) -> list[Tensor]:
        """(timesteps, N, channels, *space) of each level that the head reads, coarsest first, in one pass."""
        repeated = images.expand(len(timesteps), *images.shape).flatten(0, 1)
        noise = None if noise is None else noise.expand(-1, *images.shape).flatten(0, 1)
        levels = self.denoiser.features(repeated, noise, timesteps.flatten())
        return [level.unflatten(0, timesteps.shape) for level in levels[-self.num_levels :]]

    def passes(self, num_images: int, num_timesteps: int) -> list[range]:
        """Positions of timesteps that must come in one call of `logits`: as many as the plans' `images_per_pass`
        allows, or all of them where their features are concatenated."""
        return [range(num_timesteps)] if self.concatenates else self._chunks(num_images, num_timesteps)

    def _chunks(self, num_images: int, num_timesteps: int) -> list[range]:
        at_once = max(1, self.settings.images_per_pass // num_images)
        return [range(start, min(start + at_once, num_timesteps)) for start in range(0, num_timesteps, at_once)]

    def _number_of_levels(self, available: int) -> int:
        wanted = self.settings.head.finest_levels or available
        if wanted > available:
            raise ValueError(
                f"diffusion.ensemble.head.finest_levels of the plans is {wanted}, but the decoder of this denoiser has "
                f"{available} levels. Give at most that, or null for all."
            )
        return wanted

    def _noise_of(self, channels: int, size: Sequence[int]) -> Tensor | None:
        if not self.settings.adds_noise:
            return None
        return fixed_noise(self.settings.noise_seed, (len(self.settings.timesteps), 1, channels, *size))

    def _noise_for(self, images: Tensor) -> Tensor | None:
        if self.noise is None or images.shape[1:] == self.noise.shape[2:]:
            return self.noise
        noise = self._noise_of(images.shape[1], images.shape[2:])
        return None if noise is None else noise.to(images.device)


def _rows(values: Any, which: range) -> Any:
    """Values of some timesteps; None, for no noise, stays None."""
    return None if values is None else values[which.start : which.stop]
