"""Training on true and pseudo-labels: what the data set of a student says, and a mixin that heeds it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from nnunet_diffusion_ensemble.denoiser.pretrained import BEFORE_FINE_TUNING, denoiser_weights
from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint
from nnunet_diffusion_ensemble.nnunet.shapes import different_shapes
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.training.processes import without_wrappers

DESCRIPTION = "self_training.json"


@dataclass(frozen=True)
class SelfTrainingData:
    """How a data set came about; it stands in `self_training.json` of the raw and the preprocessed one.

    Attributes:
        pseudo_labelled: names of the cases whose labels a teacher predicted.
        teacher_checkpoints: files, by the fold whose training may start from them.
        true_labels_at_end: share of the training, its end, on true labels alone.
        origin: folder of the run that made it.
        labelled: name of the data set that holds the true labels alone.
    """

    pseudo_labelled: tuple[str, ...]
    teacher_checkpoints: Mapping[str, str]
    true_labels_at_end: float
    origin: str
    labelled: str

    @classmethod
    def read(cls, folder: Path) -> "SelfTrainingData":
        """Raises FileNotFoundError if the data set in a folder is not one of `nnunet-diffusion self-train`."""
        file = folder / DESCRIPTION
        if not file.is_file():
            raise FileNotFoundError(
                f"There is no {file}: trainers of self-training train on data sets that nnunet-diffusion self-train "
                "has made. Name another trainer, or run that command."
            )
        values = json.loads(file.read_text())
        return cls(**values | {"pseudo_labelled": tuple(values["pseudo_labelled"])})

    def write(self, folder: Path) -> None:
        write_text(folder / DESCRIPTION, json.dumps(asdict(self), indent=2))


class SelfTraining(nnUNetTrainer):
    """Mixin to stand before a trainer of nnU-Net's kind: starts from the teacher, ends on true labels alone.

    Validation is on true labels always. How many of a batch are truly labelled is said by the fold's list of cases.
    """

    dataloader_train: Any
    dataloader_val: Any

    @cached_property
    def self_training(self) -> SelfTrainingData:
        return SelfTrainingData.read(Path(self.preprocessed_dataset_folder_base))

    @property
    def first_epoch_on_true_labels(self) -> int:
        """From which on there are no pseudo-labels."""
        return self.num_epochs - round(self.self_training.true_labels_at_end * self.num_epochs)

    def do_split(self) -> tuple[list[str], list[str]]:
        training, validation = super().do_split()
        pseudo = set(self.self_training.pseudo_labelled)
        if self.current_epoch >= self.first_epoch_on_true_labels:
            training = [case for case in training if case not in pseudo]
        return training, [case for case in validation if case not in pseudo]

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        if self.current_epoch == 0:
            self._start_from_teacher()
        super().on_train_start()

    def on_epoch_start(self) -> None:
        if 0 < self.current_epoch == self.first_epoch_on_true_labels:
            self._read_true_labels_alone()
        super().on_epoch_start()

    def _read_true_labels_alone(self) -> None:
        for loader in (self.dataloader_train, self.dataloader_val):
            if isinstance(loader, NonDetMultiThreadedAugmenter):  # its workers hold the old list
                loader._finish()
        self.print_to_log_file("From here on, on true labels alone.")
        self.dataloader_train, self.dataloader_val = self.get_dataloaders()

    def _start_from_teacher(self) -> None:
        file = self.self_training.teacher_checkpoints.get(str(self.fold))
        if file is None:
            return
        network = without_wrappers(self.network)
        own = network.state_dict()
        teacher = read_checkpoint(file, trusted=True)
        weights, what = starting_weights(teacher["network_weights"], own)
        network.load_state_dict({**own, **weights})
        if denoiser_weights(weights):
            self.before_fine_tuning = teacher.get(BEFORE_FINE_TUNING)
        self.print_to_log_file(f"Starts from {what} {file}")


def starting_weights(teacher: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Which of the teacher's weights a student starts from: all, its denoiser's, or none, by what fits.

    Args:
        teacher: state dict of its network.
        own: that of the student.

    Returns:
        the weights, and in words what they are.
    """
    if not different_shapes(teacher, own):
        return dict(teacher), "all weights of the teacher in"
    theirs, ours = denoiser_weights(teacher), denoiser_weights(own)
    if ours and not different_shapes(theirs, ours):
        return theirs, "the denoiser of the teacher in"
    return {}, "its own weights, which are others than those of the teacher in"
