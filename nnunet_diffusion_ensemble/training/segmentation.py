"""What the trainers share that learn from labels: settings of the plans with their own changes, optimiser, batches."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_diffusion_ensemble.augmentation.shift import ShiftAugmentation
from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.method.in_plans import plans_with
from nnunet_diffusion_ensemble.nnunet.dataset_json import has_labels
from nnunet_diffusion_ensemble.training.learning_rate import PolynomialDecay
from nnunet_diffusion_ensemble.training.trainer import DiffusionTrainer


class SegmentationTrainer(ShiftAugmentation, DiffusionTrainer):  # type: ignore[misc]
    """Trains with nnU-Net's loss as `training` of the method says.

    A variant is a class with `changes`. They are made in the plans before anything reads them, so that the plans beside
    the trained model, from which it is built for prediction, say what was trained.

    Attributes:
        changes: settings of the method, by dotted path, that stand above those of the plans.

    Raises:
        ValueError: if the data set has no labels, or the plans do not go with the changes.
    """

    changes: ClassVar[Mapping[str, Any]] = {}
    validates = True  # until the split is known

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ):
        super().__init__(plans_with(plans, configuration, self.changes_to), configuration, fold, dataset_json, device)
        if not has_labels(dataset_json):
            raise ValueError(
                f"{self.plans_manager.dataset_name} has no labels, so there is nothing to segment: its plans serve "
                "pretraining. Plan a labelled data set for its denoiser with nnunet-diffusion plan -d ID --denoiser "
                "CHECKPOINT, and train there."
            )
        settings = self.method.training
        self.num_epochs = settings.num_epochs
        self.num_iterations_per_epoch = settings.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = settings.num_val_iterations_per_epoch
        self.initial_lr = settings.learning_rate
        self.weight_decay = settings.weight_decay
        self.compute_in(settings.precision)

    @classmethod
    def changes_to(cls, method: DiffusionMethod) -> Mapping[str, Any]:
        """`changes`, for variants whose changes depend on what the plans say."""
        return cls.changes

    @property
    def uses_shift_augmentation(self) -> bool:
        return self.method.training.augmentation == "shift"

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, for the optimizer; groups may have learning rates of their own."""
        return [{"params": [p for p in self.network.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        parameters = self.parameter_groups()
        shared: dict[str, Any] = {"weight_decay": self.weight_decay, "fused": self.fuses_optimizer}
        optimizer: torch.optim.Optimizer
        if self.method.training.optimizer == "SGD":
            optimizer = torch.optim.SGD(parameters, self.initial_lr, momentum=0.99, nesterov=True, **shared)
        else:
            optimizer = torch.optim.AdamW(parameters, self.initial_lr, **shared)
        return optimizer, PolynomialDecay(optimizer, self.initial_lr, self.num_epochs)

    def share_batch(self) -> None:
        super().share_batch()
        batch_size, num_processes = self.configuration_manager.batch_size, dist.get_world_size()
        if self.configuration_manager.batch_dice and batch_size % num_processes:
            raise ValueError(
                f"A batch of {batch_size} cannot be shared evenly by {num_processes} processes, which Dice over the "
                "batch needs (batch_dice in the plans). Use a number of processes that divides it."
            )

    # ---- without a case to validate on

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """nnU-Net's; where no case validates, its loader gets the training cases, and nothing is drawn from it."""
        training, validation = super().get_tr_and_val_datasets()
        self.validates = len(validation.identifiers) > 0
        return training, validation if self.validates else training

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        if not self.validates:
            self.num_val_iterations_per_epoch = 0
            self._best_ema = math.nan  # no mean Dice is above it

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        if self.validates:
            super().on_validation_epoch_end(val_outputs)
            return
        labels = self.label_manager
        unknown = [math.nan] * len(labels.foreground_regions if labels.has_regions else labels.foreground_labels)
        for key, value in (("mean_fg_dice", math.nan), ("dice_per_class_or_region", unknown), ("val_losses", math.nan)):
            self.logger.log(key, value, self.current_epoch)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        if not self.do_split()[1]:
            self.print_to_log_file("No case is left for validation, so there is no final validation either.")
            return
        super().perform_actual_validation(save_probabilities)

    # ---- end of an epoch

    def on_epoch_end(self) -> None:
        save_every, self.save_every = self.save_every, self.num_epochs + 1  # not in nnU-Net's order
        super().on_epoch_end()
        self.save_every = save_every
        self.current_epoch -= 1
        if self.current_epoch != self.num_epochs - 1:
            self.save_latest_checkpoint()
        self.current_epoch += 1
