"""What the trainers share that segment with a pretrained denoiser, frozen or fine-tuned, read at some timesteps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from nnunetv2.paths import nnUNet_results
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.model import FineTunedDenoiser
from nnunet_diffusion_ensemble.denoiser.pretrained import (
    BEFORE_FINE_TUNING,
    denoiser_weights,
    each_once,
    find_pretrained_checkpoint,
    load_into_network,
)
from nnunet_diffusion_ensemble.method import DiffusionMethod, on_the_way
from nnunet_diffusion_ensemble.nnunet.named_classes import module_class
from nnunet_diffusion_ensemble.training.segmentation import SegmentationTrainer


class TimestepTrainer(SegmentationTrainer):
    """Trains with nnU-Net's loss on the prediction of every timestep, or of all together; the plans say how.

    Timesteps in `changes` are those of a diffusion process of 1000 steps; for another they are as far on the way.
    """

    @classmethod
    def changes_to(cls, method: DiffusionMethod) -> Mapping[str, Any]:
        return on_the_way(super().changes_to(method), method.denoiser.num_diffusion_steps)

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
        network_class: Any = module_class(
            method.ensemble.network_class_name, "diffusion.ensemble.network_class_name of the plans"
        )
        return network_class(
            configuration["architecture"], num_input_channels, num_output_channels, method, configuration["patch_size"]
        )

    before_fine_tuning: Mapping[str, Tensor] | None = None

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        denoiser = self.plain_network.denoiser
        if not denoiser.is_pretrained:
            self._load_pretrained_denoiser()
        if isinstance(denoiser, FineTunedDenoiser) and self.current_epoch == 0 and self.before_fine_tuning is None:
            weights = denoiser_weights(self.plain_network.state_dict())
            self.before_fine_tuning = each_once(weights, lambda weight: weight.detach().to("cpu", copy=True))
        super().on_train_start()

    def checkpoint(self) -> dict[str, Any]:
        """nnU-Net's, and of a fine-tuned denoiser what it was before: it still tells unusual images."""
        before = {} if self.before_fine_tuning is None else {BEFORE_FINE_TUNING: self.before_fine_tuning}
        return {**super().checkpoint(), **before}

    def restore(self, checkpoint: dict[str, Any]) -> None:
        super().restore(checkpoint)
        self.before_fine_tuning = checkpoint.get(BEFORE_FINE_TUNING)

    def _load_pretrained_denoiser(self) -> None:
        checkpoint = find_pretrained_checkpoint(
            Path(nnUNet_results) / self.plans_manager.dataset_name,
            self.plans_manager.plans_name,
            self.configuration_name,
            self.fold,
            self.method.pretrained_checkpoint,
        )
        note = load_into_network(
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

    @property
    def first_epoch_of_denoiser(self) -> int:
        """From which on a fine-tuned denoiser learns: the weights of a new head would first lead it astray
        (Kumar et al. 2022, arXiv 2202.10054)."""
        return round(self.method.training.head_first * self.num_epochs)

    @property
    def phases(self) -> dict[int, float]:
        """The first epoch of each part of the training whose iterations cost differently, and its share of all."""
        first = self.first_epoch_of_denoiser if self.method.training.fine_tune_denoiser else 0
        return {0: first / self.num_epochs, first: 1 - first / self.num_epochs} if first else {0: 1.0}

    def on_train_epoch_start(self) -> None:
        denoiser = self.plain_network.denoiser
        learns = self.current_epoch >= self.first_epoch_of_denoiser
        if isinstance(denoiser, FineTunedDenoiser) and denoiser.learns != learns:
            denoiser.learn(learns)
            if self.is_ddp:
                self.distribute()
        super().on_train_epoch_start()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The head and, where it is fine-tuned, the denoiser, which has a learning rate of its own."""
        network, settings = self.plain_network, self.method.training
        groups = [{"params": list(network.head.parameters()), "lr": settings.learning_rate}]
        denoiser = [p for p in network.denoiser.parameters() if p.requires_grad]
        if denoiser:
            groups.append({"params": denoiser, "lr": settings.denoiser_learning_rate})
        return groups

    @property
    def num_drawn_timesteps(self) -> int:
        """How many timesteps each image of an iteration is noised to."""
        return self.method.training.timesteps_per_image or len(self.method.ensemble.timesteps)

    def train_step(self, batch: dict) -> dict:
        images = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"].to(self.device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        mean_loss = torch.zeros((), device=self.device)
        weight = self.share.loss_weight / self.num_drawn_timesteps
        for which in self._passes():
            noise, timesteps = self.noise_and_timesteps(images, which)
            with self.autocast():
                logits = self.network(images, noise, timesteps)
                repeated_target = target.expand(len(logits), *target.shape).flatten(0, 1)
                loss = self.loss(logits.flatten(0, 1), repeated_target) * (len(which) * weight)
            self.backward(loss)
            mean_loss += loss.detach()
        self.clip_and_step()
        self.iteration += 1
        return {"loss": mean_loss}

    def noise_and_timesteps(self, images: Tensor, which: range) -> tuple[Tensor | None, Tensor]:
        """What the images are noised with in one pass, the same however timesteps share passes.

        Args:
            images: (N, C, *space).
            which: positions of the pass among the timesteps of an iteration.

        Returns:
            noise (timesteps, N, C, *space), or None where the plans add none, and timesteps (timesteps, N).
        """
        timesteps = self.plain_network.timesteps[self._drawn_positions(len(images))[which.start : which.stop]]
        if not self.method.ensemble.adds_noise:
            return None, timesteps
        seed = self.method.ensemble.noise_seed
        return torch.stack([self.noise(images, seed, row) for row in which]), timesteps

    def _drawn_positions(self, num_images: int) -> Tensor:
        """(timesteps, N): for each image, positions in the plans' list, all different."""
        total, seed = len(self.method.ensemble.timesteps), self.method.ensemble.noise_seed
        if self.num_drawn_timesteps == total:
            return torch.arange(total, device=self.device)[:, None].expand(-1, num_images)

        def draw(generator: torch.Generator, num_images: int) -> Tensor:
            order = torch.rand(num_images, total, device=self.device, generator=generator).argsort(dim=1)
            return order[:, : self.num_drawn_timesteps]

        # The number of the noise is that of a row, so that this one is none of theirs.
        return self.drawn(draw, num_images, seed, total).T

    def memory_settings(self) -> dict[str, Any]:
        images_per_pass = self.method.ensemble.images_per_pass
        return {"diffusion.ensemble.images_per_pass": images_per_pass, **super().memory_settings()}

    def _passes(self) -> list[range]:
        """By the largest batch of any process, since in each backward pass all of them wait for each other."""
        num_processes = dist.get_world_size() if self.is_ddp else 1
        largest_share = -(-self.configuration_manager.batch_size // num_processes)
        return self.plain_network.passes(largest_share, self.num_drawn_timesteps)
