"""Pretraining of the denoiser on labelled and unlabelled images; labels are not used (DDPM, arXiv 2006.11239)."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_diffusion_ensemble.denoiser.memorisation import check_memorisation
from nnunet_diffusion_ensemble.denoiser.noise import fixed_noise
from nnunet_diffusion_ensemble.denoiser.sampling import ddim_sample, save_sample_grid
from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.nnunet.pretrainings import DENOISER
from nnunet_diffusion_ensemble.training.denoising_network import PretrainingNetwork, WeightAverage, widen_range
from nnunet_diffusion_ensemble.training.held_out import random_patches
from nnunet_diffusion_ensemble.training.log import TRAIN_BANDS, VAL_BANDS, PretrainingLogger, TimestepBands
from nnunet_diffusion_ensemble.training.pretraining import ImagePretrainTrainer


class DiffusionPretrainTrainer(ImagePretrainTrainer):
    """Trains a denoiser in nnU-Net's loop. `network_weights` of its checkpoints are the averaged (EMA) weights."""

    pretrains = DENOISER

    @cached_property
    def bands(self) -> TimestepBands:
        """Of the timesteps in which losses are logged."""
        return TimestepBands(self.method.pretraining.timestep_bands, self.method.denoiser.num_diffusion_steps)

    def make_logger(self) -> PretrainingLogger:
        return PretrainingLogger(self.bands)

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        configuration = configuration_manager.configuration
        settings = DiffusionMethod.from_plans(configuration).denoiser
        return PretrainingNetwork(configuration["architecture"], num_input_channels, settings)

    def initialize(self) -> None:
        super().initialize()
        self.averaged = WeightAverage(self.plain_network, self.method.pretraining.ema_decay)

    @property
    def averaged_network(self) -> Any:
        """The network with averaged weights."""
        return self.averaged.module

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """The spatial augmentation that the plans name. nnU-Net's changes of intensity are left out."""
        transforms = super().get_training_transforms(*args, **kwargs).transforms  # type: ignore[attr-defined]
        return ComposeTransforms([t for t in transforms if not isinstance(t, RandomTransform)])

    # ---- training

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.band_totals = torch.zeros(2, len(self.bands.names), device=self.device)

    def train_step(self, batch: dict) -> dict:
        images = batch["data"].to(self.device, non_blocking=True)
        self.set_learning_rate()
        denoiser = self.plain_network.denoiser
        widen_range(denoiser.intensity_range, denoiser.scaled(images))
        noise, timesteps = self._draw_noise_and_timesteps(images)
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            prediction, target = self.network(images, noise, timesteps)
        losses = (prediction.float() - target).square().flatten(1).mean(1)
        self.band_totals += self.bands.totals(timesteps, losses.detach())
        loss = (self._loss_weights(timesteps) * losses).mean() * self.share.loss_weight
        self.backward(loss)
        self.clip_and_step()
        denoiser.trained_iterations += 1
        self.averaged.update_parameters(self.plain_network)
        self.iteration += 1
        return {"loss": loss.detach()}

    def _loss_weights(self, timesteps: torch.Tensor) -> torch.Tensor:
        settings, schedule = self.method.pretraining, self.plain_network.denoiser.schedule
        return schedule.loss_weights(timesteps, settings.loss_weighting, settings.min_snr_gamma)

    def _draw_noise_and_timesteps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seed, num_steps = self.method.pretraining.seed, self.method.denoiser.num_diffusion_steps

        def draw(generator: torch.Generator, num_images: int) -> torch.Tensor:
            return torch.randint(num_steps, (num_images,), device=self.device, generator=generator)

        return self.noise(images, seed, 0), self.drawn(draw, len(images), seed, 1)

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end(train_outputs)
        if self.is_ddp:
            dist.all_reduce(self.band_totals)
        counts, sums = self.band_totals.cpu()
        self.logger.local_logger.log(TRAIN_BANDS, (sums / counts).tolist(), self.current_epoch)

    @torch.no_grad()
    def validation_step(self, batch: dict) -> dict:
        """Loss of the averaged weights, with noise and one timestep in each band fixed for each held-out image."""
        images = batch["data"].to(self.device, non_blocking=True)
        seed = self.method.pretraining.seed + 1 + batch["index"]
        noise = fixed_noise(seed, images.shape).to(self.device)
        losses, weighted = [], []
        for timesteps in self.bands.fixed_timesteps(batch["index"], len(images)).to(self.device):
            with self.autocast():
                prediction, target = self.averaged_network(images, noise, timesteps)
            losses.append((prediction.float() - target).square().flatten(1).mean(1))
            weighted.append(self._loss_weights(timesteps) * losses[-1])
        both = {"losses": losses, "weighted": weighted}
        return {name: torch.stack(values, dim=1).cpu().numpy() for name, values in both.items()}

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        per_band, weighted = (
            np.concatenate([output[name] for output in val_outputs]).mean(0) for name in ("losses", "weighted")
        )
        self.logger.local_logger.log(VAL_BANDS, per_band.tolist(), self.current_epoch)
        self.logger.log("val_losses", float(weighted @ self.bands.shares), self.current_epoch)

    # ---- end of an epoch, checkpoints

    def report_loss(self, name: str) -> None:
        super().report_loss(name)
        key = {"train_loss": TRAIN_BANDS, "val_loss": VAL_BANDS}[name]
        per_band = np.round(self.logger.local_logger.get_value(key, step=-1), 5).tolist()
        self.print_to_log_file(f"{name} by timesteps", dict(zip(self.bands.names, per_band, strict=True)))

    def show_progress(self, is_last_epoch: bool) -> None:
        if (self.current_epoch + 1) % self.method.pretraining.save_samples_every == 0 or is_last_epoch:
            self._save_samples(f"samples_epoch_{self.current_epoch + 1}.png")

    def _save_samples(self, name: str) -> torch.Tensor:
        settings = self.method.pretraining
        images = ddim_sample(
            self.averaged_network.denoiser,
            settings.num_samples,
            self.configuration_manager.patch_size,
            settings.num_sampling_steps,
            settings.seed,
        )
        save_sample_grid(images, Path(self.output_folder) / name)
        return images

    def checkpoint(self) -> dict[str, Any]:
        """With the averaged weights as `network_weights` and the trained ones beside them."""
        return super().checkpoint() | {
            "network_weights": self.averaged_network.state_dict(),
            "trained_weights": self.plain_network.state_dict(),
            "num_averaged": int(self.averaged.n_averaged),
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        super().restore(checkpoint)
        self.averaged_network.load_state_dict(checkpoint["network_weights"])
        self.averaged.n_averaged.fill_(checkpoint["num_averaged"])
        self.plain_network.load_state_dict(checkpoint["trained_weights"])

    # ---- after training

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """There is nothing to segment: the held-out loss is logged, samples are drawn and compared with the images."""
        with self.alone():
            self._validate(save_probabilities)

    def _validate(self, save_probabilities: bool) -> None:
        super().perform_actual_validation(save_probabilities)
        if self.dataloader_train is None:  # nnU-Net's --val, without training
            self.get_tr_and_val_datasets()
        if self.local_rank != 0:
            return
        samples = self._save_samples("samples.png")
        *_, mirror_axes = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        patch_size, seed = self.configuration_manager.patch_size, self.method.pretraining.seed
        training = random_patches(self.training_images, patch_size, seed)
        report = check_memorisation(samples, self.held_out_patches(), training, mirror_axes or ())
        self.print_to_log_file(str(report))
