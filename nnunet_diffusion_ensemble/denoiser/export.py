"""`nnunet-diffusion export`: a checkpoint with nothing but what a denoiser needs, small enough to pass on."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nnunet_diffusion_ensemble.denoiser.folding import folded_weights
from nnunet_diffusion_ensemble.denoiser.nnssl import nnssl_description
from nnunet_diffusion_ensemble.denoiser.pretrained import PREFIX, TRAINER_NAME, PretrainedDenoiser, each_once
from nnunet_diffusion_ensemble.method import PLANS_KEY
from nnunet_diffusion_ensemble.nnunet.checkpoint import write_checkpoint
from nnunet_diffusion_ensemble.nnunet.pretrainings import DENOISER, PRETRAINS
from nnunet_diffusion_ensemble.nnunet.safetensors_file import ENDING as SAFETENSORS
from nnunet_diffusion_ensemble.system.guard import alone_at
from nnunet_diffusion_ensemble.system.places import refuse_folder

FOLDED = "nnunet-diffusion export --timestep"  # as the trainer: nnU-Net does not read it, our errors name it


def export_denoiser(denoiser: PretrainedDenoiser, output: Path, half: bool = False) -> None:
    """Writes the averaged weights of a denoiser with the part of the plans that it needs, whole or not at all.

    Everything that reads a checkpoint of the pretraining reads this one, too, except for `--c`.

    Args:
        denoiser: from `read_pretrained`.
        output: file to write; one named `.safetensors` is written in that format.
        half: store parameters in float16, half the size; they are used in float32 all the same. Buffers, such as the
            noise schedule, stay as they are.

    Raises:
        ValueError: `output` is the checkpoint itself, or a weight is too large for float16.
        FileNotFoundError: the folder of `output` is missing.
    """
    _check_output(output, denoiser.file)
    parameters = [PREFIX + name for name, _ in denoiser.module().named_parameters(remove_duplicate=False)]
    weights = _in_half(denoiser.weights, parameters) if half else denoiser.weights
    _write(output, denoiser, weights, TRAINER_NAME, DENOISER)


def export_folded(
    denoiser: PretrainedDenoiser, output: Path, timestep: int, half: bool = False, for_nnssl: bool = False
) -> None:
    """Writes a denoiser at one timestep as weights for nnU-Net's own trainers and their `-pretrained_weights`.

    Args:
        denoiser: from `read_pretrained`.
        output: file to write, whole or not at all.
        timestep: from 0 to the length of the diffusion process less one.
        half: store in float16, half the size; nnU-Net uses them in float32 all the same.
        for_nnssl: add what nnU-Net's readers of nnssl's checkpoints ask for.

    Raises:
        ValueError: as `export_denoiser`, and where `folded_weights` or `nnssl_description` cannot do it.
        FileNotFoundError: the folder of `output` is missing.
    """
    if output.suffix == SAFETENSORS:
        name = output.with_suffix(".pth").name
        raise ValueError(f"nnU-Net's -pretrained_weights reads no {SAFETENSORS}: name {name} instead.")
    _check_output(output, denoiser.file)
    description = nnssl_description(denoiser) if for_nnssl else {}
    weights = folded_weights(denoiser.module(), timestep)
    if half:
        weights = _in_half(weights, [name for name, value in weights.items() if value.is_floating_point()])
    _write(output, denoiser, weights, FOLDED, None, description)


def _check_output(output: Path, checkpoint_file: Path) -> None:
    refuse_folder(output)
    if output.exists() and output.samefile(checkpoint_file):
        raise ValueError(f"{output} is the checkpoint itself, which training may have to resume from: name another.")


def _write(
    output: Path,
    denoiser: PretrainedDenoiser,
    weights: Mapping[str, Tensor],
    trainer_name: str,
    pretrains: str | None,
    description: Mapping[str, Any] | None = None,
) -> None:
    checkpoint = {
        "network_weights": weights,
        "init_args": {"plans": _plans(denoiser), "configuration": denoiser.configuration_name},
        "trainer_name": trainer_name,
        PRETRAINS: pretrains,
        **(description or {}),
    }
    with alone_at(output):
        write_checkpoint(checkpoint, output)


def _plans(denoiser: PretrainedDenoiser) -> dict[str, Any]:
    """Only the denoiser's configuration, without the path of a checkpoint on the machine where it was trained."""
    method = {**denoiser.configuration[PLANS_KEY], "pretrained_checkpoint": None}
    configuration = {**denoiser.configuration, PLANS_KEY: method}
    return {**denoiser.plans, "configurations": {denoiser.configuration_name: configuration}}


def _in_half(weights: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The named ones in float16."""
    halved = each_once({name: weights[name] for name in names}, Tensor.half)
    for name, weight in halved.items():
        if not weight.isfinite().all():
            raise ValueError(f"{name} holds values too large for float16. Export without --half.")
    return {**weights, **halved}
