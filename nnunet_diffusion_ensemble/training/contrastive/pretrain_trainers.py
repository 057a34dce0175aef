"""Contrastive pretraining of the encoder, then of the decoder (Chaitanya et al. 2020, arXiv 2006.10511)."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.nnunet.pretrainings import GLOBAL, LOCAL
from nnunet_diffusion_ensemble.training.contrastive.learning import (
    GlobalNetwork,
    LocalNetwork,
    at_regions,
    draw_regions,
    nt_xent,
)
from nnunet_diffusion_ensemble.training.contrastive.pretraining import ContrastivePretrainTrainer
from nnunet_diffusion_ensemble.training.contrastive.weights import StartsFromContrastive
from nnunet_diffusion_ensemble.training.processes import from_all_processes


class GlobalContrastivePretrainTrainer(ContrastivePretrainTrainer):
    """First stage: the encoder tells images apart, whatever their augmentation (SimCLR, arXiv 2002.05709)."""

    pretrains = GLOBAL
    fewest_images = 2  # which are compared with each other

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        unet = nnUNetTrainer.build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, False
        )
        return GlobalNetwork(unet, DiffusionMethod.from_plans(configuration_manager.configuration).contrastive)

    def initialize(self) -> None:
        if self.configuration_manager.batch_size < 2:
            raise ValueError(
                "The images of a batch are compared: pretraining.batch_size in the plans must be at least 2."
            )
        super().initialize()

    def share_batch(self) -> None:
        super().share_batch()
        batch_size, num_processes = self.configuration_manager.batch_size, dist.get_world_size()
        if batch_size % num_processes:
            raise ValueError(
                f"A batch of {batch_size} cannot be shared evenly by {num_processes} processes, which comparing all "
                "its images needs. Use a number of processes that divides it."
            )

    def represent(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        return self.network(images)

    def loss_between(self, first: Tensor, second: Tensor, cases: Tensor) -> Tensor:
        """Between the images of all processes."""
        first, second, cases = (from_all_processes(tensor) for tensor in (first.float(), second.float(), cases))
        return nt_xent(first, second, self.method.contrastive.temperature, cases)

    @property
    def gradient_weight(self) -> float:
        return float(dist.get_world_size()) if self.is_ddp else 1.0


class GlobalLocalContrastivePretrainTrainer(StartsFromContrastive, ContrastivePretrainTrainer):
    """Second stage: with the encoder of the first one frozen, the decoder's first stages tell regions apart.

    The views differ in intensity alone, so that regions at one place are the same region.
    """

    pretrains = LOCAL
    pretraining = GLOBAL
    shared_transforms = (SpatialTransform, MirrorTransform, Convert3DTo2DTransform, Convert2DTo3DTransform)

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        unet = nnUNetTrainer.build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, False
        )
        settings = DiffusionMethod.from_plans(configuration_manager.configuration).contrastive
        return LocalNetwork(unet, settings, configuration_manager.patch_size)

    def represent(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """The same regions of both views."""
        settings = self.method.contrastive
        features = self.network(images)
        corners = draw_regions(features.shape[2:], settings.region_size, settings.num_regions, generators)
        return at_regions(features, corners.repeat(2, 1, 1), settings.region_size)
