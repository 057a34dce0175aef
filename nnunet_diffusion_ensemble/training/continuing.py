"""Continuing a training (nnU-Net's `--c`): from which checkpoints it can be, and which are of an earlier training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.nnunet.shapes import different_shapes, listed
from nnunet_diffusion_ensemble.system.atomic import SUFFIX

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")
EARLIER = "earlier_"


def refuse_foreign_checkpoint(
    checkpoint: Mapping[str, Any],
    file: Path,
    trainer_name: str,
    configuration: Mapping[str, Any],
    weights: Mapping[str, Tensor],
) -> None:
    """Checks that a checkpoint is of the same trainer, network and diffusion process.

    Args:
        checkpoint: as `read_checkpoint` returns it.
        file: where it was read from.
        trainer_name: the trainer that is to continue.
        configuration: its configuration of the plans.
        weights: state dict of its network.

    Raises:
        ValueError: it is not; the message says whose it is, or what differs.
    """
    if checkpoint["trainer_name"] != trainer_name:
        raise ValueError(
            f"{file} is a checkpoint of {checkpoint['trainer_name']}, which {trainer_name} cannot continue. Move it "
            "out of this folder."
        )
    arguments = checkpoint["init_args"]
    theirs = PlansManager(arguments["plans"]).get_configuration(arguments["configuration"]).configuration
    differences = _different_settings(theirs, configuration) + different_shapes(checkpoint["network_weights"], weights)
    if differences:
        raise ValueError(
            f"{file} was trained with other plans:{listed(differences)}\n"
            "Continue with the plans that it was trained with, or start anew, without --c."
        )


def _different_settings(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Settings without which the same weights mean something else."""
    processes = [DiffusionMethod.from_plans(configuration).denoiser.to_json() for configuration in (theirs, ours)]
    return [
        f"{name}: {value} in the checkpoint, {processes[1][name]} in the plans"
        for name, value in processes[0].items()
        if value != processes[1][name]
    ]


def remove_partial_files(folder: Path) -> None:
    """Removes what a kill left of files that were being written."""
    for file in folder.glob(f"*{SUFFIX}"):
        file.unlink()


def set_earlier_checkpoints_aside(folder: Path) -> list[str]:
    """Renames the checkpoints of an earlier training, so that `--c` does not take them for those of the new one.

    Returns:
        the names that they had.
    """
    found = [name for name in CHECKPOINTS if (folder / name).is_file()]
    for name in found:
        (folder / name).replace(folder / f"{EARLIER}{name}")
    return found
