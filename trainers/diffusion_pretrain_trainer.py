"""Pretraining of the denoiser on labelled and unlabelled images; labels are not used (DDPM, arXiv 2006.11239)."""

from pathlib import Path
from time import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_diffusion_ensemble.atomic import whole_file
from nnunet_diffusion_ensemble.dataset_json import has_labels
from nnunet_diffusion_ensemble.image_dataset import ImageDataset
from nnunet_diffusion_ensemble.memorisation import check_memorisation
from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.network import fixed_noise
from nnunet_diffusion_ensemble.pretraining import (
    HeldOutBatches,
    PretrainingNetwork,
    TimeIsUp,
    TimeLimit,
    WarmupCosine,
    central_patches,
    hold_out,
    random_patches,
    weight_average,
    widen_range,
)
from nnunet_diffusion_ensemble.pretraining_log import TRAIN_BANDS, VAL_BANDS, PretrainingLogger, TimestepBands
from nnunet_diffusion_ensemble.processes import from_first_process
from nnunet_diffusion_ensemble.sampling import ddim_sample, save_sample_grid
from nnunet_diffusion_ensemble.training import DiffusionTrainer
from nnunet_diffusion_ensemble.unlabelled import preprocess_unlabelled, unlabelled_folder


class DiffusionPretrainTrainer(DiffusionTrainer):
    """Trains a denoiser in nnU-Net's loop. `network_weights` of its checkpoints are the averaged (EMA) weights."""

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        if not has_labels(dataset_json):
            self._use_only_unlabelled_images()
        settings = self.method.pretraining
        self.num_epochs = settings.num_epochs
        self.num_iterations_per_epoch = settings.num_iterations_per_epoch
        self.initial_lr = settings.learning_rate
        self.gradient_clip = settings.gradient_clip
        self.precision = settings.precision
        if self.precision in ("float32", "bfloat16"):
            self.grad_scaler = None  # only float16 has a range too small for gradients
        self.weight_decay = 0.0
        self.oversample_foreground_percent = 0.0
        self.configuration_manager.configuration["batch_size"] = settings.batch_size
        self.label_manager = LabelManager({"background": 0}, None)  # no label, region or ignore label plays a part
        self.time_limit = TimeLimit(settings.max_hours)
        self._best_ema: float | None = None
        self.bands = TimestepBands(settings.timestep_bands, self.method.denoiser.num_diffusion_steps)
        self.logger.local_logger = PretrainingLogger(self.bands)

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

    def _use_only_unlabelled_images(self) -> None:
        if self.fold != "all":
            raise ValueError(f"A data set without labels has no folds: pretrain on fold all, not {self.fold}.")
        base = Path(self.preprocessed_dataset_folder_base)
        self.preprocessed_dataset_folder = str(unlabelled_folder(base, self.configuration_manager.data_identifier))

    def initialize(self) -> None:
        if not has_labels(self.dataset_json) and not self._unlabelled_images()[1]:  # nnU-Net looks there next
            raise ValueError("There is nothing to pretrain on: imagesUn of the raw data set holds no images.")
        super().initialize()
        self.averaged = weight_average(self.plain_network, self.method.pretraining.ema_decay)

    @property
    def averaged_network(self) -> Any:
        """The network with averaged weights."""
        return self.averaged.module

    def _build_loss(self) -> None:
        """The loss needs the timesteps and stands in `train_step`."""

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, WarmupCosine]:
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        per_epoch = self.num_iterations_per_epoch
        warmup = self.method.pretraining.warmup_iterations
        return optimizer, WarmupCosine(optimizer, self.initial_lr, warmup, self.num_epochs * per_epoch, per_epoch)

    # ---- data

    def get_tr_and_val_datasets(self) -> tuple[ImageDataset, ImageDataset]:
        """Images to train on and images held out: cases of the fold's validation set and a share of the unlabelled."""
        labelled_tr, labelled_val = self.do_split() if has_labels(self.dataset_json) else ([], [])
        folder, unlabelled = self._unlabelled_images()
        settings = self.method.pretraining
        if self.fold == "all":
            training, held_out = hold_out([*labelled_tr, *unlabelled], settings.validation_fraction, settings.seed)
        elif unlabelled:
            kept, held_out = hold_out(unlabelled, settings.validation_fraction, settings.seed)
            training, held_out = [*labelled_tr, *kept], [*labelled_val, *held_out]
        else:
            training, held_out = list(labelled_tr), list(labelled_val)
        if not training:
            raise ValueError(
                f"Pretraining needs at least 2 images (one is held out), found {len(held_out)}. Put unlabelled images "
                "into imagesUn/ of the raw data set."
            )
        self.print_to_log_file(
            f"Pretraining on {len(training)} images, {len(held_out)} held out ({len(unlabelled)} unlabelled among them)"
        )
        self.training_images = self._image_dataset(training, folder, unlabelled)
        self.held_out = self._image_dataset(held_out, folder, unlabelled)
        return self.training_images, self.held_out

    def _unlabelled_images(self) -> tuple[Path, list[str]]:
        folder = unlabelled_folder(
            Path(self.preprocessed_dataset_folder_base), self.configuration_manager.data_identifier
        )

        def preprocess() -> list[str]:
            plans = self.plans_manager
            preprocess_unlabelled(plans.dataset_name, self.configuration_name, plans.plans_name)
            return ImageDataset.get_identifiers(str(folder))

        return folder, from_first_process(preprocess)

    def _image_dataset(self, identifiers: list[str], folder: Path, unlabelled: list[str]) -> ImageDataset:
        from_folder = set(unlabelled)
        return ImageDataset(
            self.preprocessed_dataset_folder,
            [i for i in identifiers if i not in from_folder],
            str(folder),
            [i for i in identifiers if i in from_folder],
        )

    @staticmethod
    def get_training_transforms(*args, **kwargs) -> BasicTransform:  # type: ignore[no-untyped-def]
        """nnU-Net's spatial augmentation. Its changes of intensity, which would spoil the density, are left out."""
        transforms = nnUNetTrainer.get_training_transforms(*args, **kwargs).transforms
        return ComposeTransforms([t for t in transforms if not isinstance(t, RandomTransform)])

    def get_dataloaders(self) -> tuple:
        """nnU-Net's loader for training; held-out images are few and always the same, and are kept in memory."""
        training, unused = super().get_dataloaders()
        if isinstance(unused, NonDetMultiThreadedAugmenter):
            unused._finish()
        held_out = HeldOutBatches(self._held_out_patches(), self.method.pretraining.batch_size)
        self.num_val_iterations_per_epoch = len(held_out)
        return training, held_out

    def _held_out_patches(self) -> torch.Tensor:
        names = self.held_out.identifiers[: self.method.pretraining.max_validation_images].tolist()
        return central_patches(self.held_out, names, self.configuration_manager.patch_size)

    # ---- training

    def run_training(self) -> None:
        try:
            super().run_training()
        except TimeIsUp:
            self.print_to_log_file(f"The limit of {self.method.pretraining.max_hours} hours ends the training here")
            self.on_train_end()

    def on_epoch_start(self) -> None:
        if self.time_limit.is_reached:
            raise TimeIsUp
        super().on_epoch_start()

    def on_train_epoch_start(self) -> None:
        self.lr_scheduler.share_of_time = self.time_limit.share_used(0.0)
        super().on_train_epoch_start()
        self.band_totals = torch.zeros(2, len(self.bands.names), device=self.device)

    def train_step(self, batch: dict) -> dict:
        images = batch["data"].to(self.device, non_blocking=True)
        share_of_epoch = self.iteration / self.num_iterations_per_epoch - self.current_epoch
        self.lr_scheduler.set_iteration(self.iteration, self.time_limit.share_used(share_of_epoch))
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
        return {"loss": loss.detach().cpu().numpy()}

    def _loss_weights(self, timesteps: torch.Tensor) -> torch.Tensor:
        settings, schedule = self.method.pretraining, self.plain_network.denoiser.schedule
        return schedule.loss_weights(timesteps, settings.loss_weighting, settings.min_snr_gamma)

    def _draw_noise_and_timesteps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        generators = self.generators(self.method.pretraining.seed, len(images))
        noise = self.noise(images.shape[1:], generators)
        num_steps = self.method.denoiser.num_diffusion_steps
        drawn = [torch.randint(num_steps, (1,), device=self.device, generator=g) for g in generators]
        return noise, torch.cat(drawn)

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

    def on_epoch_end(self) -> None:
        self.logger.log("epoch_end_timestamps", time(), self.current_epoch)
        self.time_limit.note_epoch(self._seconds_of_epoch())
        self._report_epoch()
        is_last = self.current_epoch == self.num_epochs - 1 or self.time_limit.is_reached
        loss, best = self.logger.get_value("val_losses", step=-1), self._best_ema
        if best is None or loss < best:
            self._best_ema = loss
            self.print_to_log_file(f"New best held-out loss: {loss:.5f}")
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_best.pth"))
        if not is_last:
            self.save_latest_checkpoint()
        if self.local_rank == 0:
            self.logger.plot_progress_png(self.output_folder)
            if (self.current_epoch + 1) % self.method.pretraining.save_samples_every == 0 or is_last:
                self._save_samples(f"samples_epoch_{self.current_epoch + 1}.png")
        self.current_epoch += 1

    def _seconds_of_epoch(self) -> float:
        """As long as it took the first process, so that all of them learn at one rate and stop together."""
        start, end = (self.logger.get_value(f"epoch_{which}_timestamps", step=-1) for which in ("start", "end"))
        seconds = torch.tensor(end - start, device=self.device)
        if self.is_ddp:
            dist.broadcast(seconds, 0)
        return seconds.item()

    def _report_epoch(self) -> None:
        for name, key in (("train_loss", TRAIN_BANDS), ("val_loss", VAL_BANDS)):
            per_band = np.round(self.logger.local_logger.get_value(key, step=-1), 5).tolist()
            self.print_to_log_file(name, np.round(self.logger.get_value(f"{name}es", step=-1), decimals=5))
            self.print_to_log_file(f"{name} by timesteps", dict(zip(self.bands.names, per_band, strict=True)))
        self.print_to_log_file(f"Epoch time: {self.time_limit.epoch_seconds:.2f} s")

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

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint with the averaged weights as `network_weights` and the trained ones beside them."""
        if self.local_rank != 0 or self.disable_checkpointing:
            return
        checkpoint = {
            "network_weights": self.averaged_network.state_dict(),
            "trained_weights": self.plain_network.state_dict(),
            "num_averaged": int(self.averaged.n_averaged),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "used_seconds": self.time_limit.used_seconds,
            "epoch_seconds": self.time_limit.epoch_seconds,
            "init_args": self.my_init_kwargs,
            "trainer_name": self.__class__.__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
        }
        with whole_file(filename) as temporary:
            torch.save(checkpoint, temporary)

    def restore(self, checkpoint: dict[str, Any]) -> None:
        self.averaged_network.load_state_dict(checkpoint["network_weights"])
        self.averaged.n_averaged.fill_(checkpoint["num_averaged"])
        self.time_limit.used_seconds = checkpoint["used_seconds"]
        self.time_limit.epoch_seconds = checkpoint["epoch_seconds"]
        self.plain_network.load_state_dict(checkpoint["trained_weights"])

    # ---- after training

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """There is nothing to segment: the held-out loss is logged, samples are drawn and compared with the images."""
        if self.dataloader_train is None:  # nnU-Net's --val, without training
            self.get_tr_and_val_datasets()
        if self.local_rank != 0:
            return
        losses = self.logger.get_value("val_losses", step=None)
        if losses:
            self.print_to_log_file(f"Held-out loss: last {losses[-1]:.5f}, best {min(losses):.5f}")
        samples = self._save_samples("samples.png")
        *_, mirror_axes = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        patch_size, seed = self.configuration_manager.patch_size, self.method.pretraining.seed
        training = random_patches(self.training_images, patch_size, seed)
        report = check_memorisation(samples, self._held_out_patches(), training, mirror_axes or ())
        self.print_to_log_file(str(report))
