"""Our trainers for `nnUNet_extTrainer`; nnU-Net drops this module after each look-up, but not those it serves."""

import warnings
from importlib import import_module
from typing import Any

try:
    from nnunet_diffusion_ensemble.nnunet.register import TRAINERS
except ModuleNotFoundError:  # An error here would also end the look-ups of other people's trainers.
    warnings.warn(
        f"nnUNet_extTrainer holds {__file__}, but nnunet-diffusion-ensemble is not installed here. "
        "Install it, or take the folder out of nnUNet_extTrainer.",
        stacklevel=2,
    )
    TRAINERS = {}


def __getattr__(name: str) -> Any:
    if name not in TRAINERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(TRAINERS[name]), name)
