"""Finding a pretrained denoiser, checking that it fits, and loading it into the segmentation network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.channels import adapt_channels
from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.denoiser.source import denoiser_file
from nnunet_diffusion_ensemble.method import PLANS_KEY, DenoiserSettings
from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint
from nnunet_diffusion_ensemble.nnunet.named_classes import check_architecture
from nnunet_diffusion_ensemble.nnunet.pretrainings import DENOISER, TRAINER_OF, finished_pretraining, pretrained_by
from nnunet_diffusion_ensemble.nnunet.shapes import different_shapes, listed
from nnunet_diffusion_ensemble.system.messages import blaming

PREFIX = "denoiser."
BEFORE_FINE_TUNING = "denoiser_before_fine_tuning"  # in a checkpoint: its weights, as `network_weights` name them
# One convolution, which the state dict of nnU-Net's building block holds under two names.
STEM_WEIGHTS = tuple(f"{PREFIX}unet.encoder.stem.convs.0.{name}.weight" for name in ("conv", "all_modules.0"))
OUTPUT = f"{PREFIX}unet.output"
TRAINER_NAME = TRAINER_OF[DENOISER]
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
        from_plans: `diffusion.pretrained_checkpoint` of the plans: a file, or the name of a shipped denoiser.

    Raises:
        FileNotFoundError: if there is none; the message says which command makes one.
        ValueError: as `finished_pretraining`.
    """
    if from_plans is not None:
        try:
            return denoiser_file(from_plans)
        except (FileNotFoundError, ValueError) as error:
            raise FileNotFoundError(f"The plans name {from_plans} as pretrained_checkpoint. {error}") from error
    return finished_pretraining(results_folder, DENOISER, plans_name, configuration, fold)


@dataclass(frozen=True)
class PretrainedDenoiser:
    """A denoiser as a checkpoint holds it.

    Attributes:
        file: the checkpoint.
        weights: parameters and buffers under the names that they have in the segmentation network.
        plans: plans it was trained with.
        configuration_name: e.g. `2d`.
        configuration: the configuration of that name.
    """

    file: Path
    weights: dict[str, Tensor]
    plans: Mapping[str, Any]
    configuration_name: str
    configuration: Mapping[str, Any]

    @property
    def architecture(self) -> Mapping[str, Any]:
        """`architecture` of its configuration of the plans."""
        return self.configuration["architecture"]

    @property
    def patch_size(self) -> tuple[int, ...]:
        return tuple(self.configuration["patch_size"])

    @property
    def channels(self) -> int:
        """Image channels."""
        return self.weights[f"{PREFIX}input_scale"].shape[1]

    def refuse_untrained(self) -> None:
        """Raises ValueError for a denoiser whose weights are random."""
        if self.weights[f"{PREFIX}trained_iterations"] == 0:
            raise ValueError(f"The denoiser in {self.file} has never been trained: its weights are random.")

    @property
    def settings(self) -> DenoiserSettings:
        """Diffusion process and input scaling."""
        return DenoiserSettings.from_plans(self.configuration)

    def check(self, trusted: bool) -> None:
        """Raises an error if a part is missing or of another kind, or something else than networks would be called."""
        settings = self.settings
        if settings.library is None and not trusted:
            check_architecture(self.architecture)
        if self.channels < 1 or not all(isinstance(size, int) and size > 0 for size in self.patch_size):
            raise ValueError("its patch_size or number of channels is none.")
        bool(self.weights[f"{PREFIX}trained_iterations"] != 0)  # one number

    def module(self) -> Denoiser:
        """The denoiser itself, in eval mode on the CPU, all weights in float32."""
        with blaming(self.file):
            denoiser = Denoiser(self.architecture, self.channels, self.settings)
            denoiser.load_state_dict({name.removeprefix(PREFIX): value for name, value in self.weights.items()})
        return denoiser.eval()


def denoiser_weights(network_weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the denoiser among the weights of a network; none if it has no denoiser."""
    return {name: value for name, value in network_weights.items() if name.startswith(PREFIX)}


def each_once(weights: Mapping[str, Tensor], convert: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Converted weights. A state dict has two names for many of nnU-Net's, which must not become two tensors."""
    converted: dict[tuple, Tensor] = {}
    for value in weights.values():
        if (key := (value.data_ptr(), value.shape)) not in converted:
            converted[key] = convert(value)
    return {name: converted[value.data_ptr(), value.shape] for name, value in weights.items()}


def read_pretrained(file: Path, trusted: bool = False) -> PretrainedDenoiser:
    """Reads the denoiser in a checkpoint of `DiffusionPretrainTrainer`, or of a trainer that started from one.

    Args:
        file: the checkpoint, or what `nnunet-diffusion export` made of it.
        trusted: run code of the file if it cannot be read without, as nnU-Net does.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such checkpoint; the message says what it is.
    """
    return pretrained_in(read_checkpoint(file, trusted=trusted), file, trusted)


def pretrained_in(checkpoint: Mapping[str, Any], file: Path, trusted: bool = False) -> PretrainedDenoiser:
    """`read_pretrained` of a file that has been read."""
    weights = checkpoint.get(BEFORE_FINE_TUNING) or denoiser_weights(checkpoint["network_weights"])
    if not weights:
        raise ValueError(
            f"{file} holds no denoiser: it was written by {checkpoint['trainer_name']}. "
            f"Name a checkpoint of {TRAINER_NAME}."
        )
    with blaming(file):
        arguments = checkpoint["init_args"]
        plans, name = dict(arguments["plans"]), arguments["configuration"]
        configuration = PlansManager(plans).get_configuration(name).configuration
        was_fine_tuned = configuration[PLANS_KEY].get("training", {}).get("fine_tune_denoiser", False)
        denoiser = PretrainedDenoiser(file, weights, plans, name, configuration)
        denoiser.check(trusted)
    if was_fine_tuned and pretrained_by(checkpoint) != DENOISER and BEFORE_FINE_TUNING not in checkpoint:
        raise ValueError(
            f"{file} holds a denoiser that {checkpoint['trainer_name']} has fine-tuned for segmentation: it does not "
            f"denoise any more. Name the checkpoint of {TRAINER_NAME} that it was made from."
        )
    return denoiser


def load_into_network(
    network: nn.Module, checkpoint_file: Path, architecture: Mapping[str, Any], adapt_channels: bool = False
) -> str | None:
    """Loads the weights of a pretrained denoiser, with its schedule and its input scaling.

    Args:
        network: network with a part named `denoiser`.
        checkpoint_file: checkpoint of `DiffusionPretrainTrainer`.
        architecture: `architecture` of the network's own configuration of the plans, to say what differs.
        adapt_channels: whether a denoiser of ours with another number of image channels is adapted, or refused.

    Returns:
        How the denoiser was adapted, if it was.

    Raises:
        ValueError: if the file is no such checkpoint or the denoiser does not fit; the message says what differs.
    """
    denoiser = read_pretrained(checkpoint_file)
    weights, note = denoiser.weights, None
    own = {k: v for k, v in network.state_dict().items() if k.startswith(PREFIX)}
    channels = own[f"{PREFIX}input_scale"].shape[1]
    if adapt_channels and channels != denoiser.channels and denoiser.settings.library is None:
        weights = with_channels(weights, channels)
        note = (
            f"The denoiser was trained on images with {denoiser.channels} channel(s), these have {channels}: each "
            f"channel gets the mean weights of its first convolution times {denoiser.channels}/{channels}, and of its "
            "last one."
        )
    if differences := different_shapes(weights, own, where_ours="here"):
        if channels != (theirs := weights[f"{PREFIX}input_scale"].shape[1]):  # which the others follow from
            differences = [f"image channels: {theirs} in the checkpoint, {channels} in this data set"]
        differences = _architecture_differences(architecture, denoiser.architecture) + differences
        raise ValueError(
            f"The denoiser in {checkpoint_file} does not fit this network:{listed(differences)}\n"
            "Pretrain one with these plans, or plan for it with nnunet-diffusion plan --denoiser."
        )
    network.load_state_dict(weights, strict=False)
    return note


def with_channels(weights: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """Weights of a denoiser for another number of image channels, all of which it scales alike.

    Raises:
        ValueError: it scales its channels differently, so that none of its scales is that of a new channel.
    """
    adapted = adapt_channels(weights, STEM_WEIGHTS, OUTPUT, channels)
    old = weights[f"{PREFIX}input_scale"].shape[1]
    for name in (f"{PREFIX}input_scale", f"{PREFIX}input_shift"):
        if not torch.equal(weights[name], weights[name][:, :1].expand_as(weights[name])):
            values = weights[name].flatten().tolist()
            raise ValueError(
                f"The denoiser's {name.removeprefix(PREFIX)} differs between its {old} channels ({values}), so it "
                f"cannot be adapted to {channels} channel(s)."
            )
        adapted[name] = weights[name][:, :1].repeat_interleave(channels, dim=1)
    return adapted


def _architecture_differences(own: Mapping[str, Any], pretrained: Mapping[str, Any]) -> list[str]:
    ours, theirs = own["arch_kwargs"], pretrained["arch_kwargs"]
    return [
        f"{name}: {theirs.get(name)} in the checkpoint, {ours.get(name)} in these plans"
        for name in COMPARED
        if theirs.get(name) != ours.get(name)
    ]
