"""The loop: a teacher predicts, its sure predictions become labels, a student learns, and may teach the next round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.self_training.dataset import StudentDataset, refuse_taken_number
from nnunet_diffusion_ensemble.self_training.image_rule import drifts, mean_areas
from nnunet_diffusion_ensemble.self_training.images import Cases
from nnunet_diffusion_ensemble.self_training.predictions import Predictions
from nnunet_diffusion_ensemble.self_training.selection import PSEUDO_LABELS, Selection
from nnunet_diffusion_ensemble.self_training.settings import SelfTrainingSettings
from nnunet_diffusion_ensemble.self_training.state import PREDICTED, SELECTED, State
from nnunet_diffusion_ensemble.self_training.table import TABLE, read_image_table
from nnunet_diffusion_ensemble.self_training.teacher import LabelledCases, Teacher, TeacherFold
from nnunet_diffusion_ensemble.self_training.work import Work
from nnunet_diffusion_ensemble.system.child_processes import Screen
from nnunet_diffusion_ensemble.system.guard import alone_in
from nnunet_diffusion_ensemble.system.places import refuse_file
from nnunet_diffusion_ensemble.training.self_training import SelfTrainingData

PREDICTIONS = "predictions"


@dataclass(frozen=True)
class SelfTrainingRun:
    """A run of self-training.

    Attributes:
        output: its folder.
        teacher: of the first round.
        labelled: the truly labelled cases.
        images: the unlabelled cases.
        settings: the rules.
        number: of the first student's data set; that of each further round is one more.
        work: what trains and predicts.
        screen: where it is told how things stand.
    """

    output: Path
    teacher: Teacher
    labelled: LabelledCases
    images: Cases
    settings: SelfTrainingSettings
    number: int
    work: Work
    screen: Screen

    def run(self, choices: Mapping[str, Any], dry_run: bool = False) -> bool:
        """Trains a student in each round, going on where it was stopped.

        Args:
            choices: what else a run in the same folder must share.
            dry_run: end with the picture of the first round.

        Returns:
            whether all rounds were trained; otherwise it said why it stopped.

        Raises:
            ValueError: the run in the folder has other settings, no image was accepted, or a number is taken.
            AtWorkError: another process runs in the folder.
        """
        refuse_file(self.output)
        names = [self.dataset_name(number) for number in self._rounds]
        for name in names:
            refuse_taken_number(name, str(self.output))
        with alone_in(self.output):
            return self._run(choices, dry_run)

    def _run(self, choices: Mapping[str, Any], dry_run: bool) -> bool:
        predicted = {"teacher": str(self.teacher.folder), **self.teacher.settings.to_json(), "images": [*self.images]}
        self._state.begin(predicted, {**self.settings.model_dump(exclude={"rounds"}), **choices})
        teacher = self.teacher
        for number in self._rounds:
            self.screen.say(f"Round {number} of {self.settings.rounds}, teacher {teacher.folder}")
            accepted = self._choose(number, teacher)
            if (reason := self._drift(number)) is not None:
                self.screen.say(reason)
                return False
            if dry_run:
                self.screen.say(f"Nothing was trained. Look at {self._folder(number)}, then run it without --dry-run.")
                return True
            teacher = self._train(number, teacher, accepted)
        self.screen.say(f"The last student: {teacher.folder}")
        return True

    def dataset_name(self, number: int) -> str:
        base = self.labelled.name.split("_", 1)[1]
        return f"Dataset{self.number + number - 1:03d}_{base}SelfTrained{number}"

    @property
    def _rounds(self) -> range:
        return range(1, self.settings.rounds + 1)

    @property
    def _state(self) -> State:
        return State(self.output)

    @property
    def _folds(self) -> list[TeacherFold]:
        return self.labelled.folds(self.teacher.settings.folds)

    def _folder(self, number: int) -> Path:
        return self.output / f"round_{number}"

    def _choose(self, number: int, teacher: Teacher) -> list[str]:
        """Predicts and selects; returns the accepted cases."""
        folder, name = self._folder(number), f"round {number}: "
        if not self._state.has(name + PREDICTED):
            self.screen.say(f"  predicting {len(self.images)} unlabelled images")
            self.work.predict(teacher, self.images, folder / PREDICTIONS)
            self._state.add(name + PREDICTED)
        if not self._state.has(name + SELECTED):
            self.screen.say("  choosing images and pixels")
            predictions = Predictions.read(folder / PREDICTIONS)
            Selection(predictions, folder, self.images, self.labelled, self.settings).select(self._folds)
            self._state.add(name + SELECTED)
        accepted, areas = read_image_table(folder)
        self.screen.say(f"  {len(accepted)} of {len(areas)} images accepted: {folder / TABLE}, and a picture beside it")
        if not accepted:
            raise ValueError(
                f"No image was accepted. {folder / TABLE} says why for each; loosen the rules (--kept-share, "
                "--smallest-area, --largest-area), or train the teacher better."
            )
        return accepted

    def _drift(self, number: int) -> str | None:
        """Why to stop before this round's student is trained, if the areas have drifted from the round before."""
        if number == 1:
            return None
        before, now = (mean_areas([*read_image_table(self._folder(n))[1].values()]) for n in (number - 1, number))
        for name, change in drifts(before, now).items():
            if abs(change) > self.settings.largest_drift:
                return (
                    f"Stopped: from round {number - 1} to {number} the mean area of {name} went from "
                    f"{before[name]:.1%} to {now[name]:.1%} of an image ({change:+.0%}, allowed are "
                    f"{self.settings.largest_drift:.0%}), so the student of round {number - 1} may have drifted. "
                    f"Compare the pictures of both rounds in {self.output} before you use it; its teacher is safer."
                )
        return None

    def _train(self, number: int, teacher: Teacher, accepted: Sequence[str]) -> Teacher:
        name, folds = f"round {number}: ", self._folds
        checkpoints = {str(i): str(file.resolve()) for i, file in enumerate(teacher.checkpoints())}
        description = SelfTrainingData(
            tuple(accepted), checkpoints, self.settings.true_labels_at_end, str(self.output), self.labelled.name
        )
        pseudo_labels = self._folder(number) / PSEUDO_LABELS
        dataset = StudentDataset(
            self.dataset_name(number), self.labelled, self.images, accepted, pseudo_labels, folds, description
        )
        if not self._state.has(name + "data set"):
            self.screen.say(f"  writing {dataset.name}")
            dataset.write(self.settings.true_share)
            self._state.add(name + "data set")
        if not self._state.has(name + "preprocessed"):
            self.screen.say("  preprocessing it")
            self.work.prepare(dataset)
            self._state.add(name + "preprocessed")
        for fold in range(len(folds)):
            if not self._state.has(f"{name}fold {fold}"):
                self.screen.say(f"  training the student, fold {fold}")
                self.work.train(dataset, fold, self._folder(number) / f"fold_{fold}.txt")
                self._state.add(f"{name}fold {fold}")
        return self.work.student(dataset, range(len(folds)))
