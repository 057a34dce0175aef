"""Selection of a round: the rules applied to a folder of predictions; labels, table and picture are what it leaves."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_diffusion_ensemble.self_training.image_rule import AllowedArea, Verdict, allowed_areas, judge
from nnunet_diffusion_ensemble.self_training.images import Cases
from nnunet_diffusion_ensemble.self_training.picture import Legend, Shown, chosen, read_shown, write_picture
from nnunet_diffusion_ensemble.self_training.pixel_rule import IGNORE, with_ignore_label
from nnunet_diffusion_ensemble.self_training.predictions import Predictions, labelled_areas
from nnunet_diffusion_ensemble.self_training.settings import SelfTrainingSettings
from nnunet_diffusion_ensemble.self_training.table import write_table
from nnunet_diffusion_ensemble.self_training.teacher import LabelledCases, TeacherFold

PSEUDO_LABELS, PICTURE = "pseudo_labels", "images.png"


@dataclass(frozen=True)
class Selection:
    """A round's predictions and what decides on them.

    Attributes:
        predictions: the teacher's.
        output: folder to write.
        images: the unlabelled cases.
        labelled: data set of the true labels.
        settings: the rules.
    """

    predictions: Predictions
    output: Path
    images: Cases
    labelled: LabelledCases
    settings: SelfTrainingSettings

    def select(self, folds: Sequence[TeacherFold]) -> list[Verdict]:
        """Decides on all images and writes pseudo-labels (of rejected ones as well), `images.png` and `images.csv`.

        Args:
            folds: those that the teacher learned from.
        """
        candidates = [self.predictions.candidate(case) for case in self.images]
        verdicts = judge(candidates, self._allowed_areas(folds), self.settings.kept_share)
        kept_pixels = self._write_pseudo_labels()
        self._write_picture(verdicts)
        write_table(verdicts, kept_pixels, self.output)
        return verdicts

    @property
    def ignore_label(self) -> int:
        return with_ignore_label(self.labelled.dataset_json)["labels"][IGNORE]

    def _allowed_areas(self, folds: Sequence[TeacherFold]) -> dict[str, AllowedArea]:
        """By the cases that were learned from: what validation holds must stay unseen."""
        learned = sorted({case for fold in folds for case in fold.train})
        files = [Path(self.labelled.files[case]["label"]) for case in learned]
        reader_writer, described = self.predictions.reader_writer, self.labelled.dataset_json
        areas = [labelled_areas(file, described, reader_writer) for file in files]
        return allowed_areas(areas, self.settings.smallest_area, self.settings.largest_area)

    def _pseudo_label(self, case: str) -> Path:
        return self.output / PSEUDO_LABELS / f"{case}{self.predictions.dataset_json['file_ending']}"

    def _write_pseudo_labels(self) -> dict[str, float]:
        """Returns the share of pixels that are kept, by case."""
        shutil.rmtree(self.output / PSEUDO_LABELS, ignore_errors=True)
        (self.output / PSEUDO_LABELS).mkdir(parents=True)
        return {
            case: self.predictions.write_pseudo_label(case, self._pseudo_label(case), self.settings, self.ignore_label)
            for case in self.images
        }

    def _write_picture(self, verdicts: Sequence[Verdict]) -> None:
        accepted, rejected = ([self._shown(v) for v in chosen(verdicts, kind)] for kind in (True, False))
        num_accepted = sum(verdict.is_accepted for verdict in verdicts)
        totals = (num_accepted, len(verdicts) - num_accepted)
        legend = Legend(self.predictions.regions, self.ignore_label)
        write_picture(accepted, rejected, totals, legend, self.output / PICTURE)

    def _shown(self, verdict: Verdict) -> Shown:
        case = verdict.candidate.case
        reader_writer = self.predictions.reader_writer
        return read_shown(verdict, self.images[case], self._pseudo_label(case), reader_writer, self.ignore_label)
