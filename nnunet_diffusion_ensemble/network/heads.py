"""Heads: from decoder features to class scores, one small network for every pixel.

The first layer of the published classifiers (TEDM, arXiv 2311.07421; LEDM, arXiv 2112.03126) is a 1x1 convolution over
the features of all levels, upsampled to the image's size and concatenated. A 1x1 convolution commutes with upsampling,
so it is applied to each level at the level's own size and the results are added up: the same function without the wide
tensor.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_diffusion_ensemble.method import HeadSettings
from nnunet_diffusion_ensemble.network.fused_layers import PixelLayers

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}
BATCH_NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
LINEAR_MODES = {2: "bilinear", 3: "trilinear"}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def _add_up_nearest(levels: Iterable[Tensor]) -> Tensor:
    """Nearest upsampling composes, so one running sum is upsampled once a level."""
    levels = iter(levels)
    total = next(levels)
    for level in levels:
        total = functional.interpolate(total, size=level.shape[2:], mode="nearest").add_(level)
    return total


def _add_up_linear(levels: Iterable[Tensor]) -> Tensor:
    """Linear upsampling does not compose: every level goes straight to the size of the image."""
    levels = list(levels)
    size, mode = levels[-1].shape[2:], LINEAR_MODES[levels[-1].ndim - 2]
    coarse = [functional.interpolate(level, size=size, mode=mode, align_corners=False) for level in levels[:-1]]
    return torch.stack([*coarse, levels[-1]]).sum(0)


ADD_UP = {"nearest": _add_up_nearest, "linear": _add_up_linear}


class LevelProjection(nn.Module):
    """1x1 convolution over the upsampled, concatenated features of all levels, computed level by level.

    Args:
        in_features: channels of each level, coarsest first.
        out_features: channels of the result.
        dimension: 2 or 3.
        interpolation: `nearest` or `linear`.
    """

    def __init__(self, in_features: Sequence[int], out_features: int, dimension: int, interpolation: str):
        super().__init__()
        whole = CONVOLUTIONS[dimension](sum(in_features), out_features, 1)  # its initialisation is that of one layer
        self.convolutions = nn.ModuleList()
        for i, part in enumerate(whole.weight.detach().split(list(in_features), dim=1)):
            is_finest = i == len(in_features) - 1
            level = CONVOLUTIONS[dimension](part.shape[1], out_features, 1, bias=is_finest)
            level.weight = nn.Parameter(part.clone())
            if is_finest:
                level.bias = whole.bias
            self.convolutions.append(level)
        self.add_up = ADD_UP[interpolation]

    def forward(self, features: list[Tensor]) -> Tensor:
        # One level after the other, so that the sum takes up each before the next one needs memory.
        return self.add_up(_pointwise(conv, level) for conv, level in zip(self.convolutions, features, strict=True))


def _pointwise(convolution: Any, level: Tensor) -> Tensor:
    """A 1x1 convolution; as a product of matrices where torch's own would copy features and gradients into the layout
    that it works in, with the channels last."""
    if not level.is_contiguous():
        return convolution(level)
    result = torch.bmm(convolution.weight.flatten(1).expand(len(level), -1, -1), level.flatten(2))
    if convolution.bias is not None:
        result.add_(convolution.bias.to(result.dtype)[:, None])
    return result.unflatten(2, level.shape[2:])


class PixelClassifier(nn.Module):
    """TEDM's classifier: projection of all levels, then ReLU, batch norm and a convolution for each hidden layer.

    The published convolutions are 1x1, so that a pixel is classified by itself; larger ones let it see its neighbours.

    Args:
        in_features: channels of each level, coarsest first.
        num_classes: channels of the result.
        dimension: 2 or 3.
        settings: widths of the hidden layers, none of them for a linear classifier, and size of their kernels.
    """

    def __init__(self, in_features: Sequence[int], num_classes: int, dimension: int, settings: HeadSettings):
        super().__init__()
        widths, size = [*settings.hidden_features, num_classes], settings.kernel_size
        layers: list[nn.Module] = [LevelProjection(in_features, widths[0], dimension, settings.interpolation)]
        for before, after in pairwise(widths):
            convolution = CONVOLUTIONS[dimension](before, after, size, padding="same")
            layers += [nn.ReLU(inplace=True), BATCH_NORMS[dimension](before), convolution]
        # nnU-Net's loader of pretrained weights leaves alone what carries this name.
        self.seg_layers = PixelLayers(*layers)
        self.sees_neighbours, self.interpolation = size > 1, settings.interpolation

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features (N, channels, *space) of each level, coarsest first, to logits (N, classes, *space)."""
        return self.seg_layers([self._laid_out(level) for level in features])

    def _laid_out(self, level: Tensor) -> Tensor:
        """With the channels of a pixel side by side in memory, where that was measured to be faster."""
        dimension, is_mixed = level.ndim - 2, torch.is_autocast_enabled(level.device.type)
        gains = is_mixed or (self.sees_neighbours and dimension == 2)
        if gains and self.interpolation == "nearest":
            return level.contiguous(memory_format=CHANNELS_LAST[dimension])
        return level.contiguous()


class ConcatenatingClassifier(PixelClassifier):
    """LEDM's classifier: the same layers on the features of all timesteps, concatenated.

    The timesteps may come some at a time: their shares of the first convolution are added up, level by level.

    Args:
        in_features: channels of each level at one timestep, coarsest first.
        num_classes: channels of the result.
        dimension: 2 or 3.
        settings: widths of the hidden layers; none gives a linear classifier.
        num_timesteps: how many are concatenated.
    """

    def __init__(
        self,
        in_features: Sequence[int],
        num_classes: int,
        dimension: int,
        settings: HeadSettings,
        num_timesteps: int,
    ):
        super().__init__([num_timesteps * channels for channels in in_features], num_classes, dimension, settings)
        self.in_features = tuple(in_features)

    def projected(self, features: list[Tensor], first: int) -> list[Tensor]:
        """Shares of some timesteps in the first convolution.

        Args:
            features: (timesteps, N, channels, *space) of each level, coarsest first, of timesteps that follow each
                other in the plans' list.
            first: position of the first of them in that list.

        Returns:
            (N, widths of the first layer, *space) of each level.
        """
        convolutions = cast(LevelProjection, self.seg_layers[0]).convolutions
        shares = []
        for level, channels, convolution in zip(features, self.in_features, convolutions, strict=True):
            start, bias = first * channels, cast(Tensor | None, convolution.bias)
            weight = cast(Tensor, convolution.weight)[:, start : start + len(level) * channels]
            bias = bias if first == 0 else None
            shares.append(CONVOLVE[level.ndim - 3](_side_by_side(level), weight, bias))
        return shares

    def classified(self, levels: list[Tensor]) -> Tensor:
        """Sums of the shares of all timesteps to logits (N, classes, *space)."""
        return self.seg_layers[1:](cast(LevelProjection, self.seg_layers[0]).add_up(levels))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features (timesteps, N, channels, *space) of each level, of all timesteps, to logits (N, classes, *space)."""
        return self.classified(self.projected(features, 0))


def _side_by_side(level: Tensor) -> Tensor:
    """(timesteps, N, channels, *space) to (N, timesteps * channels, *space) with the channels of a pixel in a row."""
    return level.movedim((0, 2), (-2, -1)).flatten(-2).movedim(-1, 1)
