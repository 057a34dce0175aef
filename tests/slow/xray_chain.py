"""From folders of PNGs to a trained ensemble with the stock commands; what the X-ray tests share."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nnunet_commands import DATA, ENSEMBLE, PRETRAIN, Workplace, change_plans
from PIL import Image

XRAYS = DATA / "cxr"
DATASET = "Dataset001_Lungs"
PLANNED, PLANS = "nnUNetDiffusionEnsemblePlans", "Tiny"
SIZE_PX = 48
NUM_LABELLED, NUM_TESTED = 6, 12
# The method's own settings stay, but for what makes it small: four of eight timesteps, few iterations.
OPTIONS = (
    *("--base-features", 8, "--blocks-per-stage", 1, "--timesteps", 1, 50, 200, 400, "--mirror-axes", 1),
    *("--pretraining-epochs", 4, "--pretraining-iterations", 60, "--pretraining-batch-size", 8),
    *("--pretraining-learning-rate", 1e-3, "--epochs", 8, "--iterations", 50, "--batch-size", 6),
    *("--learning-rate", 3e-3),
)
EDITED = {
    "pretraining.ema_decay": 0.99,
    "pretraining.num_samples": 4,
    "pretraining.num_sampling_steps": 10,
    "pretraining.save_samples_every": 2,
    "training.num_val_iterations_per_epoch": 2,
}


@dataclass(frozen=True)
class Chain:
    """A trained chain: its workplace and raw data sets of the test cases of both hospitals."""

    workplace: Workplace
    training_names: tuple[str, ...]

    @property
    def raw(self) -> Path:
        """Raw data set of the labelled and unlabelled images."""
        return self.workplace.raw / DATASET

    def test_set(self, hospital: str) -> Path:
        return self.workplace.raw / TEST_SETS[hospital]


TEST_SETS = {"montgomery": "Dataset002_Montgomery", "shenzhen": "Dataset003_Shenzhen"}


def names_in(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.iterdir())


def copy_pngs(source: Path, names: Sequence[str], target: Path) -> Path:
    target.mkdir(parents=True)
    for name in names:
        shutil.copy(source / f"{name}.png", target)
    return target


def read_mask(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file)) > 0


def convert(workplace: Workplace, hospital: str, names: Sequence[str], dataset: str, *unlabelled: Path) -> None:
    """`nnunet-diffusion convert` on a folder of images and one of masks, as a user has them."""
    folder = workplace.root / "png" / dataset
    images = copy_pngs(XRAYS / hospital / "images", names, folder / "images")
    masks = copy_pngs(XRAYS / hospital / "masks", names, folder / "masks")
    more = ["--unlabelled", *unlabelled] if unlabelled else []
    options = ["--labels", "lung=255", "--resize", SIZE_PX, SIZE_PX]
    workplace.run("nnunet-diffusion", "convert", dataset, "--images", images, "--masks", masks, *options, *more)


def make_datasets(workplace: Workplace, draw: int) -> tuple[str, ...]:
    """Raw data sets of labelled, unlabelled and test images; two folds of 6 training cases.

    `draw` chooses the cases: the seed of few_label_splits.json and where the others are taken from.
    """
    protocol = json.loads((XRAYS / "few_label_splits.json").read_text())
    order = protocol["seeds"][str(draw)]["train_order"]
    unlabelled = [
        copy_pngs(XRAYS / name, names_in(XRAYS / name)[draw::step][:count], workplace.root / "png" / name)
        for name, step, count in (("unlabelled_nih", 20, 45), ("unlabelled_shenzhen", 6, 15))
    ]
    convert(workplace, "montgomery", order[:10], DATASET, *unlabelled)
    in_domain, second = protocol["in_domain_test"], names_in(XRAYS / "shenzhen" / "images")
    convert(workplace, "montgomery", in_domain[draw::4][:NUM_TESTED], TEST_SETS["montgomery"])
    convert(workplace, "shenzhen", second[draw::24][:NUM_TESTED], TEST_SETS["shenzhen"])
    training = order[:NUM_LABELLED]
    folds = [{"train": training, "val": order[6:10]}, {"train": order[2:8], "val": order[:2]}]
    (workplace.raw / DATASET / "splits_final.json").write_text(json.dumps(folds))
    return tuple(training)


def train_chain(workplace: Workplace, draw: int = 0) -> Chain:
    """Everything up to the trained fold 0."""
    training_names = make_datasets(workplace, draw)
    # nnU-Net hands nnUNet_n_proc_DA to torch as its number of threads when it plans.
    planning = ["nnUNetv2_plan_and_preprocess", "-d", 1, "-pl", "DiffusionEnsemblePlanner", "-c", "2d"]
    workplace.run(*planning, "-npfp", 1, "-np", 1, nnUNet_n_proc_DA="1")
    workplace.run("nnunet-diffusion", "plan", "-d", 1, "--plans-name", PLANS, *OPTIONS, "-np", 1)
    change_plans(workplace.plans(PLANS), PLANS, EDITED)
    workplace.train(PRETRAIN, PLANS, "all")
    workplace.train(ENSEMBLE, PLANS, 0)
    return Chain(workplace, training_names)
