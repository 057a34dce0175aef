"""Finding a pretrained denoiser, checking that it fits, and loading it into the segmentation network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_diffusion_ensemble.checkpoint import read_checkpoint
from nnunet_diffusion_ensemble.denoiser import Denoiser
from nnunet_diffusion_ensemble.method import DiffusionMethod

PREFIX = "denoiser."
TRAINER_NAME = "DiffusionPretrainTrainer"
COMPARED = ("n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_blocks_per_stage")


def find_pretrained_checkpoint(
    results_folder: Path, plans_name: str, configuration: str, fold: int | str, from_plans: str | None
) -> Path:
    """The checkpoint to start from: the one named in the plans, else the pretraining of this fold, else of fold `all`.

    Args:
        results_folder: folder of the data set in `nnUNet_results`.
        plans_name: `plans_name` of the plans.
        configuration: e.g. `2d`.
        fold: the fold that is trained.
        from_plans: `diffusion.pretrained_checkpoint` of the plans.

    Raises:
        FileNotFoundError: if there is none; the message says which command makes one.
    """
    if from_plans is not None:
        if not Path(from_plans).is_file():
            raise FileNotFoundError(f"The plans name {from_plans} as pretrained_checkpoint, but there is no such file.")
        return Path(from_plans)
    trained = results_folder / f"{TRAINER_NAME}__{plans_name}__{configuration}"
    folders = [trained / f"fold_{f}" for f in dict.fromkeys((fold, "all"))]
    for folder in folders:
        if (folder / "checkpoint_final.pth").is_file():
            return folder / "checkpoint_final.pth"
    command = f"nnUNetv2_train {results_folder.name} {configuration} all -tr {TRAINER_NAME} -p {plans_name}"
    unfinished = [str(f) for folder in folders for f in sorted(folder.glob("checkpoint_*.pth"))]
    if unfinished:
        raise FileNotFoundError(
            f"Pretraining of the denoiser has not finished; there is only {', '.join(unfinished)}. Finish it with\n"
            f"  {command} --c\nor use it as it is with -pretrained_weights FILE."
        )
    raise FileNotFoundError(
        f"No pretrained denoiser: looked for checkpoint_final.pth in {', '.join(map(str, folders))}. Make one with\n"
        f"  {command}\nor name one with -pretrained_weights FILE."
    )


def load_denoiser(network: nn.Module, checkpoint_file: Path, architecture: Mapping[str, Any]) -> None:
    """Loads the weights of a pretrained denoiser, with its schedule and its input scaling.

    Args:
        network: network with a part named `denoiser`.
        checkpoint_file: checkpoint of `DiffusionPretrainTrainer`.
        architecture: `architecture` of the network's own configuration of the plans, to say what differs.

    Raises:
        ValueError: if the file is no such checkpoint or the denoiser does not fit; the message says what differs.
    """
    weights, configuration = _read(checkpoint_file)
    own = {k: v for k, v in network.state_dict().items() if k.startswith(PREFIX)}
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in weights.items()}:
        differences = _architecture_differences(architecture, configuration["architecture"])
        differences += _shape_differences(own, weights)
        raise ValueError(
            f"The denoiser in {checkpoint_file} does not fit this network:\n  "
            + "\n  ".join(differences[:6])
            + "\nPretrain one with these plans, or plan with the options that the denoiser was planned with."
        )
    network.load_state_dict(weights, strict=False)


def read_denoiser(checkpoint_file: Path) -> tuple[Denoiser, tuple[int, ...]]:
    """The denoiser in a checkpoint of either trainer, in eval mode on the CPU, and the patch size it was trained with.

    Raises:
        ValueError: if the file is no such checkpoint.
    """
    weights, configuration = _read(checkpoint_file)
    channels = weights[f"{PREFIX}input_scale"].shape[1]
    denoiser = Denoiser(configuration["architecture"], channels, DiffusionMethod.from_plans(configuration).denoiser)
    denoiser.load_state_dict({name.removeprefix(PREFIX): value for name, value in weights.items()})
    return denoiser.eval(), tuple(configuration["patch_size"])


def _read(checkpoint_file: Path) -> tuple[dict[str, torch.Tensor], Mapping[str, Any]]:
    checkpoint = read_checkpoint(checkpoint_file)
    weights = {k: v for k, v in checkpoint["network_weights"].items() if k.startswith(PREFIX)}
    if not weights:
        raise ValueError(
            f"{checkpoint_file} holds no denoiser: it was written by {checkpoint['trainer_name']}. "
            f"Name a checkpoint of {TRAINER_NAME}."
        )
    arguments = checkpoint["init_args"]
    return weights, PlansManager(arguments["plans"]).get_configuration(arguments["configuration"]).configuration


def _architecture_differences(own: Mapping[str, Any], pretrained: Mapping[str, Any]) -> list[str]:
    ours, theirs = own["arch_kwargs"], pretrained["arch_kwargs"]
    return [
        f"{name}: {theirs.get(name)} in the checkpoint, {ours.get(name)} in these plans"
        for name in COMPARED
        if theirs.get(name) != ours.get(name)
    ]


def _shape_differences(own: Mapping[str, torch.Tensor], pretrained: Mapping[str, torch.Tensor]) -> list[str]:
    channels = [tuple(weights[f"{PREFIX}input_scale"].shape)[1] for weights in (pretrained, own)]
    if channels[0] != channels[1]:
        return [f"image channels: {channels[0]} in the checkpoint, {channels[1]} in this data set"]
    return [
        f"{name}: {_shape(pretrained, name)} in the checkpoint, {_shape(own, name)} here"
        for name in dict.fromkeys([*own, *pretrained])
        if _shape(own, name) != _shape(pretrained, name)
    ]


def _shape(weights: Mapping[str, torch.Tensor], name: str) -> str:
    return str(tuple(weights[name].shape)) if name in weights else "missing"
