"""What a model's calibration adds to its predictions: a Dice to expect, with its interval, and better probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_diffusion_ensemble.calibration.file import (
    AGAIN,
    DENOISING_ERROR,
    Calibration,
    calibration_file,
    read_calibration,
)
from nnunet_diffusion_ensemble.calibration.temperature import tempered
from nnunet_diffusion_ensemble.prediction.folder import CaseUncertainty
from nnunet_diffusion_ensemble.prediction.model import TrainedModel
from nnunet_diffusion_ensemble.prediction.model_folder import model_files
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.system.records import checksums


@dataclass(frozen=True)
class CalibrationUse:
    """A calibration and what is made of it.

    Attributes:
        calibration: of the model that predicts.
        file: it was read from.
        tempers: whether the probabilities that are written have its temperature; segmentation and scores never do.
        review_below: a case whose interval begins below this Dice is to be reviewed; None marks none.
    """

    calibration: Calibration
    file: Path
    tempers: bool = False
    review_below: float | None = None

    def to_json(self) -> dict[str, Any]:
        """What predictions depend on, for `prediction.json`."""
        of_file = checksums([self.file])
        return {"calibration": of_file, "calibrated": self.tempers, "review_below": self.review_below}

    @property
    def needs_denoising_error(self) -> bool:
        return self.calibration.dice is not None and DENOISING_ERROR in self.calibration.dice.scores

    def judged(self, scores: CaseUncertainty) -> CaseUncertainty:
        """Scores with the Dice to expect and, if there is a bound, whether to review the case.

        A case that lacks a score, as one without foreground may, has no interval, and is to be reviewed.
        """
        if self.calibration.dice is None:
            return scores
        found = self.calibration.dice.of_case(asdict(scores))
        review = None if self.review_below is None else found is None or found.lower < self.review_below
        if found is None:
            return replace(scores, review=review)
        return replace(scores, predicted_dice=found.predicted, lower=found.lower, upper=found.upper, review=review)

    def probabilities(self, model: TrainedModel, probabilities: np.ndarray) -> np.ndarray:
        """Those to write, (classes or regions, *space)."""
        if not self.tempers:
            return probabilities
        return tempered(probabilities, self.calibration.temperatures, model.labels.has_regions)


def settings_of_fit(settings: PredictionSettings, denoiser: str | None = None) -> dict[str, Any]:
    """Settings of prediction that scores and probabilities depend on; those of a calibration must be the same."""
    return {**settings.to_json(), "denoiser": denoiser}


def usable_calibration(
    model_folder: Path,
    settings: PredictionSettings,
    denoiser: str | None = None,
    tempers: bool = False,
    review_below: float | None = None,
) -> tuple[CalibrationUse | None, str]:
    """The calibration that lies beside a model, and why none is used although there is one.

    Args:
        model_folder: of the trained model.
        settings: of prediction.
        denoiser: as in `read_model`.
        tempers: that the temperature was asked for.
        review_below: a Dice between 0 and 1, if reviews were asked for.

    Raises:
        FileNotFoundError: there is none, but something was asked for that needs it.
        ValueError: it is damaged; or it does not fit, or lacks what was asked for.
    """
    if review_below is not None and not 0 < review_below <= 1:
        raise ValueError(f"--review-below must be a Dice above 0 and at most 1, got {review_below:g}.")
    file, is_wanted = calibration_file(model_folder, settings.folds), tempers or review_below is not None
    if not is_wanted and not file.exists():
        return None, ""
    calibration = read_calibration(file)
    files: Sequence[Path] = model_files(model_folder, settings)
    now: Mapping[str, Any] = settings_of_fit(settings, denoiser)
    if differs := calibration.differs_from(files, model_folder, now):
        text = f"{file} {differs}. {AGAIN}"
        if is_wanted:
            raise ValueError(text)
        return None, text
    if review_below is not None and calibration.dice is None:
        raise ValueError(f"{file} holds a temperature alone, so that no Dice is predicted. {AGAIN}")
    return CalibrationUse(calibration, file, tempers, review_below), ""
