"""A denoiser as a safetensors file: its weights, and in the header as JSON what a checkpoint has beside them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ENDING = ".safetensors"
KEY = "nnunet_diffusion_ensemble"  # of the header's metadata


def write_safetensors(checkpoint: Mapping[str, Any], file: Path) -> None:
    """Writes `network_weights` as tensors and everything else as metadata.

    Of tensors that a state dict has under several names one is stored; the metadata has the other names, and the
    checksum of the stored values, which the format itself lacks.

    Raises:
        OSError: the library could not write.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    first: dict[tuple[int, tuple[int, ...]], str] = {}
    stored: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    for name, value in checkpoint["network_weights"].items():
        key = (value.data_ptr(), tuple(value.shape))
        if value.numel() and key in first:
            same[name] = first[key]
        else:
            first[key] = name
            stored[name] = value.detach().cpu().clone().contiguous()
    others = {name: value for name, value in checkpoint.items() if name != "network_weights"}
    described = {"checkpoint": others, "same": same, "sha256": _checksum(stored)}
    try:
        save_file(stored, file, {"format": "pt", KEY: json.dumps(described)})
    except SafetensorError as error:  # no kind of OSError, also for want of room
        raise OSError(f"{file} could not be written ({error}).") from error


def read_safetensors(file: Path) -> dict[str, Any]:
    """What `write_safetensors` was given.

    Raises:
        ValueError: the file is damaged, or holds weights alone.
    """
    from safetensors import safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
    except Exception as error:  # the library has errors of its own
        raise ValueError(f"{file} is damaged: it cannot be read as safetensors ({error}).") from error
    if KEY not in metadata:
        raise ValueError(
            f"{file} is a safetensors file, but not of `nnunet-diffusion export`: it holds weights without the plans "
            "that say which network they belong to."
        )
    try:
        described = json.loads(metadata[KEY])
        is_whole = described["sha256"] == _checksum(weights)
        weights |= {name: weights[other] for name, other in described["same"].items()}
        checkpoint = {**described["checkpoint"], "network_weights": weights}
    except Exception as error:  # whatever is damaged in the JSON
        raise ValueError(f"{file} is damaged: its metadata cannot be read ({error}).") from error
    if not is_whole:
        raise ValueError(f"{file} is damaged: its weights have another checksum than they were written with.")
    return checkpoint


def _checksum(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].dtype} {tuple(weights[name].shape)}".encode())
        digest.update(weights[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
