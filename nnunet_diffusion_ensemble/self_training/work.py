"""What a round of self-training does with nnU-Net: prediction, preprocessing, training."""

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Protocol

from nnunet_diffusion_ensemble.nnunet.register import EXTERNAL_VARIABLE, external_folders
from nnunet_diffusion_ensemble.prediction.model import ModelOnDemand, read_model
from nnunet_diffusion_ensemble.prediction.predict import (
    PredictedCase,
    forget_what_changed,
    origin_of,
    predict_cases,
    prediction_settings,
    stamps_of_model,
)
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.self_training.dataset import StudentDataset
from nnunet_diffusion_ensemble.self_training.images import Cases
from nnunet_diffusion_ensemble.self_training.teacher import Teacher
from nnunet_diffusion_ensemble.study.few_label import FINAL, Rival, Training
from nnunet_diffusion_ensemble.study.timed_training import TimeBudget
from nnunet_diffusion_ensemble.system.child_processes import Job, Screen, TrainingProgress, bar, run_jobs


class Work(Protocol):
    """The parts of a round that take long; called again after a kill, each ends as if there had been none."""

    def predict(self, teacher: Teacher, cases: Cases, folder: Path) -> None:
        """Writes what `nnunet-diffusion predict` writes."""

    def prepare(self, dataset: StudentDataset) -> None:
        """Plans and preprocesses."""

    def train(self, dataset: StudentDataset, fold: int, log: Path) -> None:
        """Trains a fold of the student."""

    def student(self, dataset: StudentDataset, folds: Sequence[int]) -> Teacher:
        """The trained student, which may teach the next one."""


@dataclass(frozen=True)
class NnunetWork:
    """The real work.

    Attributes:
        trainer: of the student.
        plans: name of the student's plans.
        configuration: e.g. `2d`.
        settings: how students predict, folds aside.
        num_processes: of preprocessing.
        screen: where progress is shown.
        limit: how long each training is; None is what its trainer says.
    """

    trainer: str
    plans: str
    configuration: str
    settings: PredictionSettings
    num_processes: int
    screen: Screen
    limit: TimeBudget | None = None

    def predict(self, teacher: Teacher, cases: Cases, folder: Path) -> None:
        files = stamps_of_model(teacher.folder, teacher.settings)
        model = ModelOnDemand.of(read_model(teacher.folder, teacher.settings))
        how = prediction_settings(teacher.folder, teacher.settings)
        forget_what_changed(model, cases, folder, origin_of(files, cases, folder, how))
        start = monotonic()
        for case in predict_cases(model, cases, folder, how, with_denoising_error=False):
            assert isinstance(case, PredictedCase)  # what cannot be predicted is an error
            text = f"case {case.position}/{case.total}  {bar(case.position, case.total)}"
            self.screen.status(text, monotonic() - start)

    def prepare(self, dataset: StudentDataset) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net's lists of settings
            dataset.prepare(self.plans, self.configuration, self.num_processes)

    def train(self, dataset: StudentDataset, fold: int, log: Path) -> None:
        training = self._training(dataset, fold)
        if not training.is_done:
            job = Job(training.command(self.settings.device, self.limit), log, TrainingProgress())
            run_jobs([job], Path.cwd(), environment(), self.screen)

    def student(self, dataset: StudentDataset, folds: Sequence[int]) -> Teacher:
        folder = self._training(dataset, folds[0]).model_folder
        settings = self.settings.changed(folds=tuple(folds), checkpoint_name=FINAL, timesteps=None)
        return Teacher(folder, settings)

    def _training(self, dataset: StudentDataset, fold: int) -> Training:
        rival = Rival(self.trainer, self.trainer, self.plans)
        num_labels = len(dataset.folds[fold].train)
        return Training(rival, self.configuration, dataset.name, num_labels, seed=0, fold=fold)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", EXTERNAL_VARIABLE: external_folders()}
