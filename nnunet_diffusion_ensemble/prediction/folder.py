"""The folder that `nnunet-diffusion predict` writes: what lies where, cases that are there whole or not at all.

Segmentations lie in it as `nnUNetv2_predict` writes them, everything else in folders with one file a case.
"""

import csv
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_diffusion_ensemble.images.maps import ENDINGS as MAP_ENDINGS
from nnunet_diffusion_ensemble.images.maps import write_map
from nnunet_diffusion_ensemble.prediction.origin import Origin
from nnunet_diffusion_ensemble.system.atomic import whole_file, write_text
from nnunet_diffusion_ensemble.system.full_disk import naming_full_disk
from nnunet_diffusion_ensemble.system.records import read_record

PROBABILITY, TIMESTEPS, ENTROPY, MUTUAL_INFORMATION = "probability", "timesteps", "entropy", "mutual_information"
SCORES = "scores"
TABLE = "uncertainty.csv"
SETTINGS = "prediction.json"
UNFINISHED = ".unfinished_"
JUDGED = ("predicted_dice", "lower", "upper", "review")  # last columns of the table


@dataclass(frozen=True)
class CaseUncertainty:
    """A case's uncertainty in numbers; None is what there is not.

    Attributes:
        case: its name.
        foreground_voxels: voxels that are segmented as anything but background.
        entropy: predictive entropy, mean over the image.
        entropy_foreground: mean over those voxels.
        mutual_information: between class and timestep, mean over the image.
        mutual_information_foreground: mean over those voxels.
        expected_dice: Dice that the probabilities lead to expect, mean over labels or regions that are predicted.
        timestep_dice: mean Dice of pairs of timesteps.
        denoising_error: mean of `denoising_error_at`.
        denoising_error_at: by timestep.
        predicted_dice: Dice to expect by the model's calibration, mean over labels or regions.
        lower, upper: ends of its interval.
        review: whether a person should look at the case, as `lower` is below a bound that was set.
    """

    case: str
    foreground_voxels: int
    entropy: float | None = None
    entropy_foreground: float | None = None
    mutual_information: float | None = None
    mutual_information_foreground: float | None = None
    expected_dice: float | None = None
    timestep_dice: float | None = None
    denoising_error: float | None = None
    denoising_error_at: Mapping[int, float] = field(default_factory=dict)
    predicted_dice: float | None = None
    lower: float | None = None
    upper: float | None = None
    review: bool | None = None

    def row(self) -> dict[str, Any]:
        """Columns of the table, numbers with six digits; those of a calibration only with one."""
        values = asdict(self)
        at = values.pop("denoising_error_at")
        judged = {name: values.pop(name) for name in JUDGED}
        values |= {f"denoising_error_t{t}": error for t, error in at.items()}
        values |= {name: value for name, value in judged.items() if value is not None}
        if self.review is not None:
            values["review"] = "yes" if self.review else "no"
        return {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()}


class PredictionFolder:
    """Writes cases into a folder.

    Args:
        folder: made if it is not there.
        file_ending: of segmentations.
        reader_writer: nnU-Net's, of the plans.

    Raises:
        NotImplementedError: for a reader that turns images into another orientation.
    """

    def __init__(self, folder: Path, file_ending: str, reader_writer: Any):
        self.folder, self.file_ending, self.reader_writer = folder, file_ending, reader_writer
        name = type(reader_writer).__name__
        if name not in MAP_ENDINGS:
            raise NotImplementedError(
                f"The model reads images with {name}; images of probability and uncertainty can be written for "
                f"{', '.join(MAP_ENDINGS)}. Use nnUNetv2_predict."
            )
        self.map_ending = MAP_ENDINGS[name]

    def begin(self, settings: Mapping[str, Any], plans: Mapping[str, Any], dataset_json: Mapping[str, Any]) -> None:
        """Writes how it is predicted, and nnU-Net's files that evaluation and postprocessing need."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, content in ((SETTINGS, settings), ("plans.json", plans), ("dataset.json", dataset_json)):
            write_text(self.folder / name, json.dumps(content, indent=4))

    def check_continues(self, settings: Mapping[str, Any], origin: Origin) -> None:
        """Raises ValueError if cases lie there that were predicted in another way, or nobody knows in which.

        Args:
            settings: how it is to be predicted.
            origin: of what lies there, and of what is to come.
        """
        found = [*(self.folder / SCORES).glob("*.json"), *self.folder.glob(f"[!.]*{self.file_ending}")]
        if found and not origin.before:
            raise ValueError(
                f"{self.folder} holds predictions ({found[0].name}), but no whole {origin.file.name} that says from "
                "which model and images: an earlier version or another program made them. Name another folder, or "
                "leave out --continue_prediction to predict all cases anew."
            )
        if not found:
            return
        before = read_record(self.folder / SETTINGS) or settings
        differing = [
            f"{key} {before.get(key)}, now {value}" for key, value in settings.items() if before.get(key) != value
        ]
        if differing:
            raise ValueError(
                f"{self.folder} was predicted with other settings ({'; '.join(differing)}). Continue with the "
                "same ones, name another folder, or leave out --continue_prediction."
            )
        if origin.difference:
            raise ValueError(
                f"{self.folder} was predicted with another model ({origin.difference}). Name another folder, or leave "
                "out --continue_prediction to predict all cases anew."
            )

    def forget(self, cases: Iterable[str]) -> None:
        """What lies there of these cases no longer counts as written, so that two models never share a table."""
        for case in cases:
            self._scores_file(self.folder, case).unlink(missing_ok=True)

    def has(self, case: str) -> bool:
        """Whether a case was written to the end."""
        scores = read_record(self._scores_file(self.folder, case))
        return scores is not None and (self.folder / f"{case}{self.file_ending}").is_file()

    @contextmanager
    def new_case(self, case: str) -> Iterator["CaseFiles"]:
        """Files that appear together when the block ends, the scores last, which vouch for them; if it fails, none."""
        unfinished = self.folder / f"{UNFINISHED}{case}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            with naming_full_disk(self.folder / case):
                yield CaseFiles(self, unfinished, case)
            files = [path.relative_to(unfinished) for path in unfinished.rglob("*") if path.is_file()]
            for file in sorted(files, key=lambda path: path.parts[0] == SCORES):
                (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(unfinished / file, self.folder / file)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def read_scores(self, case: str) -> CaseUncertainty:
        values = json.loads(self._scores_file(self.folder, case).read_text())
        values["denoising_error_at"] = {int(t): error for t, error in values["denoising_error_at"].items()}
        return CaseUncertainty(**values)

    def end(self, settings: Mapping[str, Any], cases: Sequence[str], left_out: Mapping[str, str]) -> None:
        """Writes the table of the cases, and beside the settings how many there are and what was left out."""
        self.write_table(cases)
        content = {**settings, "num_cases": len(cases), "left_out": left_out}
        write_text(self.folder / SETTINGS, json.dumps(content, indent=4))

    def write_table(self, cases: Sequence[str]) -> Path:
        """Writes `uncertainty.csv`, one row a case."""
        rows = [self.read_scores(case).row() for case in cases]
        with whole_file(self.folder / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
        return self.folder / TABLE

    @staticmethod
    def _scores_file(folder: Path, case: str) -> Path:
        return folder / SCORES / f"{case}.json"


@dataclass(frozen=True)
class CaseFiles:
    """Writes the files of one case; `root` is where they lie until all are there."""

    target: PredictionFolder
    root: Path
    case: str

    def write_segmentation(self, segmentation: np.ndarray, properties: Mapping[str, Any], *folders: str) -> None:
        """A label map (three axes) with nnU-Net's writer."""
        file = self._file(self.target.file_ending, folders)
        self.target.reader_writer.write_seg(segmentation, str(file), properties)

    def write_map(self, values: np.ndarray, properties: Mapping[str, Any], *folders: str) -> None:
        """Numbers between 0 and 1 (three axes) as a float32 image in the geometry of the input."""
        write_map(values, self._file(self.target.map_ending, folders), properties)

    def write_scores(self, scores: CaseUncertainty) -> None:
        self._file(".json", (SCORES,)).write_text(json.dumps(asdict(scores), indent=4))

    def _file(self, ending: str, folders: Sequence[str]) -> Path:
        folder = self.root.joinpath(*folders)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.case}{ending}"


def folder_name(position: int, name: str) -> str:
    """A name for the folder of a class: its channel, and its name without what file systems or shells mind."""
    return f"{position}_{re.sub(r'[^0-9A-Za-z_.-]+', '_', name)}"
