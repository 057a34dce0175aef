"""TEDM: one head on the features of a frozen, pretrained denoiser, shared by all timesteps (arXiv 2311.07421)."""

import pydoc
from pathlib import Path

import torch
import torch.distributed as dist
from nnunetv2.paths import nnUNet_results
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.pretrained import find_pretrained_checkpoint, load_denoiser
from nnunet_diffusion_ensemble.segmentation import SegmentationTrainer


class DiffusionEnsembleTrainer(SegmentationTrainer):
    """Trains the head with nnU-Net's loss on the prediction of every timestep; predicts with their mean."""

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        configuration = configuration_manager.configuration
        method = DiffusionMethod.from_plans(configuration)
        network_class = pydoc.locate(method.ensemble.network_class_name)
        if not callable(network_class):
            raise ImportError(
                f"The plans name {method.ensemble.network_class_name} as network, which cannot be imported."
            )
        return network_class(
            configuration["architecture"], num_input_channels, num_output_channels, method, configuration["patch_size"]
        )

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        if not self.plain_network.denoiser.is_pretrained:
            self._load_pretrained_denoiser()
        super().on_train_start()

    def _load_pretrained_denoiser(self) -> None:
        checkpoint = find_pretrained_checkpoint(
            Path(nnUNet_results) / self.plans_manager.dataset_name,
            self.plans_manager.plans_name,
            self.configuration_name,
            self.fold,
            self.method.pretrained_checkpoint,
        )
        note = load_denoiser(
            self.plain_network,
            checkpoint,
            self.configuration_manager.configuration["architecture"],
            adapt_channels=self.method.pretrained_checkpoint is not None,
        )
        iterations = int(self.plain_network.denoiser.trained_iterations)
        length = f"pretrained for {iterations} iterations" if iterations > 0 else "trained elsewhere"
        self.print_to_log_file(f"Denoiser: {checkpoint}, {length}")
        if note is not None:
            self.print_to_log_file(note)

    def train_step(self, batch: dict) -> dict:
        images = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"].to(self.device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        mean_loss = torch.zeros((), device=self.device)
        weight = self.share.loss_weight / len(self.method.ensemble.timesteps)
        for which in self._chunks_of_timesteps():
            noise = torch.stack([self._noise_at(position, images) for position in which])
            repeated_target = target.expand(len(which), *target.shape).flatten(0, 1)
            with self.autocast():
                logits = self.network(images, noise, which)
                loss = self.loss(logits.flatten(0, 1), repeated_target) * (len(which) * weight)
            self.backward(loss)
            mean_loss += loss.detach()
        self.clip_and_step()
        self.iteration += 1
        return {"loss": mean_loss.cpu().numpy()}

    def _noise_at(self, position: int, images: torch.Tensor) -> torch.Tensor:
        """Noise of a timestep by its position in the plans' list, the same however timesteps share passes."""
        generators = self.generators(self.method.ensemble.noise_seed, len(images), position)
        return self.noise(images.shape[1:], generators)

    def _chunks_of_timesteps(self) -> list[range]:
        """By the largest batch of any process, since in each backward pass all of them wait for each other."""
        num_processes = dist.get_world_size() if self.is_ddp else 1
        return self.plain_network.chunks(-(-self.configuration_manager.batch_size // num_processes))
