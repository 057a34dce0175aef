"""The segmentation model that ships with the package: a head in a file, for the denoiser that ships as well."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunet_diffusion_ensemble.data.pixels import SizePx
from nnunet_diffusion_ensemble.demo.hospitals import SAMPLE, sample_split
from nnunet_diffusion_ensemble.demo.steps import DENOISER, DENOISER_SIZE_PX
from nnunet_diffusion_ensemble.denoiser.pretrained import PREFIX, read_pretrained
from nnunet_diffusion_ensemble.denoiser.source import denoiser_file
from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint, write_checkpoint
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.json_files import read_object

HEAD = Path(__file__).resolve().parent / "model" / "lungs-64.safetensors"
SIZE_PX: SizePx = (DENOISER_SIZE_PX, DENOISER_SIZE_PX)  # of the images that it was trained on
CONFIGURATION = "2d"


def write_head(trained: Path, file: Path = HEAD) -> None:
    """Writes what a results folder of the demo's has beside the denoiser that ships: head, plans and dataset.json.

    Args:
        trained: of `DiffusionEnsembleTrainer`, with fold 0.
        file: `.safetensors`.

    Raises:
        FileNotFoundError: the folder lacks something.
        ValueError: its denoiser is another one.
    """
    checkpoint = read_checkpoint(trained / "fold_0" / "checkpoint_final.pth")
    weights: dict[str, Tensor] = checkpoint["network_weights"]
    ours = {name: value for name, value in weights.items() if name.startswith(PREFIX)}
    if ours.keys() != (shipped := _denoiser_weights()).keys() or any(
        not torch.equal(value, shipped[name]) for name, value in ours.items()
    ):
        raise ValueError(f"The denoiser of {trained} is not {DENOISER}, with which the head would be used.")
    described = {name: read_object(trained / f"{name}.json", "Train it again.") for name in ("plans", "dataset")}
    head = {
        "network_weights": {name: value for name, value in weights.items() if name not in ours},
        "init_args": {
            "plans": described["plans"],
            "dataset_json": described["dataset"],
            "configuration": CONFIGURATION,
        },
        "trainer_name": checkpoint["trainer_name"],
        "inference_allowed_mirroring_axes": checkpoint["inference_allowed_mirroring_axes"],
    }
    write_checkpoint(head, file)


def lay_out_model(folder: Path) -> Path:
    """Writes the shipped model into an empty folder, as nnU-Net's results folders are; returns the folder."""
    checkpoint: dict[str, Any] = read_checkpoint(HEAD)
    arguments = checkpoint["init_args"]
    checkpoint["network_weights"] = {**_denoiser_weights(), **checkpoint["network_weights"]}
    (folder / "fold_0").mkdir()
    write_checkpoint(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    write_text(folder / "plans.json", json.dumps(arguments["plans"], indent=4))
    write_text(folder / "dataset.json", json.dumps(arguments["dataset_json"], indent=4))
    return folder


def training_images() -> list[Path]:
    """The X-rays that its head was trained on."""
    return [SAMPLE / "montgomery" / "images" / f"{case}.png" for case in sample_split()["train"]]


def _denoiser_weights() -> dict[str, Tensor]:
    """In float32, as in a trained checkpoint; the file has half of that."""
    weights = read_pretrained(denoiser_file(DENOISER)).weights
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in weights.items()}
