"""The frozen teacher: what an ensemble makes of patches, without gradients."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.folding import folded_weights
from nnunet_diffusion_ensemble.distillation.settings import DistillationSettings
from nnunet_diffusion_ensemble.method.timesteps import timesteps_on_the_way
from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint
from nnunet_diffusion_ensemble.nnunet.raw_cases import number_of_channels
from nnunet_diffusion_ensemble.prediction.chosen_timesteps import averaging_over
from nnunet_diffusion_ensemble.prediction.model_folder import checkpoint_files, read_descriptions, trainer_class
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings


class FrozenTeacher(nn.Module):
    """Networks whose probabilities are averaged; a trained model of any trainer.

    Args:
        networks: one for each fold.
        are_regions: of regions a sigmoid is taken, else softmax.
    """

    def __init__(self, networks: list[nn.Module], are_regions: bool):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.are_regions = are_regions
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, *space) to probabilities (N, classes or regions, *space)."""
        outputs = [network(images).float() for network in self.networks]
        return sum(out.sigmoid() if self.are_regions else out.softmax(1) for out in outputs) / len(outputs)

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """It stays as it is."""
        return super().train(False)

    def folded(self, timestep: int) -> dict[str, Tensor]:
        """Weights of an ordinary U-Net that computes the features of the first network's denoiser.

        Args:
            timestep: on the way of 1000.

        Raises:
            ValueError: there is no denoiser, or it cannot be folded.
        """
        denoiser: Any = getattr(self.networks[0], "denoiser", None)
        if denoiser is None:
            raise ValueError("The teacher has no denoiser.")
        (own_timestep,) = timesteps_on_the_way((timestep,), len(denoiser.schedule.alpha_bar))
        return folded_weights(denoiser, own_timestep)


def read_teacher(settings: DistillationSettings) -> FrozenTeacher:
    """Reads the teacher on the CPU.

    Raises:
        FileNotFoundError: it is not there any more.
        ValueError: a checkpoint is damaged, or timesteps are named that its model has not.
    """
    folder = Path(settings.teacher)
    plans, dataset_json = read_descriptions(folder)
    how = PredictionSettings(folds=settings.folds, checkpoint_name=settings.checkpoint_name, device="cpu")
    networks = [
        _network(file, plans, dataset_json, settings.teacher_timesteps) for file in checkpoint_files(folder, how)
    ]
    return FrozenTeacher(networks, plans.get_label_manager(dataset_json).has_regions)


def _network(
    file: Path, plans: PlansManager, dataset_json: dict[str, Any], timesteps: Sequence[int] | None
) -> nn.Module:
    checkpoint = read_checkpoint(file, trusted=True)
    name, trainer = checkpoint["init_args"]["configuration"], checkpoint["trainer_name"]
    if timesteps:
        plans = averaging_over(timesteps, plans, name, trainer)
    configuration = plans.get_configuration(name)
    heads = plans.get_label_manager(dataset_json).num_segmentation_heads
    network = trainer_class(trainer).build_network_architecture(
        plans, configuration, number_of_channels(dataset_json), heads, False
    )
    network.load_state_dict(checkpoint["network_weights"])
    return network
