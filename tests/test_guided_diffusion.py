"""OpenAI's U-Net against a second one, written here as functions over the names in a state dict."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nnunet_diffusion_ensemble.denoiser import FrozenDenoiser
from nnunet_diffusion_ensemble.foreign.denoiser import ForeignDenoiser, read_foreign
from nnunet_diffusion_ensemble.foreign.from_guided_diffusion import FLAGS, guided_betas
from nnunet_diffusion_ensemble.method import DiffusionMethod

Randn = Callable[..., Tensor]
Weights = dict[str, Tensor]
TIMESTEPS = torch.tensor([3, 70])

SMALL = {
    "image_size": 32,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2",
    "attention_resolutions": "16",
}
MODELS: dict[str, dict[str, Any]] = {
    "plain": SMALL,
    "sum instead of scale and shift": SMALL | {"use_scale_shift_norm": False, "learn_sigma": True},
    "as published": SMALL
    | {"resblock_updown": True, "learn_sigma": True, "num_head_channels": 16, "use_new_attention_order": True},
    "rescaled timesteps": SMALL
    | {"rescale_timesteps": True, "diffusion_steps": 100, "num_heads": 2, "num_heads_upsample": 8, "in_channels": 1},
    "three levels": SMALL
    | {"channel_mult": [1, 1, 2], "num_res_blocks": 2, "attention_resolutions": "32,8", "noise_schedule": "cosine"},
}


# ---- the second implementation


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


# ---- made as OpenAI's code saves it

# By hand for SMALL: kinds of layers in each block; at 16 x 16 there is attention.
BLOCKS = {
    "input_blocks": ["conv", "res", "down", "res attention"],
    "output_blocks": ["res attention", "res attention up", "res", "res"],
}
PARAMETERS = {
    "res": ["in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"],
    "attention": ["norm", "qkv", "proj_out"],
    "down": ["op"],
    "up": ["conv"],
}


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., tuple[str, Weights]]:
    """`save(flags)` writes a model with random weights and its flags; gives the source and the weights."""

    def saved(flags: dict[str, Any]) -> tuple[str, Weights]:
        torch.manual_seed(0)
        file = tmp_path / "ema_0.9999_000100.pt"
        file.with_suffix(".json").write_text(json.dumps(flags))
        weights = {
            name: 0.1 * torch.randn(shape) + (1.0 if len(shape) == 1 and name.endswith("weight") else 0)
            for name, shape in shapes_of(flags).items()
        }
        torch.save(weights, file)
        return f"guided_diffusion:{tmp_path}", weights

    return saved


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


def test_names_counted_out_are_those_worked_by_hand_for_a_small_model() -> None:
    expected = {"time_embed.0", "time_embed.2", "out.0", "out.2"}
    blocks = {f"{part}.{i}": kinds for part, list_ in BLOCKS.items() for i, kinds in enumerate(list_)}
    for block, kinds in (blocks | {"middle_block": "res attention res"}).items():
        for j, kind in enumerate(kinds.split()):
            if kind == "conv":
                expected.add(f"{block}.{j}")
            expected |= {f"{block}.{j}.{parameter}" for parameter in PARAMETERS.get(kind, [])}
    found = {name.rpartition(".")[0] for name in shapes_of(SMALL)}
    assert {name for name in found if "skip_connection" not in name} == expected


def frozen(foreign: ForeignDenoiser) -> FrozenDenoiser:
    """The denoiser inside our network, its settings gone through the plans' JSON."""
    plans = json.loads(json.dumps(DiffusionMethod().with_options(foreign.method_options()).to_plans()))
    denoiser = FrozenDenoiser({}, foreign.channels, DiffusionMethod.from_plans({"diffusion": plans}).denoiser)
    denoiser.load_state_dict(dict(foreign.state_dict))
    return denoiser


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_features_and_prediction_are_those_of_the_second_implementation(
    name: str, save: Callable, randn: Randn
) -> None:
    source, weights = save(MODELS[name])
    foreign = read_foreign(source)
    noisy = randn(2, foreign.channels, 16, 24)
    unet = frozen(foreign).double().unet
    output, levels = second_unet(weights, MODELS[name], noisy, TIMESTEPS)
    torch.testing.assert_close(unet.features(noisy.double(), TIMESTEPS), levels, rtol=1e-4, atol=1e-4)
    mean = output[:, : foreign.channels]
    torch.testing.assert_close(unet(noisy.double(), TIMESTEPS), mean, rtol=1e-4, atol=1e-4)
    assert unet.feature_channels == tuple(level.shape[1] for level in levels)


# ---- schedule


@pytest.mark.parametrize("steps", [100, 1000, 4000])
def test_linear_betas_are_scaled_by_a_thousand_steps(steps: int) -> None:
    expected = [1000 / steps * (1e-4 + (0.02 - 1e-4) * t / (steps - 1)) for t in range(steps)]
    np.testing.assert_allclose(guided_betas("linear", steps), expected, rtol=1e-12)


def test_cosine_betas_follow_the_paper_and_end_at_0_999() -> None:
    def signal(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [min(1 - signal((t + 1) / 1000) / signal(t / 1000), 0.999) for t in range(1000)]
    np.testing.assert_allclose(guided_betas("cosine", 1000), expected, rtol=1e-9)
    assert guided_betas("cosine", 1000)[-1] == 0.999


def test_the_schedule_of_the_flags_comes_with_the_weights(save: Callable) -> None:
    source, _ = save(SMALL | {"noise_schedule": "cosine", "diffusion_steps": 50, "predict_xstart": True})
    foreign = read_foreign(source)
    expected = np.cumprod(1 - guided_betas("cosine", 50))
    np.testing.assert_allclose(foreign.state_dict["schedule.alpha_bar"], expected, rtol=1e-6)
    assert (foreign.settings.prediction_type, foreign.settings.num_diffusion_steps) == ("sample", 50)
    assert (foreign.native_size, foreign.divisors, foreign.channels) == ((32, 32), (2, 2), 3)


# ---- what is refused


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"class_cond": True}, "class_cond is set in .*: a model that needs a class"),
        (
            {"noise_schedule": "sigmoid"},
            "Unknown noise_schedule 'sigmoid' of guided-diffusion. Allowed: linear",
        ),
        ({"lr": 1e-4}, r"Unknown flags \['lr'\] in .*Allowed: image_size, "),
        ({"learn_sigma": "True"}, "learn_sigma in .* must be a bool, got 'True'"),
        ({"num_heads": 2.0}, "num_heads in .* must be a int, got 2.0"),
        ({"attention_resolutions": "a,b"}, r'attention_resolutions in .* must be numbers, "16,8" or \[16, 8\]'),
        ({"channel_mult": ""}, "channel_mult is missing in .*images of 32, only for 512, 256, 128, 64"),
        ({"channel_mult": "1,3"}, r"not those of the U-Net that its arguments describe \(\d+ differences\)"),
        ({"num_channels": 40}, r"no arguments of a guided_diffusion U-Net .*divisible"),
    ],
)
def test_flags_that_cannot_be_used_are_refused(flags: dict, message: str, save: Callable, tmp_path: Path) -> None:
    source, _ = save(SMALL)
    (tmp_path / "ema_0.9999_000100.json").write_text(json.dumps(SMALL | flags))
    with pytest.raises(ValueError, match=message):
        read_foreign(source)


def test_flags_without_effect_on_the_network_are_allowed(save: Callable) -> None:
    source, _ = save(SMALL | {"use_fp16": True, "timestep_respacing": "ddim25"})
    assert read_foreign(source).channels == 3
