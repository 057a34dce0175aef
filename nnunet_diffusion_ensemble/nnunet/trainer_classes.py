"""Trainers by name: ours with or without registration, and all others as nnU-Net finds them."""

import contextlib
import io
import pydoc
from typing import Any

from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_diffusion_ensemble.nnunet.register import TRAINERS
from nnunet_diffusion_ensemble.system.mistakes import nearest

STOCK = "nnUNetTrainer"


def find_trainer(name: str) -> Any:
    """The class of a trainer.

    Raises:
        ValueError: there is none of this name; the message says which one is like it.
    """
    if name in TRAINERS:
        return pydoc.locate(f"{TRAINERS[name]}.{name}")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net tells where it looks
            return recursive_find_trainer_class_by_name(name)
    except RuntimeError as error:
        raise ValueError(
            f"nnU-Net finds no trainer {name}{nearest(name, (STOCK, *TRAINERS))} For one of your own, put the folder "
            "of its module into the variable nnUNet_extTrainer, in this environment."
        ) from error
