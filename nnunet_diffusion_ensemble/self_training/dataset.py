"""The student's data set: true labels, pseudo-labels of accepted images, and folds; then plans and preprocessing."""

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset
from nnunetv2.experiment_planning.plans_for_pretraining.move_plans_between_datasets import move_plans_between_datasets

from nnunet_diffusion_ensemble.method import PLANS_KEY
from nnunet_diffusion_ensemble.nnunet.pretrainings import DENOISER, finished_pretraining
from nnunet_diffusion_ensemble.nnunet.raw_cases import UNLABELLED_IMAGES
from nnunet_diffusion_ensemble.self_training.images import Cases
from nnunet_diffusion_ensemble.self_training.pixel_rule import with_ignore_label
from nnunet_diffusion_ensemble.self_training.sampling import mixed_cases
from nnunet_diffusion_ensemble.self_training.teacher import LabelledCases, TeacherFold, preprocessed_folder, raw_folder
from nnunet_diffusion_ensemble.study.label_orders import SPLITS
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.training.self_training import DESCRIPTION, SelfTrainingData

UNFINISHED = ".unfinished_"
FINGERPRINT = "dataset_fingerprint.json"


@dataclass(frozen=True)
class StudentDataset:
    """What a student is trained on.

    Attributes:
        name: e.g. `Dataset101_LungsSelfTrained1`.
        labelled: the truly labelled cases.
        images: all unlabelled cases.
        accepted: those of them that get their pseudo-labels.
        pseudo_labels: folder of these.
        folds: of the truly labelled cases; the student's are numbered from 0.
        description: for the trainers of self-training.
    """

    name: str
    labelled: LabelledCases
    images: Cases
    accepted: Sequence[str]
    pseudo_labels: Path
    folds: Sequence[TeacherFold]
    description: SelfTrainingData

    def write(self, true_share: float) -> None:
        """Writes the raw data set, whole or not at all; an earlier one of the name is replaced."""
        folder = raw_folder(f"{UNFINISHED}{self.name}")
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("imagesTr", "labelsTr", UNLABELLED_IMAGES):
            (folder / name).mkdir(parents=True)
        dataset_json = with_ignore_label(self.labelled.dataset_json)
        dataset_json.pop("dataset", None)  # the lists of files of a data set that is spread over folders
        dataset_json["numTraining"] = len(self.labelled.files) + len(self.accepted)
        self._place_cases(folder, dataset_json["file_ending"])
        splits = [{"train": mixed_cases(f.train, self.accepted, true_share), "val": [*f.val]} for f in self.folds]
        write_text(folder / "dataset.json", json.dumps(dataset_json, indent=4))
        write_text(folder / SPLITS, json.dumps(splits, indent=4))
        self.description.write(folder)
        shutil.rmtree(raw_folder(self.name), ignore_errors=True)
        folder.replace(raw_folder(self.name))

    def _place_cases(self, folder: Path, ending: str) -> None:
        """Links to images and true labels, so that they take no room, and the pseudo-labels themselves."""
        for case, files in self.labelled.files.items():
            _place(case, map(Path, files["images"]), folder / "imagesTr")
            _place(case, [Path(files["label"])], folder / "labelsTr", case + ending)
        for case, images in self.images.items():
            _place(case, images, folder / ("imagesTr" if case in set(self.accepted) else UNLABELLED_IMAGES))
        for case in self.accepted:
            shutil.copy(self.pseudo_labels / f"{case}{ending}", folder / "labelsTr")
            if (spacing := self.pseudo_labels / f"{case}.json").is_file():  # of nnU-Net's writer of 3D tif
                shutil.copy(spacing, folder / "labelsTr")

    def prepare(self, plans_name: str, configuration: str, num_processes: int) -> None:
        """Plans of the labelled data set, by nnU-Net's own way of moving them, and preprocessing."""
        source, target = preprocessed_folder(self.labelled.name), preprocessed_folder(self.name)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        # Plans and intensities are those of the labelled data set, so its fingerprint is the one they go with.
        shutil.copy(source / FINGERPRINT, target / FINGERPRINT)
        for name in (DESCRIPTION, "dataset.json", SPLITS):
            shutil.copy(raw_folder(self.name) / name, target / name)
        move_plans_between_datasets(self.labelled.name, self.name, plans_name)
        name_pretraining(target / f"{plans_name}.json", self.labelled.name, configuration)
        number = int(self.name.removeprefix("Dataset")[:3])
        preprocess_dataset(number, plans_name, (configuration,), (num_processes,), show_progress_bar=False)


def name_pretraining(plans_file: Path, dataset: str, configuration: str) -> None:
    """Has plans of a student name the denoiser that was pretrained on the labelled data set, unless they name one."""
    plans = json.loads(plans_file.read_text())
    method = plans["configurations"][configuration].get(PLANS_KEY)
    if method is None or method.get("pretrained_checkpoint") is not None:
        return
    results = Path(os.environ["nnUNet_results"]) / dataset
    try:
        file = finished_pretraining(results, DENOISER, plans["plans_name"], configuration, "all")
    except FileNotFoundError:  # a student that needs one will say so
        return
    method["pretrained_checkpoint"] = str(file)
    write_text(plans_file, json.dumps(plans, indent=4))


def _place(case: str, files: Iterable[Path], folder: Path, name: str | None = None) -> None:
    """Links to files, and to the spacing that nnU-Net's reader of 3D tif takes from beside them."""
    for file in files:
        link_or_copy(file, folder / (name or file.name))
        if (spacing := file.with_name(f"{case}.json")).is_file():
            link_or_copy(spacing, folder / spacing.name)


def link_or_copy(source: Path, target: Path) -> None:
    """A link where the system allows it (Windows asks for rights), otherwise a copy."""
    if target.exists():
        return
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copy(source, target)


def refuse_taken_number(name: str, origin: str) -> None:
    """Raises ValueError if another data set has the number of one that self-training is to write."""
    number = name.split("_")[0]
    for folder in (raw_folder(""), preprocessed_folder("")):
        for taken in sorted(folder.glob(f"{number}_*")):
            description = taken / DESCRIPTION
            is_ours = description.is_file() and SelfTrainingData.read(taken).origin == origin
            if taken.name != name or not is_ours:
                raise ValueError(f"{taken} has the number of {name}, which is to be written. Choose another number.")
