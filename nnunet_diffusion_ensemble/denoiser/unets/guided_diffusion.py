"""The U-Net of OpenAI's guided-diffusion, written anew so that its state dicts load by name.

Dhariwal and Nichol 2021 (arXiv 2105.05233); the code is not on PyPI. It is the backbone of label-efficient
segmentation (DDPM-Seg, LEDM). Only 2D, as its `create_model` builds it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_diffusion_ensemble.denoiser.unets.base import DenoisingUNet

NORM_GROUPS = 32


@dataclass(frozen=True)
class GuidedDiffusionArguments:
    """The flags of guided-diffusion that say what the U-Net is, under their own names, all of them resolved.

    `attention_resolutions` are heights of feature maps for an image of `image_size`; `num_head_channels`, if positive,
    overrides `num_heads`; `timestep_scale` multiplies the timesteps (`rescale_timesteps`).
    """

    image_size: int
    num_channels: int
    num_res_blocks: int
    channel_mult: tuple[float, ...]
    attention_resolutions: tuple[int, ...]
    num_heads: int = 4
    num_head_channels: int = -1
    num_heads_upsample: int = -1
    use_scale_shift_norm: bool = True
    resblock_updown: bool = False
    use_new_attention_order: bool = False
    dropout: float = 0.0
    timestep_scale: float = 1.0
    in_channels: int = 3
    out_channels: int = 3

    def widths(self) -> list[int]:
        """Features of each level, finest first."""
        return [int(factor * self.num_channels) for factor in self.channel_mult]

    def has_attention(self, level: int) -> bool:
        return 2**level in [self.image_size // size for size in self.attention_resolutions]

    def heads(self, features: int, is_decoder: bool) -> int:
        """Number of attention heads for a number of features."""
        if self.num_head_channels > 0:
            return features // self.num_head_channels
        return self.num_heads_upsample if is_decoder and self.num_heads_upsample > 0 else self.num_heads


def timestep_embedding(timesteps: Tensor, features: int) -> Tensor:
    """Cosine, then sine of the timestep at `features // 2` frequencies from 1 to 1/10000; (N,) to (N, features)."""
    half = features // 2
    frequencies = torch.exp(-math.log(10000) / half * torch.arange(half, device=timesteps.device))
    angles = timesteps[:, None].float() * frequencies
    return functional.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, features % 2))


def _halved(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 2)


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


RESAMPLE = {"down": _halved, "up": _doubled, None: lambda x: x}


class ResidualBlock(nn.Module):
    """Two convolutions with norms, the timestep as a scale and shift or as a sum, and a shortcut.

    Args:
        before: channels that come in.
        after: channels that go out.
        direction: `down` or `up` halves or doubles the size; None keeps it.
        arguments: of the U-Net.
    """

    def __init__(self, before: int, after: int, direction: str | None, arguments: GuidedDiffusionArguments):
        super().__init__()
        self.direction, self.has_scale = direction, arguments.use_scale_shift_norm
        embedding_features = 4 * arguments.num_channels
        self.in_layers = nn.Sequential(
            nn.GroupNorm(NORM_GROUPS, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding_features, (1 + self.has_scale) * after))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(NORM_GROUPS, after),
            nn.SiLU(),
            nn.Dropout(arguments.dropout),
            nn.Conv2d(after, after, 3, padding=1),
        )
        self.skip_connection = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        resample = RESAMPLE[self.direction]
        inner = self.in_layers[2](resample(self.in_layers[:2](x)))
        modulation = self.emb_layers(embedding)[:, :, None, None]
        if self.has_scale:
            scale, shift = modulation.chunk(2, dim=1)
            inner = self.out_layers[1:](self.out_layers[0](inner) * (1 + scale) + shift)
        else:
            inner = self.out_layers(inner + modulation)
        return self.skip_connection(resample(x)) + inner


class AttentionBlock(nn.Module):
    """Self-attention over all pixels, added to its input.

    `new_order` says how the channels of `qkv` are divided: by query, key and value first, or by head first.
    """

    def __init__(self, features: int, num_heads: int, new_order: bool):
        super().__init__()
        self.num_heads, self.new_order = num_heads, new_order
        self.norm = nn.GroupNorm(NORM_GROUPS, features)
        self.qkv = nn.Conv1d(features, 3 * features, 1)
        self.proj_out = nn.Conv1d(features, features, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        pixels = x.flatten(2)
        qkv = self.qkv(self.norm(pixels))
        if self.new_order:
            parts = qkv.unflatten(1, (3, self.num_heads, -1)).unbind(1)
        else:
            parts = qkv.unflatten(1, (self.num_heads, 3, -1)).unbind(2)
        query, key, value = (part.transpose(-1, -2) for part in parts)
        attended = functional.scaled_dot_product_attention(query, key, value).transpose(-1, -2).flatten(1, 2)
        return (pixels + self.proj_out(attended)).reshape(x.shape)


class Downsample(nn.Module):
    """Convolution with a stride of 2."""

    def __init__(self, features: int):
        super().__init__()
        self.op = nn.Conv2d(features, features, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Nearest upsampling by 2, then a convolution."""

    direction = "up"

    def __init__(self, features: int):
        super().__init__()
        self.conv = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.conv(_doubled(x))


def _residual_layers(before: int, after: int, level: int, decoder: bool, arguments: GuidedDiffusionArguments) -> list:
    layers: list[nn.Module] = [ResidualBlock(before, after, None, arguments)]
    if arguments.has_attention(level):
        heads = arguments.heads(after, decoder)
        layers.append(AttentionBlock(after, heads, arguments.use_new_attention_order))
    return layers


def _input_blocks(arguments: GuidedDiffusionArguments) -> Iterator[tuple[list[nn.Module], int]]:
    """Layers of each block of the encoder, and the features that it puts out."""
    widths = arguments.widths()
    features = widths[0]
    yield [nn.Conv2d(arguments.in_channels, features, 3, padding=1)], features
    for level, width in enumerate(widths):
        for _ in range(arguments.num_res_blocks):
            yield _residual_layers(features, width, level, False, arguments), width
            features = width
        if level < len(widths) - 1:
            down = ResidualBlock(width, width, "down", arguments) if arguments.resblock_updown else Downsample(width)
            yield [down], width


def _output_blocks(arguments: GuidedDiffusionArguments, skips: list[int]) -> Iterator[list[nn.Module]]:
    """Layers of each block of the decoder; `skips` are the features of the encoder's blocks."""
    features = skips[-1]
    for level, width in reversed(list(enumerate(arguments.widths()))):
        for i in range(arguments.num_res_blocks + 1):
            layers = _residual_layers(features + skips.pop(), width, level, True, arguments)
            features = width
            if level > 0 and i == arguments.num_res_blocks:
                layers.append(
                    ResidualBlock(width, width, "up", arguments) if arguments.resblock_updown else Upsample(width)
                )
            yield layers


class GuidedDiffusionUNet(DenoisingUNet):
    """guided-diffusion's `UNetModel` with its parameter names.

    Its levels are what the last layer of each resolution of the decoder gives, before it is upsampled.

    Args:
        arguments: which U-Net.
    """

    def __init__(self, arguments: GuidedDiffusionArguments):
        super().__init__()
        self.base_features, self.timestep_scale = arguments.num_channels, arguments.timestep_scale
        embedding_features, widths = 4 * arguments.num_channels, arguments.widths()
        self.time_embed = nn.Sequential(
            nn.Linear(arguments.num_channels, embedding_features),
            nn.SiLU(),
            nn.Linear(embedding_features, embedding_features),
        )
        blocks, skips = zip(*_input_blocks(arguments), strict=True)
        self.input_blocks = nn.ModuleList(nn.ModuleList(layers) for layers in blocks)
        deepest = widths[-1]
        self.middle_block = nn.ModuleList(
            [
                ResidualBlock(deepest, deepest, None, arguments),
                AttentionBlock(deepest, arguments.heads(deepest, False), arguments.use_new_attention_order),
                ResidualBlock(deepest, deepest, None, arguments),
            ]
        )
        self.output_blocks = nn.ModuleList(nn.ModuleList(layers) for layers in _output_blocks(arguments, list(skips)))
        self.out = nn.Sequential(
            nn.GroupNorm(NORM_GROUPS, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], arguments.out_channels, 3, padding=1)
        )
        self.feature_channels = tuple(reversed(widths))
        self.size_divisors = (2 ** (len(widths) - 1),) * 2

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        return (self.out,)

    def features(self, noisy_images: Tensor, timesteps: Tensor) -> list[Tensor]:
        waves = timestep_embedding(timesteps * self.timestep_scale, self.base_features)
        embedding = self.time_embed(waves.to(noisy_images.dtype))
        x = self.input_blocks[0][0](noisy_images)  # type: ignore[index]
        skips = [x]
        for block in self.input_blocks[1:]:
            for layer in block:  # type: ignore[attr-defined]
                x = layer(x, embedding)
            skips.append(x)
        for layer in self.middle_block:
            x = layer(x, embedding)
        levels = []
        for block in self.output_blocks:
            x = torch.cat((x, skips.pop()), dim=1)
            for layer in block:  # type: ignore[attr-defined]
                if getattr(layer, "direction", None) == "up":
                    levels.append(x)
                x = layer(x, embedding)
        return [*levels, x]

    def forward(self, noisy_images: Tensor, timesteps: Tensor) -> Tensor:
        return self.out(self.features(noisy_images, timesteps)[-1])


def unet_from_json(arguments: Mapping[str, Any]) -> GuidedDiffusionUNet:
    """The U-Net of `GuidedDiffusionArguments` as JSON holds them, with lists for tuples."""
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()
    }
    return GuidedDiffusionUNet(GuidedDiffusionArguments(**plain))
