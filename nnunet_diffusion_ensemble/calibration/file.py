"""The file of a calibration beside the model that it was fitted for: whole or not at all, and for no other weights."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from nnunet_diffusion_ensemble.calibration.predicted_dice import DicePrediction
from nnunet_diffusion_ensemble.calibration.temperature import LEAST, MOST
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.system.mistakes import must_be
from nnunet_diffusion_ensemble.system.records import as_written, checksums
from nnunet_diffusion_ensemble.system.settings import Count, Listed, Settings, Text

AGAIN = "Fit it again with `nnunet-diffusion calibrate`, or remove the file."
DENOISER, DENOISING_ERROR = "denoiser", "denoising_error"  # only that score depends on that setting
Temperature = Annotated[float, Field(ge=LEAST, le=MOST)]


class Calibration(Settings):
    """What `nnunet-diffusion calibrate` found out about a model.

    Attributes:
        version: of the form of the file.
        weights: SHA-256 of the model's files, by path from its folder.
        predicts_with: settings of prediction that it was fitted with.
        temperatures: one for all classes, or one for each region.
        nll_before, nll_after: negative log-likelihood without and with them, on the cases that they were fitted to.
        dice: prediction of Dice; None if only the temperature was fitted.
        cases: by name Dice of those that were used.
    """

    version: Literal[1] = 1
    weights: dict[Text, Text]
    predicts_with: dict[Text, Any]
    temperatures: Annotated[Listed[Temperature], Field(min_length=1)]
    nll_before: float
    nll_after: float
    dice: DicePrediction | None
    cases: dict[Text, Annotated[float, Field(ge=0, le=1)]]
    num_pixels: Count

    @model_validator(mode="after")
    def _has_cases(self) -> Self:
        if not self.cases:
            raise must_be("a calibration with cases")
        return self

    def differs_from(self, model_files: Sequence[Path], model_folder: Path, predicts_with: Mapping[str, Any]) -> str:
        """In what a model or its settings are not those of the fit, as the end of a sentence; empty if in nothing."""
        if self.weights != checksums(model_files, model_folder):
            return "was fitted for other weights: the model was trained again, or is another one"
        now = as_written(predicts_with)
        uses_denoiser = self.dice is not None and DENOISING_ERROR in self.dice.scores
        names = [name for name in now if name != DENOISER or uses_denoiser]
        other = [
            f"{name} {self.predicts_with.get(name)}, now {now[name]}" for name in names if self._has_other(name, now)
        ]
        return f"was fitted with other settings of prediction ({'; '.join(other)})" if other else ""

    def _has_other(self, name: str, now: Mapping[str, Any]) -> bool:
        return self.predicts_with.get(name) != now[name]


def calibration_file(model_folder: Path, folds: Sequence[int | str]) -> Path:
    """Where the calibration of these folds' mean prediction lies."""
    return model_folder / f"calibration_folds_{'_'.join(map(str, folds))}.json"


def write_calibration(calibration: Calibration, file: Path) -> None:
    """Writes the file, whole or not at all."""
    write_text(file, json.dumps(calibration.to_json(), indent=1))


def read_calibration(file: Path) -> Calibration:
    """Reads the file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged; the message says in what.
    """
    if not file.exists():
        raise FileNotFoundError(f"There is no {file}: fit it with `nnunet-diffusion calibrate` on labelled cases.")
    return Calibration.read(read_object(file, AGAIN), where=str(file))
