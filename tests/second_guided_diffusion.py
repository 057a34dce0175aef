"""OpenAI's guided-diffusion a second time: its U-Net as functions over the names in a state dict, and those names."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nnunet_diffusion_ensemble.denoiser.foreign.from_guided_diffusion import FLAGS

Weights = dict[str, Tensor]


def layers_of(weights: Weights, block: str) -> list[str]:
    """Names of the layers in a block that have weights, in order."""
    names = {name[len(block) + 1 :].split(".")[0] for name in weights if name.startswith(f"{block}.")}
    return [f"{block}.{i}" for i in sorted(map(int, names))]


def num_blocks(weights: Weights, part: str) -> int:
    return 1 + max(int(name.split(".")[1]) for name in weights if name.startswith(f"{part}."))


def normed(weights: Weights, name: str, x: Tensor) -> Tensor:
    grouped = x.reshape(len(x), 32, -1)
    variance = grouped.var(-1, keepdim=True, unbiased=False)
    x = ((grouped - grouped.mean(-1, keepdim=True)) / (variance + 1e-5).sqrt()).reshape(x.shape)
    shape = (1, -1, *[1] * (x.ndim - 2))
    return x * weights[f"{name}.weight"].reshape(shape) + weights[f"{name}.bias"].reshape(shape)


def swish(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def convolved(weights: Weights, name: str, x: Tensor, **options: Any) -> Tensor:
    return functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)


def residual(weights: Weights, name: str, x: Tensor, embedding: Tensor, resample: Callable) -> Tensor:
    h = resample(swish(normed(weights, f"{name}.in_layers.0", x)))
    h = convolved(weights, f"{name}.in_layers.2", h, padding=1)
    modulation = swish(embedding) @ weights[f"{name}.emb_layers.1.weight"].T + weights[f"{name}.emb_layers.1.bias"]
    modulation = modulation[..., None, None]
    if modulation.shape[1] == h.shape[1]:
        h = normed(weights, f"{name}.out_layers.0", h + modulation)
    else:
        scale, shift = modulation[:, : h.shape[1]], modulation[:, h.shape[1] :]
        h = normed(weights, f"{name}.out_layers.0", h) * (1 + scale) + shift
    h = convolved(weights, f"{name}.out_layers.3", swish(h), padding=1)
    shortcut = f"{name}.skip_connection"
    x = resample(x)
    return h + (convolved(weights, shortcut, x) if f"{shortcut}.weight" in weights else x)


def attended(weights: Weights, name: str, x: Tensor, heads: int, new_order: bool) -> Tensor:
    channels, width = x.shape[1], x.shape[1] // heads
    pixels = x.reshape(len(x), channels, -1)
    qkv = torch.einsum("oi,nip->nop", weights[f"{name}.qkv.weight"][..., 0], normed(weights, f"{name}.norm", pixels))
    qkv = qkv + weights[f"{name}.qkv.bias"][:, None]
    results = []
    for head in range(heads):
        starts = [part * channels + head * width if new_order else (3 * head + part) * width for part in range(3)]
        query, key, value = (qkv[:, start : start + width] for start in starts)
        share = (torch.einsum("nct,ncs->nts", query, key) / math.sqrt(width)).softmax(-1)
        results.append(torch.einsum("nts,ncs->nct", share, value))
    result = torch.einsum("oi,nip->nop", weights[f"{name}.proj_out.weight"][..., 0], torch.cat(results, 1))
    return x + (result + weights[f"{name}.proj_out.bias"][:, None]).reshape(x.shape)


def halved(x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).mean((3, 5))


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def embedded(weights: Weights, flags: dict, timesteps: Tensor) -> Tensor:
    half = flags["num_channels"] // 2
    factor = 1000 / flags["diffusion_steps"] if flags["rescale_timesteps"] else 1
    angles = timesteps.double()[:, None] * factor * 10000 ** (-torch.arange(half).double() / half)
    e = torch.cat([angles.cos(), angles.sin()], 1) @ weights["time_embed.0.weight"].T + weights["time_embed.0.bias"]
    return swish(e) @ weights["time_embed.2.weight"].T + weights["time_embed.2.bias"]


def second_unet(weights: Weights, flags: dict, x: Tensor, timesteps: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Output and decoder levels, by the names in the state dict."""
    flags = FLAGS | flags
    weights = {name: weight.double() for name, weight in weights.items()}
    embedding, per_level = embedded(weights, flags, timesteps), flags["num_res_blocks"] + 1

    def applied(name: str, x: Tensor, resample: Callable, is_decoder: bool = False) -> Tensor:
        if f"{name}.in_layers.0.weight" in weights:
            return residual(weights, name, x, embedding, resample)
        if f"{name}.qkv.weight" in weights:
            heads = (
                flags["num_heads_upsample"] if is_decoder and flags["num_heads_upsample"] > 0 else flags["num_heads"]
            )
            heads = x.shape[1] // flags["num_head_channels"] if flags["num_head_channels"] > 0 else heads
            return attended(weights, name, x, heads, flags["use_new_attention_order"])
        if f"{name}.op.weight" in weights:
            return convolved(weights, f"{name}.op", x, stride=2, padding=1)
        return convolved(weights, f"{name}.conv", doubled(x), padding=1)

    x = convolved(weights, "input_blocks.0.0", x.double(), padding=1)
    skips, levels = [x], []
    for i in range(1, num_blocks(weights, "input_blocks")):
        for name in layers_of(weights, f"input_blocks.{i}"):
            x = applied(name, x, halved if i % per_level == 0 else lambda x: x)
        skips.append(x)
    for name in layers_of(weights, "middle_block"):
        x = applied(name, x, lambda x: x)
    for i in range(num_blocks(weights, "output_blocks")):
        x = torch.cat([x, skips.pop()], 1)
        is_last_of_level = i % per_level == flags["num_res_blocks"] and i + 1 < num_blocks(weights, "output_blocks")
        layers = layers_of(weights, f"output_blocks.{i}")
        for name in layers:
            is_upsampler = is_last_of_level and name == layers[-1]
            if is_upsampler:
                levels.append(x)
            x = applied(name, x, doubled if is_upsampler else lambda x: x, is_decoder=True)
    levels.append(x)
    return convolved(weights, "out.2", swish(normed(weights, "out.0", x)), padding=1), levels


def shapes_of(flags: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of guided-diffusion's state dict, counted out here once more."""
    flags = FLAGS | flags
    base, channels = flags["num_channels"], flags.get("in_channels", 3)
    mult = flags["channel_mult"]
    mult = [int(m) for m in mult.split(",")] if isinstance(mult, str) else mult
    attention = [flags["image_size"] // int(size) for size in flags["attention_resolutions"].split(",")]
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    def res(name: str, before: int, after: int) -> None:
        layer(f"{name}.in_layers.0", before)
        layer(f"{name}.in_layers.2", after, before, 3, 3)
        layer(f"{name}.emb_layers.1", after * (1 + flags["use_scale_shift_norm"]), 4 * base)
        layer(f"{name}.out_layers.0", after)
        layer(f"{name}.out_layers.3", after, after, 3, 3)
        if before != after:
            layer(f"{name}.skip_connection", after, before, 1, 1)

    def attend(name: str, features: int) -> None:
        layer(f"{name}.norm", features)
        layer(f"{name}.qkv", 3 * features, features, 1)
        layer(f"{name}.proj_out", features, features, 1)

    layer("time_embed.0", 4 * base, base)
    layer("time_embed.2", 4 * base, 4 * base)
    layer("input_blocks.0.0", mult[0] * base, channels, 3, 3)
    i, features, skips = 1, mult[0] * base, [mult[0] * base]
    for level, m in enumerate(mult):
        for _ in range(flags["num_res_blocks"]):
            res(f"input_blocks.{i}.0", features, m * base)
            features = m * base
            if 2**level in attention:
                attend(f"input_blocks.{i}.1", features)
            skips.append(features)
            i += 1
        if level + 1 < len(mult):
            if flags["resblock_updown"]:
                res(f"input_blocks.{i}.0", features, features)
            else:
                layer(f"input_blocks.{i}.0.op", features, features, 3, 3)
            skips.append(features)
            i += 1
    res("middle_block.0", features, features)
    attend("middle_block.1", features)
    res("middle_block.2", features, features)
    i = 0
    for level, m in list(enumerate(mult))[::-1]:
        for block in range(flags["num_res_blocks"] + 1):
            res(f"output_blocks.{i}.0", features + skips.pop(), m * base)
            features, j = m * base, 1
            if 2**level in attention:
                attend(f"output_blocks.{i}.{j}", features)
                j += 1
            if level and block == flags["num_res_blocks"]:
                if flags["resblock_updown"]:
                    res(f"output_blocks.{i}.{j}", features, features)
                else:
                    layer(f"output_blocks.{i}.{j}.conv", features, features, 3, 3)
            i += 1
    layer("out.0", mult[0] * base)
    layer("out.2", channels * (1 + flags["learn_sigma"]), mult[0] * base, 3, 3)
    return shapes
