"""Denoisers that diffusers saved: a `UNet2DModel` and its scheduler."""

import inspect
import json
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.denoiser.foreign.saved_model import LEARNED_VARIANCES, SavedModel
from nnunet_diffusion_ensemble.denoiser.unets.libraries import import_diffusers
from nnunet_diffusion_ensemble.system.json_files import read_object


def read_diffusers(folder: Path) -> SavedModel:
    """A `UNet2DModel` with its scheduler: a pipeline's folder, or one folder that both were saved into.

    Raises:
        FileNotFoundError, ValueError: if something is missing or cannot be used.
        RuntimeError: if diffusers is not installed.
    """
    diffusers = import_diffusers()
    unet_folder, scheduler_folder = _diffusers_folders(folder)
    _check_class(unet_folder / "config.json", "UNet2DModel")
    try:
        model, info = diffusers.UNet2DModel.from_pretrained(
            unet_folder, local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except Exception as error:
        raise ValueError(f"diffusers cannot read the model in {unet_folder}: {error}") from error
    if info["missing_keys"] or info["unexpected_keys"]:
        raise ValueError(
            f"The weights in {unet_folder} are not those of its config.json: missing are "
            f"{sorted(info['missing_keys'])[:3]}, unexpected {sorted(info['unexpected_keys'])[:3]}."
        )
    known = inspect.signature(diffusers.UNet2DModel.__init__).parameters
    arguments = json.loads(json.dumps({name: value for name, value in model.config.items() if name in known}))
    scheduler = _diffusers_scheduler(diffusers, scheduler_folder)
    size = arguments["sample_size"]
    return SavedModel(
        arguments,
        {name: weight.float() for name, weight in model.state_dict().items()},
        scheduler.alphas_cumprod,
        scheduler.config.get("prediction_type", "epsilon"),
        scheduler.config.get("variance_type") in LEARNED_VARIANCES,
        native_size=(size, size) if isinstance(size, int) else None if size is None else tuple(size),
    )


def _diffusers_folders(folder: Path) -> tuple[Path, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. Name one that save_pretrained of diffusers wrote.")
    for encoder in ("vqvae", "vae"):
        if (folder / encoder).is_dir():
            raise ValueError(f"{folder} is a latent diffusion model ({encoder}/): its U-Net does not read images.")
    is_pipeline = (folder / "unet").is_dir()
    unet, scheduler = (folder / "unet", folder / "scheduler") if is_pipeline else (folder, folder)
    if not (unet / "config.json").is_file():
        raise FileNotFoundError(f"{unet / 'config.json'} is missing: {folder} holds no model of diffusers.")
    if not (scheduler / "scheduler_config.json").is_file():
        raise FileNotFoundError(
            f"{scheduler / 'scheduler_config.json'} is missing: without its noise schedule the model cannot be used. "
            f"Save the scheduler that it was trained with: scheduler.save_pretrained({str(scheduler)!r})."
        )
    return unet, scheduler


def _check_class(config: Path, allowed: str) -> None:
    name = read_object(config).get("_class_name")
    if name != allowed:
        raise ValueError(f"{config} is that of a {name}. Only {allowed} can be used: unconditional, on images.")


def _diffusers_scheduler(diffusers: Any, folder: Path) -> Any:
    name = read_object(folder / "scheduler_config.json").get("_class_name")
    try:
        scheduler = getattr(diffusers, str(name)).from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ValueError(f"diffusers cannot read the scheduler in {folder}, a {name}: {error}") from error
    if getattr(scheduler, "alphas_cumprod", None) is None:
        raise ValueError(f"{name} in {folder} is not that of a DDPM: it has no alphas_cumprod for discrete timesteps.")
    return scheduler
