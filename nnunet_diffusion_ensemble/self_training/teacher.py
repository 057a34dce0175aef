"""The teacher, and the labelled data set that it was trained on."""

import os
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint
from nnunet_diffusion_ensemble.nnunet.dataset_json import read_dataset_json
from nnunet_diffusion_ensemble.nnunet.raw_cases import group_by_case
from nnunet_diffusion_ensemble.prediction.model_folder import checkpoint_files, read_descriptions
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.study.label_orders import SPLITS, read_splits


@dataclass(frozen=True)
class Teacher:
    """A trained model of any trainer.

    Attributes:
        folder: with plans.json, dataset.json and a folder for each fold.
        settings: folds, checkpoint and how it predicts.
    """

    folder: Path
    settings: PredictionSettings

    def descriptions(self) -> tuple[PlansManager, dict[str, Any]]:
        return read_descriptions(self.folder)

    def checkpoints(self) -> list[Path]:
        """That of each fold; FileNotFoundError if there is none."""
        return checkpoint_files(self.folder, self.settings)

    def trainer_and_configuration(self) -> tuple[str, str]:
        """The name of its trainer, and e.g. `2d`."""
        checkpoint = read_checkpoint(self.checkpoints()[0], mapped=True, trusted=True)
        return checkpoint["trainer_name"], checkpoint["init_args"]["configuration"]


@dataclass(frozen=True)
class TeacherFold:
    """Truly labelled cases of a fold, by name."""

    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True)
class LabelledCases:
    """The raw data set of the truly labelled cases.

    Attributes:
        name: e.g. `Dataset001_Lungs`.
        dataset_json: of the raw data set.
        files: by case, nnU-Net's `images` and `label`.
    """

    name: str
    dataset_json: dict[str, Any]
    files: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, teacher: Teacher) -> "LabelledCases":
        """Those that a teacher was trained on.

        Raises:
            FileNotFoundError: the data set is not there any more.
            ValueError: it has other labels than the teacher.
        """
        plans, described = teacher.descriptions()
        found = cls.find(plans.dataset_name)
        theirs, ours = (
            {k: v for k, v in d["labels"].items() if k != "ignore"} for d in (described, found.dataset_json)
        )
        if theirs != ours:
            raise ValueError(f"{found.name} has the labels {ours}, the teacher {theirs}: it is of another data set.")
        return found

    @classmethod
    def find(cls, name: str) -> "LabelledCases":
        """Raises FileNotFoundError if there is no such raw data set, or it is not preprocessed."""
        raw, preprocessed = raw_folder(name), preprocessed_folder(name)
        for folder, what in ((raw, "images and labels"), (preprocessed, "plans and folds")):
            if not folder.is_dir():
                raise FileNotFoundError(
                    f"There is no {folder}: self-training needs the {what} that the teacher was trained on."
                )
        dataset_json = read_dataset_json(raw)
        return cls(name, dataset_json, _files(raw, dataset_json))

    def folds(self, numbers: tuple[int | str, ...]) -> list[TeacherFold]:
        """True labels of a teacher's folds; of nnU-Net's `all`, those for training are those for validation.

        Raises:
            ValueError: there is no such fold.
        """
        return [self._fold(number) for number in numbers]

    def _fold(self, number: int | str) -> TeacherFold:
        if number == "all":
            return TeacherFold(tuple(sorted(self.files)), tuple(sorted(self.files)))
        file = preprocessed_folder(self.name) / SPLITS
        splits = read_splits(file) if file.is_file() else []
        if int(number) >= len(splits):
            raise ValueError(
                f"{file} has {len(splits)} folds, and none of the number {number}: which cases the teacher learned "
                "from is not known. Name folds that are there."
            )
        split = splits[int(number)]
        return TeacherFold(tuple(split["train"]), tuple(split["val"]))


def _files(raw: Path, dataset_json: dict[str, Any]) -> dict[str, dict[str, Any]]:
    if "dataset" in dataset_json:  # spread over folders
        return get_filenames_of_train_images_and_targets(str(raw), deepcopy(dataset_json))
    ending = dataset_json["file_ending"]  # nnU-Net's function starts a dozen processes to list them
    cases, _ = group_by_case(raw / "imagesTr", ending)
    return {case: {"images": files, "label": raw / "labelsTr" / f"{case}{ending}"} for case, files in cases.items()}


def raw_folder(name: str) -> Path:
    return Path(_variable("nnUNet_raw")) / name


def preprocessed_folder(name: str) -> Path:
    return Path(_variable("nnUNet_preprocessed")) / name


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise FileNotFoundError(f"The variable {name} of nnU-Net is not set: export {name}=...")
    return value
