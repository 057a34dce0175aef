"""A labelled data set of small PNGs, its trained teacher in name, and work that takes no time."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from PIL import Image

from nnunet_diffusion_ensemble.prediction.folder import PROBABILITY, CaseUncertainty, PredictionFolder
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.self_training.dataset import StudentDataset
from nnunet_diffusion_ensemble.self_training.images import Cases, find_images
from nnunet_diffusion_ensemble.self_training.teacher import LabelledCases, Teacher

NAME, PLANS, SIZE = "Dataset001_Lungs", "Plans", (10, 10)
LABELLED, UNLABELLED = ("case_0", "case_1", "case_2"), ("un_0", "un_1", "un_2", "un_3")
DATASET_JSON = {
    "channel_names": {"0": "X-ray"},
    "labels": {"background": 0, "lung": 1},
    "numTraining": len(LABELLED),
    "file_ending": ".png",
}


def save_png(values: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(file)


def square(pixels: int) -> np.ndarray:
    """Its first pixels are 1."""
    return (np.arange(SIZE[0] * SIZE[1]) < pixels).reshape(SIZE).astype(np.uint8)


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's folders with the data set; labels cover 20, 30 and 90% of an image. Fold 1 trains on the first two."""
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    raw, preprocessed = tmp_path / "raw" / NAME, tmp_path / "preprocessed" / NAME
    random = np.random.RandomState(0)
    for case, pixels in zip(LABELLED, (20, 30, 90), strict=True):
        save_png(random.randint(0, 255, SIZE), raw / "imagesTr" / f"{case}_0000.png")
        save_png(square(pixels), raw / "labelsTr" / f"{case}.png")
    for case in UNLABELLED:
        save_png(random.randint(0, 255, SIZE), raw / "imagesUn" / f"{case}_0000.png")
    (raw / "dataset.json").write_text(json.dumps(DATASET_JSON))
    preprocessed.mkdir(parents=True)
    splits = [{"train": ["case_2"], "val": ["case_0"]}, {"train": ["case_0", "case_1"], "val": ["case_2"]}]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    return tmp_path


@pytest.fixture
def teacher(hospital: Path) -> Teacher:
    return make_teacher(hospital / "results" / NAME / f"Trainer__{PLANS}__2d", (1,))


def make_teacher(folder: Path, folds: tuple[int, ...]) -> Teacher:
    """As far as anything but prediction reads it."""
    for fold in folds:
        (folder / f"fold_{fold}").mkdir(parents=True)
        checkpoint = {"network_weights": {}, "init_args": {"configuration": "2d"}, "trainer_name": "nnUNetTrainer"}
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    plans = {"dataset_name": NAME, "plans_name": PLANS, "image_reader_writer": "NaturalImage2DIO", "configurations": {}}
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(DATASET_JSON))
    return Teacher(folder, PredictionSettings(folds=folds, device="cpu"))


@pytest.fixture
def labelled(teacher: Teacher) -> LabelledCases:
    return LabelledCases.of(teacher)


@pytest.fixture
def unlabelled_images(labelled: LabelledCases) -> dict[str, list[Path]]:
    return find_images(labelled, [])


def write_predictions(folder: Path, teacher: Teacher, pixels: dict[str, int], dice: dict[str, float]) -> None:
    """What `nnunet-diffusion predict` writes, as far as it is read: 10 pixels beyond the label have probability 0.3."""
    target = PredictionFolder(folder, ".png", NaturalImage2DIO())
    target.begin({}, json.loads((teacher.folder / "plans.json").read_text()), DATASET_JSON)
    for case, number in pixels.items():
        inside, doubtful = square(number)[None], square(number + 10)[None]
        probability = np.where(inside, 0.95, np.where(doubtful, 0.3, 0.02))
        with target.new_case(case) as files:
            files.write_segmentation(inside, {})
            files.write_map(1 - probability, {}, PROBABILITY, "0_background")
            files.write_map(probability, {}, PROBABILITY, "1_lung")
            scores = CaseUncertainty(case, number, entropy=0.1, mutual_information=0.05, timestep_dice=dice[case])
            files.write_scores(scores)
    target.write_table(list(pixels))


class Killed(Exception):
    """Stands for `kill -9` at some point."""


@dataclass
class FakeWork:
    """Notes what it is asked for, writes results that depend on the teacher alone, and dies when told to.

    Attributes:
        growth: pixels that a label gains from round to round.
        dies_at: number of the call that is not survived.
    """

    results: Path
    growth: int = 0
    dies_at: int | None = None
    calls: list[str] = field(default_factory=list)

    def predict(self, teacher: Teacher, cases: Cases, folder: Path) -> None:
        self._note("predict")
        round_number = int(folder.parent.name.removeprefix("round_"))
        size = 20 + self.growth * (round_number - 1)
        pixels = dict(zip(cases, (size, size + 5, 5, size + 2), strict=False))  # the third is too small
        write_predictions(folder, teacher, pixels, dict(zip(cases, (0.9, 0.95, 0.92, 0.6), strict=False)))
        self._note("predicted")

    def prepare(self, dataset: StudentDataset) -> None:
        self._note("prepare")

    def train(self, dataset: StudentDataset, fold: int, log: Path) -> None:
        self._note(f"train {dataset.name} {fold}")
        folder = self.results / dataset.name
        if not folder.exists():
            make_teacher(folder, (0,))

    def student(self, dataset: StudentDataset, folds: Sequence[int]) -> Teacher:
        return Teacher(self.results / dataset.name, PredictionSettings(folds=tuple(folds), device="cpu"))

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if len(self.calls) == self.dies_at:
            raise Killed
