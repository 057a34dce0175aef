"""OpenAI's U-Net against a second one, that works on the names in a state dict; its schedules, and what is refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from second_guided_diffusion import Weights, second_unet, shapes_of
from torch import Tensor

from nnunet_diffusion_ensemble.denoiser.foreign.denoiser import ForeignDenoiser, read_foreign
from nnunet_diffusion_ensemble.denoiser.foreign.from_guided_diffusion import guided_betas
from nnunet_diffusion_ensemble.denoiser.model import FineTunedDenoiser, FrozenDenoiser
from nnunet_diffusion_ensemble.method import DiffusionMethod

Randn = Callable[..., Tensor]
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
    plans = json.loads(json.dumps(DiffusionMethod().with_options({"denoiser": foreign.settings.to_json()}).to_plans()))
    denoiser = FrozenDenoiser({}, foreign.channels, DiffusionMethod.from_plans({"diffusion": plans}).denoiser)
    denoiser.load_state_dict(dict(foreign.state_dict))
    return denoiser


@pytest.mark.parametrize("name", MODELS)
def test_fine_tuned_every_weight_before_the_output_gets_a_gradient(name: str, save: Callable, randn: Randn) -> None:
    source, _ = save(MODELS[name])
    foreign = read_foreign(source)
    denoiser = FineTunedDenoiser({}, foreign.channels, foreign.settings).train()
    denoiser.load_state_dict(dict(foreign.state_dict))
    images, noise = (randn(2, foreign.channels, 16, 24) for _ in range(2))
    levels = denoiser.features(images, noise, TIMESTEPS)
    torch.stack([level.square().mean() for level in levels]).sum().backward()
    without = {name for name, p in denoiser.named_parameters() if p.grad is None}
    assert without == {"unet.out.0.weight", "unet.out.0.bias", "unet.out.2.weight", "unet.out.2.bias"}
    assert without == {name for name, p in denoiser.named_parameters() if not p.requires_grad}


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
        ({"diffusion_steps": 0}, "diffusion_steps in .* must be 2 or more, got 0"),
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


def test_weights_without_the_last_layer_are_refused(save: Callable, tmp_path: Path) -> None:
    source, weights = save(SMALL | {"learn_sigma": True})
    del weights["out.2.weight"]
    torch.save(weights, tmp_path / "ema_0.9999_000100.pt")
    with pytest.raises(ValueError, match=r"out\.2\.weight: missing in the file, \(3, 32, 3, 3\) by its arguments"):
        read_foreign(source)


def test_flags_without_effect_on_the_network_are_allowed(save: Callable) -> None:
    source, _ = save(SMALL | {"use_fp16": True, "timestep_respacing": "ddim25"})
    assert read_foreign(source).channels == 3
