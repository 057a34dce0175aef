"""What the pretraining trainers share: labelled and unlabelled images without labels, held-out loss, time limit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from time import time
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer_module
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_diffusion_ensemble.augmentation.shift import ShiftAugmentation
from nnunet_diffusion_ensemble.data.image_dataset import ImageDataset
from nnunet_diffusion_ensemble.data.preprocessing_job import unlabelled_folder
from nnunet_diffusion_ensemble.data.unlabelled import preprocess_unlabelled
from nnunet_diffusion_ensemble.data.unlabelled_dataset import UnlabelledDataset
from nnunet_diffusion_ensemble.method import ContrastiveSettings, PretrainingSettings
from nnunet_diffusion_ensemble.nnunet.dataset_json import has_labels
from nnunet_diffusion_ensemble.training.held_out import HeldOutBatches, central_patches, hold_out
from nnunet_diffusion_ensemble.training.learning_rate import WarmupCosine
from nnunet_diffusion_ensemble.training.log import HeldOutLossLogger
from nnunet_diffusion_ensemble.training.processes import from_first_process
from nnunet_diffusion_ensemble.training.time_limit import TimeIsUp, TimeLimit
from nnunet_diffusion_ensemble.training.trainer import DiffusionTrainer


def together(*names: Sequence[str] | np.ndarray) -> np.ndarray:
    """Names of cases, one after the other: an array, as there may be millions."""
    return np.concatenate([np.asarray(some, np.str_) for some in names])


@contextmanager
def taking_cases_for(dataset_class: type) -> Iterator[None]:
    """nnU-Net's trainer takes preprocessed cases for these until the block ends. It would infer what they are from the
    names of all files in their folder, which may be millions, and knows no shards."""
    infer = trainer_module.infer_dataset_class
    trainer_module.infer_dataset_class = lambda folder: dataset_class
    try:
        yield
    finally:
        trainer_module.infer_dataset_class = infer


class ImagePretrainTrainer(ShiftAugmentation, DiffusionTrainer):  # type: ignore[misc]
    """Trains a network on images alone in nnU-Net's loop; `checkpoint_best` follows the held-out loss.

    What to do with the images is said in `train_step`, `validation_step` and `on_validation_epoch_end`, which logs
    `val_losses`.

    Attributes:
        fewest_images: that must be there to train on, and must be held out.

    Raises:
        ValueError: if the plans were not made by `DiffusionEnsemblePlanner`, or a data set without labels is to be
            trained on a fold other than `all`.
    """

    fewest_images: ClassVar[int] = 1

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
        settings, length = self.method.pretraining, self.length
        self.num_epochs = length.num_epochs
        self.num_iterations_per_epoch = length.num_iterations_per_epoch
        self.initial_lr = length.learning_rate
        self.gradient_clip = settings.gradient_clip
        self.compute_in(settings.precision)
        self.weight_decay = 0.0
        self.oversample_foreground_percent = 0.0
        self.configuration_manager.configuration["batch_size"] = settings.batch_size
        self.label_manager = LabelManager({"background": 0}, None)  # no label, region or ignore label plays a part
        self.time_limit = TimeLimit(settings.max_hours)
        self._best_ema: float | None = None
        self.logger.local_logger = self.make_logger()

    @property
    def uses_shift_augmentation(self) -> bool:
        return self.method.pretraining.augmentation == "shift"

    def make_logger(self) -> HeldOutLossLogger:
        """The logger of losses, which also draws progress.png."""
        return HeldOutLossLogger()

    @property
    def length(self) -> PretrainingSettings | ContrastiveSettings:
        """The settings that hold the number of epochs and iterations, and the learning rate."""
        return self.method.pretraining

    def _use_only_unlabelled_images(self) -> None:
        if self.fold != "all":
            raise ValueError(f"A data set without labels has no folds: pretrain on fold all, not {self.fold}.")
        base = Path(self.preprocessed_dataset_folder_base)
        self.preprocessed_dataset_folder = str(unlabelled_folder(base, self.configuration_manager.data_identifier))

    def initialize(self) -> None:
        if has_labels(self.dataset_json):
            super().initialize()
            return
        if not len(self.unlabelled.identifiers):
            raise ValueError("There is nothing to pretrain on: imagesUn of the raw data set holds no images.")
        with taking_cases_for(nnUNetDatasetBlosc2):
            super().initialize()

    def memory_settings(self) -> dict[str, Any]:
        others = super().memory_settings()
        return {"diffusion.pretraining.batch_size": others.pop("batch_size"), **others}

    def _build_loss(self) -> None:
        """The loss needs more than a prediction and a target, and stands in `train_step`."""

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, WarmupCosine]:
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, self.initial_lr, weight_decay=self.weight_decay, fused=self.fuses_optimizer
        )
        per_epoch = self.num_iterations_per_epoch
        warmup = self.method.pretraining.warmup_iterations
        return optimizer, WarmupCosine(optimizer, self.initial_lr, warmup, self.num_epochs * per_epoch, per_epoch)

    # ---- data

    def get_tr_and_val_datasets(self) -> tuple[ImageDataset, ImageDataset]:
        """Images to train on and images held out: cases of the fold's validation set and a share of the unlabelled."""
        labelled_tr, labelled_val = self.do_split() if has_labels(self.dataset_json) else ([], [])
        labelled, unlabelled = [*labelled_tr, *labelled_val], self.unlabelled.identifiers
        if self.fold == "all":
            training, held_out = self._hold_out(together(labelled_tr, unlabelled))
        elif len(unlabelled):
            kept, held_out = self._hold_out(unlabelled)
            training, held_out = together(labelled_tr, kept), together(labelled_val, held_out)
        else:
            training, held_out = together(labelled_tr), together(labelled_val)
        self._refuse_too_few(len(training), len(held_out))
        self.print_to_log_file(
            f"Pretraining on {len(training)} images, {len(held_out)} held out ({len(unlabelled)} unlabelled among them)"
        )
        self.training_images = self._image_dataset(training, labelled)
        self.held_out = self._image_dataset(held_out, labelled)
        return self.training_images, self.held_out

    def _hold_out(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        settings = self.method.pretraining
        return hold_out(images, settings.validation_fraction, settings.seed, self.fewest_images)

    def _refuse_too_few(self, num_training: int, num_held_out: int) -> None:
        if min(num_training, num_held_out) < self.fewest_images:
            raise ValueError(
                f"Pretraining needs {self.fewest_images} or more images to train on and as many held out, found "
                f"{num_training} and {num_held_out}. Put unlabelled images into imagesUn/ of the raw data set."
            )

    @cached_property
    def unlabelled(self) -> UnlabelledDataset:
        """The unlabelled cases, preprocessed if they were not."""
        plans, base = self.plans_manager, Path(self.preprocessed_dataset_folder_base)

        def preprocess() -> UnlabelledDataset:
            preprocess_unlabelled(plans.dataset_name, self.configuration_name, plans.plans_name)
            return UnlabelledDataset(unlabelled_folder(base, self.configuration_manager.data_identifier))

        return from_first_process(preprocess)

    def _image_dataset(self, identifiers: np.ndarray, labelled: list[str]) -> ImageDataset:
        is_labelled = np.isin(identifiers, np.array(labelled, np.str_))
        return ImageDataset(
            self.preprocessed_dataset_folder,
            identifiers[is_labelled].tolist(),
            self.unlabelled,
            identifiers[~is_labelled],
        )

    def get_dataloaders(self) -> tuple:
        """nnU-Net's loader for training; held-out images are few and always the same, and are kept in memory."""
        training, unused = super().get_dataloaders()
        if isinstance(unused, NonDetMultiThreadedAugmenter):
            unused._finish()
        held_out = HeldOutBatches(self.held_out_patches(), self.method.pretraining.batch_size)
        self.num_val_iterations_per_epoch = len(held_out)
        return training, held_out

    def held_out_patches(self) -> torch.Tensor:
        """The middles of the held-out images, (N, C, *patch)."""
        names = self.held_out.identifiers[: self.method.pretraining.max_validation_images].tolist()
        return central_patches(self.held_out, names, self.configuration_manager.patch_size)

    # ---- training

    def run_training(self) -> None:
        with self.alone():
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

    def set_learning_rate(self) -> None:
        """That of the iteration, and of the time that is used."""
        share_of_epoch = self.iteration / self.num_iterations_per_epoch - self.current_epoch
        self.lr_scheduler.set_iteration(self.iteration, self.time_limit.share_used(share_of_epoch))

    # ---- end of an epoch, checkpoints

    def on_epoch_end(self) -> None:
        self.logger.log("epoch_end_timestamps", time(), self.current_epoch)
        self.time_limit.note_epoch(self._seconds_of_epoch())
        self.report_epoch()
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
            self.show_progress(is_last)
        self.current_epoch += 1

    def _seconds_of_epoch(self) -> float:
        """As long as it took the first process, so that all of them learn at one rate and stop together."""
        start, end = (self.logger.get_value(f"epoch_{which}_timestamps", step=-1) for which in ("start", "end"))
        seconds = torch.tensor(end - start, device=self.device)
        if self.is_ddp:
            dist.broadcast(seconds, 0)
        return seconds.item()

    def report_epoch(self) -> None:
        for name in ("train_loss", "val_loss"):
            self.report_loss(name)
        self.print_to_log_file(f"Epoch time: {self.time_limit.epoch_seconds:.2f} s")

    def report_loss(self, name: str) -> None:
        self.print_to_log_file(name, np.round(self.logger.get_value(f"{name}es", step=-1), decimals=5))

    def show_progress(self, is_last_epoch: bool) -> None:
        """For what the first process shows at the end of an epoch beside losses."""

    def checkpoint(self) -> dict[str, Any]:
        """nnU-Net's checkpoint and the time used."""
        return {
            **super().checkpoint(),
            "used_seconds": self.time_limit.used_seconds,
            "epoch_seconds": self.time_limit.epoch_seconds,
        }

    def restore(self, checkpoint: dict[str, Any]) -> None:
        self.time_limit.used_seconds = checkpoint["used_seconds"]
        self.time_limit.epoch_seconds = checkpoint["epoch_seconds"]

    # ---- after training

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """There is nothing to segment: the held-out loss is logged."""
        losses = self.logger.get_value("val_losses", step=None)
        if losses and self.local_rank == 0:
            self.print_to_log_file(f"Held-out loss: last {losses[-1]:.5f}, best {min(losses):.5f}")
