"""Calibrates a trained model: predicts labelled cases that it has not seen, and writes what they say beside it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_diffusion_ensemble.calibration.conformal import Method
from nnunet_diffusion_ensemble.calibration.dice_line import Score
from nnunet_diffusion_ensemble.calibration.file import (
    DENOISING_ERROR,
    Calibration,
    calibration_file,
    write_calibration,
)
from nnunet_diffusion_ensemble.calibration.predicted_dice import DicePrediction, fit_dice, method_for
from nnunet_diffusion_ensemble.calibration.temperature import fit_temperature
from nnunet_diffusion_ensemble.held_out.cases import HeldOutCases
from nnunet_diffusion_ensemble.held_out.measure import MeasuredCase, measure
from nnunet_diffusion_ensemble.prediction.calibrated import settings_of_fit
from nnunet_diffusion_ensemble.prediction.model import read_model
from nnunet_diffusion_ensemble.prediction.model_folder import check_model, model_files, read_descriptions
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.system.guard import alone_at
from nnunet_diffusion_ensemble.system.records import as_written, checksums

# Where a model has them. The denoising error says little of Dice and costs as much as the rest
# (docs/how-to/uncertainty.md).
USUAL_SCORES: tuple[Score, ...] = ("expected_dice", "timestep_dice")


@dataclass(frozen=True)
class DiceSettings:
    """How Dice is to be predicted.

    Attributes:
        coverage: of its interval, between 0 and 1.
        method: of the interval; None chooses by the number of cases.
        scores: that it depends on; empty for `USUAL_SCORES`, as far as the model has them.
    """

    coverage: float = 0.9
    method: Method | None = None
    scores: tuple[Score, ...] = ()


@dataclass
class Calibrating:
    """The calibration of one model, step by step.

    Attributes:
        model_folder: of the trained model, ours or of any other trainer of nnU-Net.
        settings: how it predicts.
        groups: cases that it has not seen.
        dice: how Dice is to be predicted; None fits the temperature alone.
        measured: cases that are done.
    """

    model_folder: Path
    settings: PredictionSettings
    groups: Sequence[HeldOutCases]
    dice: DiceSettings | None = field(default_factory=DiceSettings)
    measured: list[MeasuredCase] = field(default_factory=list)

    @property
    def num_cases(self) -> int:
        return sum(len(group.cases) for group in self.groups)

    @property
    def file(self) -> Path:
        """What is written."""
        return calibration_file(self.model_folder, self.settings.folds)

    def measure_all(self) -> Iterator[MeasuredCase]:
        """Predicts the cases, each by folds that have not seen it; yields them when they are done.

        Raises:
            ValueError: there are too few cases, said before anything is predicted; or a model or case is faulty.
        """
        check_model(self.model_folder, self.settings)
        if self.dice is not None:
            method_for(self.num_cases, self.dice.coverage, self.dice.method)
        wants_error = self.dice is not None and DENOISING_ERROR in self.dice.scores
        for group in self.groups:
            model = read_model(self.model_folder, self.settings.changed(folds=group.folds))
            for case in group.cases.values():
                self.measured.append(measure(model, case, wants_error))
                yield self.measured[-1]

    def fit(self) -> Calibration:
        """What the measured cases say. Those without a label that counts, or without a needed score, are left out.

        Raises:
            ValueError: too few are left, or the model has none of the scores.
        """
        plans, dataset_json = read_descriptions(self.model_folder)
        are_regions = plans.get_label_manager(dataset_json).has_regions
        temperature = fit_temperature([case.pixels for case in self.measured], are_regions)
        names = self._scores()
        used = [
            case
            for case in self.measured
            if not math.isnan(case.dice) and all(case.scores[name] is not None for name in names)
        ]
        return Calibration(
            weights=checksums(model_files(self.model_folder, self.settings), self.model_folder),
            predicts_with=as_written(settings_of_fit(self.settings)),
            temperatures=temperature.temperatures,
            nll_before=temperature.nll_before,
            nll_after=temperature.nll_after,
            dice=self._fit_dice(used, names),
            cases={case.name: case.dice for case in used},
            num_pixels=sum(case.pixels.truth.shape[1] for case in self.measured),
        )

    def _scores(self) -> tuple[Score, ...]:
        """Those that the line uses: the wished ones, or the usual ones that the model has in some case."""
        if self.dice is None:
            return ()
        has = {name for case in self.measured for name, value in case.scores.items() if value is not None}
        wished = self.dice.scores or tuple(name for name in USUAL_SCORES if name in has)
        missing = [name for name in wished if name not in has]
        if missing or not wished:
            raise ValueError(
                f"The model gives no case the score {missing[0] if missing else USUAL_SCORES[0]}, so that no Dice can "
                "be predicted from it: name others with --scores, or fit the temperature alone: --temperature-only."
            )
        return wished

    def _fit_dice(self, used: Sequence[MeasuredCase], names: Sequence[Score]) -> DicePrediction | None:
        if self.dice is None:
            return None
        scores, dice = [case.scores for case in used], [case.dice for case in used]
        return fit_dice(scores, dice, names, self.dice.coverage, self.dice.method)

    def write(self, calibration: Calibration) -> Path:
        """Writes it beside the model, whole or not at all; one that lies there is replaced."""
        with alone_at(self.file):
            write_calibration(calibration, self.file)
        return self.file
