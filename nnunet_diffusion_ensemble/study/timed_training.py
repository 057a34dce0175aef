"""nnU-Net's training with the length that fits into a given time, for comparisons in equal time.

Some iterations are measured first; then so many epochs are trained that the learning rate falls to its end in that
time.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from pydantic import Field

from nnunet_diffusion_ensemble.nnunet.datasets import PREPROCESSED, RESULTS, find_dataset, folder_of
from nnunet_diffusion_ensemble.nnunet.preprocessed import refuse_unpreprocessed
from nnunet_diffusion_ensemble.nnunet.trainer_classes import find_trainer
from nnunet_diffusion_ensemble.planning.plan import PLAN_AGAIN, read_planned_dataset_json, read_plans
from nnunet_diffusion_ensemble.study.label_orders import SPLITS, read_splits
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.devices import usable_device
from nnunet_diffusion_ensemble.system.guard import alone_in
from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.system.messages import blaming
from nnunet_diffusion_ensemble.system.settings import Count, Positive, Settings
from nnunet_diffusion_ensemble.training.splits import prepare_splits

LENGTH_FILE = "training_length.json"
WARM_UP_ITERATIONS, MEASURED_ITERATIONS = 2, 20
VALIDATION_ITERATIONS = 1  # in an epoch; they only draw nnU-Net's curve


class TimeBudget(Settings):
    """How long to train."""

    minutes: Positive = Field(description="of training; preparation and saving come on top")
    clock: Literal["wall", "cpu"] = Field(
        "wall", description="`cpu`: the time of one process, augmentation included, whatever else the machine does"
    )
    iterations_per_epoch: Count = Field(
        250, description="nnU-Net has 250. If less than one epoch fits, the epoch is shorter"
    )

    def __str__(self) -> str:
        return f"{self.minutes:g} minutes of {self.clock} time, {self.iterations_per_epoch} iterations an epoch"


@dataclass(frozen=True)
class TrainingLength:
    """A number of epochs, and how long each of them is."""

    epochs: int
    iterations_per_epoch: int

    @classmethod
    def fitting(cls, limit: TimeBudget, seconds_per_iteration: float) -> "TrainingLength":
        iterations = 60 * limit.minutes / seconds_per_iteration
        if iterations < limit.iterations_per_epoch:
            return cls(1, max(1, round(iterations)))
        epochs = round(iterations / (limit.iterations_per_epoch + VALIDATION_ITERATIONS))
        return cls(max(1, epochs), limit.iterations_per_epoch)


@dataclass(frozen=True)
class Fold:
    """What nnUNetv2_train is told."""

    dataset: str
    configuration: str
    fold: int | str
    trainer: str
    plans: str
    device: str = "cuda"

    def check(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Plans and dataset.json, checked.

        Raises:
            ValueError, FileNotFoundError: plans, dataset.json, splits or cases are missing or wrong.
        """
        folder = folder_of(PREPROCESSED) / find_dataset(self.dataset, RESULTS)
        plans_file = folder / f"{self.plans}.json"
        plans, dataset_json = read_plans(plans_file, [self.configuration]), read_planned_dataset_json(folder)
        if (folder / SPLITS).exists():
            read_splits(folder / SPLITS)
        with blaming(plans_file, PLAN_AGAIN):
            identifier = PlansManager(plans).get_configuration(self.configuration).data_identifier
        refuse_unpreprocessed(folder / identifier, self.configuration, self.plans)
        return plans, dataset_json

    def make_trainer(self, continue_training: bool = False) -> Any:
        """A trainer of nnU-Net or ours.

        Raises:
            ValueError: there is no such device or trainer.
        """
        device, trainer_class = usable_device(self.device), find_trainer(self.trainer)
        plans, dataset_json = self.check()
        plans["continue_training"] = continue_training  # as nnUNetv2_train does
        return trainer_class(plans, self.configuration, self.fold, dataset_json, device)


def train_for(fold: Fold, limit: TimeBudget, continue_training: bool = False) -> None:
    """Trains a fold, writes beside it how long, and ends with nnU-Net's final validation, as `nnUNetv2_train` does.

    Args:
        fold: what to train.
        limit: how long.
        continue_training: from the last checkpoint, if there is one, with the length that it was started with. Of a
            training that is finished only the validation is done.

    Raises:
        ValueError: the training that is to be continued was started with another limit.
        AtWorkError: another process trains this fold.
    """
    if limit.clock == "cpu":
        os.environ["nnUNet_n_proc_DA"] = "0"
    trainer = fold.make_trainer(continue_training)
    check_split(trainer)
    with alone_in(Path(trainer.output_folder)):
        _train_for(trainer, fold, limit, continue_training)


def _train_for(trainer: Any, fold: Fold, limit: TimeBudget, continue_training: bool) -> None:
    from nnunetv2.run.run_training import maybe_load_checkpoint

    folder = Path(trainer.output_folder)
    length = read_length(folder, limit) if continue_training else None
    if length is None:
        length = TrainingLength.fitting(limit, measure_iteration(fold.make_trainer(), limit.clock))
        write_text(folder / LENGTH_FILE, json.dumps({"limit": limit.to_json(), "length": asdict(length)}, indent=2))
    set_length(trainer, length)
    trainer.print_to_log_file(f"{length.epochs} epochs of {length.iterations_per_epoch} iterations fit into {limit}.")
    maybe_load_checkpoint(trainer, continue_training, validation_only=False)
    if trainer.current_epoch < length.epochs:
        trainer.run_training()
    trainer.perform_actual_validation()  # nnU-Net's commands for trained models, such as the export, need its summary


def check_split(trainer: Any) -> None:
    """Makes the split of few labelled cases, for trainers of nnU-Net too, which cannot.

    Raises:
        ValueError: the splits file is malformed, or no case is left for the validation that a trainer of nnU-Net needs.
    """
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    from nnunet_diffusion_ensemble.training.trainer import DiffusionTrainer

    if trainer.fold == "all" or isinstance(trainer, DiffusionTrainer):
        return
    folder = trainer.preprocessed_dataset_folder
    cases = infer_dataset_class(folder).get_identifiers(folder)
    prepare_splits(Path(trainer.preprocessed_dataset_folder_base), cases, trainer.fold)
    if not trainer.do_split()[1]:
        raise ValueError(
            f"{type(trainer).__name__} needs a case to validate on, and fold {trainer.fold} has none. Train fold all, "
            "or one of our trainers, which can do without."
        )


def read_length(folder: Path, limit: TimeBudget) -> TrainingLength | None:
    """How long a fold is trained, if it was begun.

    Args:
        folder: of the fold.
        limit: what it is expected to be.

    Raises:
        ValueError: it was begun with another limit.
    """
    file = folder / LENGTH_FILE
    if not file.is_file():
        return None
    values = read_object(file, "Delete it, and train the fold anew.")
    with blaming(file, "Delete it, and train the fold anew."):
        before, length = TimeBudget.read(values["limit"]), TrainingLength(**values["length"])
    if before != limit:
        raise ValueError(
            f"{folder} was trained with {before}, not with {limit}. Ask for the same, use other plans "
            "(nnunet-diffusion plan -p NAME), or delete it."
        )
    return length


def set_length(trainer: Any, length: TrainingLength) -> None:
    trainer.num_epochs = length.epochs
    trainer.num_iterations_per_epoch = length.iterations_per_epoch
    trainer.num_val_iterations_per_epoch = VALIDATION_ITERATIONS


def measure_iteration(trainer: Any, clock: str) -> float:
    """Seconds of one iteration, with loading and augmentation, on average over the training; the trainer is of no use
    afterwards."""
    trainer.disable_checkpointing = True
    trainer.on_train_start()
    phases = getattr(trainer, "phases", {0: 1.0})  # of our trainers only
    seconds = sum(share * _seconds_in(trainer, epoch, clock) for epoch, share in phases.items())
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):  # worker processes
            loader._finish()
    return seconds


def _seconds_in(trainer: Any, epoch: int, clock: str) -> float:
    trainer.current_epoch = epoch
    trainer.on_train_epoch_start()
    for _ in range(WARM_UP_ITERATIONS):
        trainer.train_step(next(trainer.dataloader_train))
    start = _now(clock)
    for _ in range(MEASURED_ITERATIONS):
        trainer.train_step(next(trainer.dataloader_train))
    return (_now(clock) - start) / MEASURED_ITERATIONS


def _now(clock: str) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time() if clock == "cpu" else time.monotonic()
