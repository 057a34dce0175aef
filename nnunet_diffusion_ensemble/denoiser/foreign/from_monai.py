"""Denoisers that MONAI trained: the state dict of a `DiffusionModelUNet`, and a JSON that says which and how."""

from pathlib import Path

from nnunet_diffusion_ensemble.denoiser.foreign.saved_model import (
    LEARNED_VARIANCES,
    SavedModel,
    find_weights,
    image_range_of,
    image_size_of,
    read_weights,
)
from nnunet_diffusion_ensemble.system.json_files import read_object

EXAMPLE = (
    '{"network": {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": [64, 128], ...},'
    ' "scheduler": {"num_train_timesteps": 1000, "schedule": "linear_beta", "prediction_type": "epsilon"},'
    ' "image_range": [0, 1], "image_size": [64, 64]}'
)


def read_monai(path: Path) -> SavedModel:
    """A state dict of `DiffusionModelUNet` and a JSON of the same name: arguments of the network and its scheduler.

    Raises:
        FileNotFoundError, ValueError: if something is missing or cannot be used.
    """
    from monai.networks.schedulers import DDPMScheduler

    weights, description = find_weights(path, EXAMPLE)
    values = read_object(description)
    unknown = set(values) - {"network", "scheduler", "image_range", "image_size"}
    if unknown or not all(isinstance(values.get(name), dict) for name in ("network", "scheduler")):
        raise ValueError(f"{description} must hold the arguments of network and scheduler, as\n  {EXAMPLE}")
    try:
        scheduler = DDPMScheduler(**values["scheduler"])
    except Exception as error:
        raise ValueError(f"'scheduler' of {description} does not fit MONAI's DDPMScheduler: {error}") from error
    return SavedModel(
        values["network"],
        read_weights(weights),
        scheduler.alphas_cumprod,
        str(values["scheduler"].get("prediction_type", "epsilon")),
        values["scheduler"].get("variance_type") in LEARNED_VARIANCES,
        image_range_of(values, description),
        image_size_of(values, values["network"].get("spatial_dims"), description),
    )
