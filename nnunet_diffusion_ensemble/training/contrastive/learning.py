"""Contrastive learning of global and local features without labels (Chaitanya et al. 2020, arXiv 2006.10511)."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor, nn
from torch.nn import functional

from nnunet_diffusion_ensemble.method import PLANS_KEY, ContrastiveSettings

# ---- loss


def nt_xent(first: Tensor, second: Tensor, temperature: float, cases: Tensor | None = None) -> Tensor:
    """Normalised, temperature-scaled cross entropy of SimCLR (Chen et al. 2020, equation 1), in both directions.

    Each view has the other view of its image as positive, and both views of all other images as negatives. For the
    local loss images are the regions of one image, and the images are further leading axes.

    Args:
        first: one view of each of N images or regions, (..., N, features), of any length, which plays no part.
        second: the other views, in the same order.
        temperature: divides the cosine similarities.
        cases: (N,), numbers of the cases that the images come from; patches of one case are no negatives of each
            other. None: they are all different.

    Returns:
        mean over all views, in float32; 0 if there is no negative.
    """
    views = functional.normalize(torch.cat([first, second], dim=-2).float(), dim=-1)
    num_images = first.shape[-2]
    cases = torch.arange(num_images, device=views.device) if cases is None else cases
    positives = torch.arange(2 * num_images, device=views.device).roll(num_images)
    left_out = cases.repeat(2)[:, None] == cases.repeat(2)
    left_out.scatter_(1, positives[:, None], False)
    logits = (views @ views.mT / temperature).masked_fill(left_out, -math.inf).flatten(0, -2)
    return functional.cross_entropy(logits, positives.repeat(len(logits) // len(positives)))


# ---- regions


def draw_regions(
    size: Sequence[int], region_size: int, num_regions: int, generators: Sequence[torch.Generator]
) -> Tensor:
    """Different regions that do not overlap, drawn from a grid that is itself moved by chance.

    Args:
        size: of the feature map, along each axis.
        region_size: of a region, along every axis.
        num_regions: for each image; no more than fit.
        generators: one for each image, all on one device.

    Returns:
        first corner of each region, (images, num_regions, axes).
    """

    def corners(generator: torch.Generator) -> Tensor:
        device = generator.device
        axes = []
        for length in size:
            room = length % region_size + 1
            start = torch.randint(room, (1,), generator=generator, device=device)
            axes.append(start + region_size * torch.arange(length // region_size, device=device))
        grid = torch.cartesian_prod(*axes)
        return grid[torch.randperm(len(grid), generator=generator, device=device)[:num_regions]]

    return torch.stack([corners(generator) for generator in generators])


def at_regions(features: Tensor, corners: Tensor, region_size: int) -> Tensor:
    """All features of each region as one vector; (N, C, *space) to (N, num_regions, C * region_size ** axes)."""
    space = features.shape[2:]
    strides = torch.tensor([math.prod(space[axis + 1 :]) for axis in range(len(space))], device=features.device)
    offsets = torch.cartesian_prod(*[torch.arange(region_size, device=features.device)] * len(space))
    voxels = ((corners[:, :, None] + offsets) * strides).sum(-1)  # (N, num_regions, voxels of a region)
    values = features.flatten(2).gather(2, voxels.flatten(1)[:, None].expand(-1, features.shape[1], -1))
    return values.unflatten(2, voxels.shape[1:]).transpose(1, 2).flatten(2)


# ---- networks


class Projection(nn.Module):
    """Two layers, whose weights nnU-Net's `-pretrained_weights` leaves out, as those of a segmentation's last layers.

    By their names, so that weights with another projection or none can be loaded.
    """

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.seg_layers = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        return self.seg_layers(x)


class GlobalNetwork(nn.Module):
    """Encoder of a U-Net, mean over space, and a projection of two layers (g1).

    The decoder rests: it is part of the network so that a checkpoint has the weights of the whole U-Net, under their
    names.

    Args:
        unet: U-Net of dynamic-network-architectures, e.g. a `ResidualEncoderUNet`.
        settings: of the method.
    """

    def __init__(self, unet: Any, settings: ContrastiveSettings):
        super().__init__()
        self.encoder, self.decoder = unet.encoder, unet.decoder
        self.decoder.requires_grad_(False)
        self.encoder.requires_grad_(True)  # which the decoder holds, too
        width = self.encoder.output_channels[-1]
        self.projection = Projection(nn.Linear(width, width), nn.Linear(width, settings.projection_features))

    @property
    def pretrained_parts(self) -> list[str]:
        """Beginnings of the names of the U-Net's weights that are pretrained."""
        return ["encoder."]

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, *space) to (N, projection_features)."""
        return self.projection(self.encoder(images)[-1].flatten(2).mean(2))


class LocalNetwork(nn.Module):
    """A frozen encoder, the first stages of the decoder, and a projection of two 1x1 convolutions (g2).

    Args:
        unet: U-Net of dynamic-network-architectures, e.g. a `ResidualEncoderUNet`.
        settings: of the method.
        patch_size: spatial size of the images.

    Raises:
        ValueError: the decoder has fewer stages, or the feature maps have room for fewer regions, than the settings
            ask for.
    """

    def __init__(self, unet: Any, settings: ContrastiveSettings, patch_size: Sequence[int]):
        super().__init__()
        self.encoder, self.decoder = unet.encoder, unet.decoder
        self.num_stages = settings.num_decoder_stages
        self._check(settings, patch_size)
        self.decoder.requires_grad_(False)
        for part in (self.decoder.transpconvs, self.decoder.stages):
            part[: self.num_stages].requires_grad_(True)
        width = self.encoder.output_channels[-1 - self.num_stages]
        convolution = self.encoder.conv_op
        self.projection = Projection(convolution(width, width, 1), convolution(width, width, 1))

    def _check(self, settings: ContrastiveSettings, patch_size: Sequence[int]) -> None:
        most = len(self.decoder.stages)
        if self.num_stages > most:
            raise ValueError(
                f"{PLANS_KEY}.contrastive.num_decoder_stages is {self.num_stages}, but the decoder has {most} stages."
            )
        strides = np.prod(self.encoder.strides[: most + 1 - self.num_stages], axis=0)
        size = [length // int(stride) for length, stride in zip(patch_size, strides, strict=True)]
        room = math.prod(length // settings.region_size for length in size)
        if room < settings.num_regions:
            raise ValueError(
                f"Feature maps of {' x '.join(map(str, size))} have room for {room} regions of size "
                f"{settings.region_size}, but {PLANS_KEY}.contrastive.num_regions is {settings.num_regions}. Lower "
                "num_regions or region_size, or raise num_decoder_stages."
            )

    @property
    def pretrained_parts(self) -> list[str]:
        """Beginnings of the names of the U-Net's weights that are pretrained, here or, the encoder, before."""
        stages = range(self.num_stages)
        return ["encoder.", *[f"decoder.{part}.{i}." for part in ("transpconvs", "stages") for i in stages]]

    def train(self, mode: bool = True) -> "LocalNetwork":
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, *space) to (N, features, *space of the decoder's stage)."""
        with torch.no_grad():
            skips = self.encoder(images)
        x = skips[-1]
        for stage in range(self.num_stages):
            upsampled = self.decoder.transpconvs[stage](x)
            x = self.decoder.stages[stage](torch.cat([upsampled, skips[-2 - stage]], dim=1))
        return self.projection(x)


# ---- views


class TwoViews(BasicTransform):
    """Applies a random transform twice to the same patch; the views follow each other along the channel axis."""

    def __init__(self, transform: BasicTransform):
        super().__init__()
        self.transform = transform

    def apply(self, data_dict: dict, **params: Any) -> dict:
        first, second = (self.transform(**{k: v.clone() for k, v in data_dict.items()}) for _ in range(2))
        return first | {"image": torch.cat([first["image"], second["image"]])}


@contextmanager
def fixed_randomness(seed: int) -> Iterator[None]:
    """What NumPy and torch draw inside is always the same, and changes nothing outside."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)
