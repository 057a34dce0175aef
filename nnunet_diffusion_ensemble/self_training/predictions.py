"""A teacher's predictions of unlabelled images, read back from the folder of `nnunet-diffusion predict`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_diffusion_ensemble.images.maps import read_map
from nnunet_diffusion_ensemble.images.reading import read_segmentation
from nnunet_diffusion_ensemble.prediction.folder import PROBABILITY, PredictionFolder, folder_name
from nnunet_diffusion_ensemble.prediction.model_folder import named_regions, read_descriptions
from nnunet_diffusion_ensemble.self_training.image_rule import Areas, Candidate, area_shares
from nnunet_diffusion_ensemble.self_training.pixel_rule import IGNORE, label_manager, pseudo_label
from nnunet_diffusion_ensemble.self_training.settings import SelfTrainingSettings


@dataclass(frozen=True)
class Predictions:
    """What lies in a folder of predictions; labels are those of its dataset.json.

    Attributes:
        folder: of `nnunet-diffusion predict`.
        dataset_json: of the model.
        reader_writer: nnU-Net's, of the plans.
    """

    folder: Path
    dataset_json: Mapping[str, Any]
    reader_writer: BaseReaderWriter

    @classmethod
    def read(cls, folder: Path) -> "Predictions":
        """Of a folder in which every case is predicted."""
        plans, dataset_json = read_descriptions(folder)
        return cls(folder, dataset_json, plans.image_reader_writer_class())

    @property
    def regions(self) -> dict[str, tuple[int, ...]]:
        """Names of classes or regions in the order of their probabilities."""
        return named_regions(label_manager(self.dataset_json))

    def candidate(self, case: str) -> Candidate:
        """A case in numbers. Timesteps that all see nothing agree fully: then the areas decide."""
        scores = self._target.read_scores(case)
        has_timesteps = scores.mutual_information is not None
        agreement = (1.0 if scores.timestep_dice is None else scores.timestep_dice) if has_timesteps else None
        segmentation, _ = self.segmentation(case)
        assert scores.entropy is not None  # of a prediction that was written to its end
        return Candidate(case, area_shares(segmentation, self.regions, None), agreement, scores.entropy)

    def segmentation(self, case: str) -> tuple[np.ndarray, dict[str, Any]]:
        """(slices, rows, columns), and its properties for nnU-Net's writer."""
        return read_segmentation(self.reader_writer, self.folder / f"{case}{self.dataset_json['file_ending']}")

    def probabilities(self, case: str) -> np.ndarray:
        """(classes or regions, slices, rows, columns), between 0 and 1."""
        ending = self._target.map_ending
        folders = [folder_name(i, name) for i, name in enumerate(self.regions)]
        files = [self.folder / PROBABILITY / folder / f"{case}{ending}" for folder in folders]
        return np.stack([read_map(file, type(self.reader_writer).__name__) for file in files])

    def write_pseudo_label(self, case: str, file: Path, settings: SelfTrainingSettings, ignore_label: int) -> float:
        """Writes what a student is to learn of a case; returns the share of its pixels that are kept."""
        labels = label_manager(self.dataset_json)
        learned = pseudo_label(self.probabilities(case), labels, settings.upper, settings.lower, ignore_label)
        self.reader_writer.write_seg(learned, str(file), self.segmentation(case)[1])
        return float((learned != ignore_label).mean())

    @property
    def _target(self) -> PredictionFolder:
        return PredictionFolder(self.folder, self.dataset_json["file_ending"], self.reader_writer)


def labelled_areas(file: Path, dataset_json: Mapping[str, Any], reader_writer: BaseReaderWriter) -> Areas:
    """What each label of a truly labelled case covers, of what is not ignored."""
    labels, _ = read_segmentation(reader_writer, file)
    return area_shares(labels, named_regions(label_manager(dataset_json)), dataset_json["labels"].get(IGNORE))
