"""Denoisers of OpenAI's guided-diffusion: a state dict, and a JSON with the flags of the command line."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_diffusion_ensemble.denoiser.foreign.saved_model import (
    SavedModel,
    find_weights,
    image_range_of,
    read_weights,
)
from nnunet_diffusion_ensemble.denoiser.unets.guided_diffusion import GuidedDiffusionArguments
from nnunet_diffusion_ensemble.system.json_files import read_object

EXAMPLE = '{"image_size": 256, "num_channels": 128, "num_res_blocks": 2, "learn_sigma": true, ...}'

# guided-diffusion's defaults: what was not given on its command line.
FLAGS: dict[str, Any] = {
    "image_size": 64,
    "num_channels": 128,
    "num_res_blocks": 2,
    "num_heads": 4,
    "num_heads_upsample": -1,
    "num_head_channels": -1,
    "attention_resolutions": "16,8",
    "channel_mult": "",
    "dropout": 0.0,
    "class_cond": False,
    "use_scale_shift_norm": True,
    "resblock_updown": False,
    "use_new_attention_order": False,
    "learn_sigma": False,
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "predict_xstart": False,
    "rescale_timesteps": False,
}
# They play no part in what the network computes. Spaced timesteps are a matter of sampling.
FLAGS_WITHOUT_EFFECT = ("use_fp16", "use_checkpoint", "use_kl", "rescale_learned_sigmas", "timestep_respacing")
CHANNEL_MULT = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}


def read_guided_diffusion(path: Path) -> SavedModel:
    """A state dict of OpenAI's guided-diffusion and a JSON of the same name with the flags of its command line.

    Besides the flags it may hold `in_channels` (3) and `image_range` ([-1, 1]).

    Raises:
        FileNotFoundError, ValueError: if something is missing or cannot be used.
    """
    weights, description = find_weights(path, EXAMPLE)
    values = read_object(description)
    image_range = image_range_of(values, description)
    in_channels = values.pop("in_channels", 3)
    values.pop("image_range", None)
    flags = _guided_flags(values, description)
    arguments = GuidedDiffusionArguments(
        **{f.name: flags[f.name] for f in fields(GuidedDiffusionArguments) if f.name in flags},
        timestep_scale=1000 / flags["diffusion_steps"] if flags["rescale_timesteps"] else 1.0,
        in_channels=in_channels,
        out_channels=in_channels * (1 + flags["learn_sigma"]),
    )
    betas = guided_betas(flags["noise_schedule"], flags["diffusion_steps"])
    return SavedModel(
        json.loads(json.dumps(asdict(arguments))),
        read_weights(weights),
        torch.from_numpy(np.cumprod(1 - betas)).float(),
        "sample" if flags["predict_xstart"] else "epsilon",
        flags["learn_sigma"],
        image_range,
        (flags["image_size"],) * 2,
    )


def guided_betas(noise_schedule: str, num_diffusion_steps: int) -> np.ndarray:
    """guided-diffusion's betas in double precision.

    `linear` runs from 1e-4 to 0.02, times 1000 / steps; `cosine` follows Nichol and Dhariwal with betas up to 0.999.

    Raises:
        ValueError: for another schedule.
    """
    if noise_schedule == "linear":
        factor = 1000 / num_diffusion_steps
        return np.linspace(factor * 1e-4, factor * 0.02, num_diffusion_steps)
    if noise_schedule == "cosine":
        share = np.arange(num_diffusion_steps + 1) / num_diffusion_steps
        alpha_bar = np.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2
        return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    raise ValueError(f"Unknown noise_schedule {noise_schedule!r} of guided-diffusion. Allowed: linear, cosine.")


def _guided_flags(values: Mapping[str, Any], description: Path) -> dict[str, Any]:
    unknown = sorted(set(values) - {*FLAGS, *FLAGS_WITHOUT_EFFECT})
    if unknown:
        allowed = ", ".join((*FLAGS, "in_channels", "image_range"))
        raise ValueError(f"Unknown flags {unknown} in {description}. Allowed: {allowed}.")
    for name in set(values) & set(FLAGS) - {"attention_resolutions", "channel_mult"}:
        kind = type(FLAGS[name])
        if type(values[name]) is not kind and not (kind is float and type(values[name]) is int):
            raise ValueError(f"{name} in {description} must be a {kind.__name__}, got {values[name]!r}.")
    flags = FLAGS | {name: values[name] for name in values if name in FLAGS}
    if flags["class_cond"]:
        raise ValueError(f"class_cond is set in {description}: a model that needs a class cannot read unknown images.")
    if flags["diffusion_steps"] < 2:
        raise ValueError(f"diffusion_steps in {description} must be 2 or more, got {flags['diffusion_steps']}.")
    flags["attention_resolutions"] = _numbers(flags["attention_resolutions"], "attention_resolutions", description)
    if flags["channel_mult"] in ("", []):
        if flags["image_size"] not in CHANNEL_MULT:
            raise ValueError(
                f"channel_mult is missing in {description}: guided-diffusion has none for images of "
                f"{flags['image_size']}, only for {', '.join(map(str, CHANNEL_MULT))}."
            )
        flags["channel_mult"] = CHANNEL_MULT[flags["image_size"]]
    flags["channel_mult"] = _numbers(flags["channel_mult"], "channel_mult", description)
    return flags


def _numbers(value: Any, name: str, description: Path) -> tuple[Any, ...]:
    """A list, or guided-diffusion's own way of writing one, `16,8`."""
    try:
        return tuple(int(part) for part in value.split(",")) if isinstance(value, str) else tuple(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f'{name} in {description} must be numbers, "16,8" or [16, 8], got {value!r}.') from error
