"""Denoisers from elsewhere (unlabelled images, MONAI) serve a labelled data set with another number of channels."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import DiffusionModelUNet
from nnunet_commands import ENSEMBLE, FEW_SAMPLES, PRETRAIN, TINY, TINY_PLANS, Workplace, change_plans
from PIL import Image

pytestmark = pytest.mark.slow

UNLABELLED, LABELLED = "Dataset001_Unlabelled", "Dataset002_Labelled"
HEAD = ("--timesteps", 1, 50, 400, "--hidden-features", 8, "--batch-size", 2, "--epochs", 1, "--iterations", 4)
SIZE_PX = (34, 38)


def ball(seed: int) -> np.ndarray:
    random = np.random.RandomState(seed)
    middle = random.uniform(0.4, 0.6, 2) * SIZE_PX
    rows, columns = np.mgrid[: SIZE_PX[0], : SIZE_PX[1]]
    return (np.hypot(rows - middle[0], columns - middle[1]) < 9).astype(np.uint8)


def save_image(file: Path, seed: int, channels: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.RandomState(seed).normal(0, 12, (*SIZE_PX, channels))
    image = np.clip(60 + 90 * ball(seed)[..., None] + noise, 1, 255).astype(np.uint8)
    Image.fromarray(image.squeeze()).save(file)


def write_unlabelled(raw: Path) -> None:
    for i in range(8):
        save_image(raw / UNLABELLED / "imagesUn" / f"scan_{i}_0000.png", i, channels=1)
    dataset = {"channel_names": {"0": "X-ray"}, "file_ending": ".png"}  # the least there can be
    (raw / UNLABELLED / "dataset.json").write_text(json.dumps(dataset))


def write_labelled(raw: Path) -> None:
    folder = raw / LABELLED
    (folder / "labelsTr").mkdir(parents=True)
    for i in range(5):
        save_image(folder / "imagesTr" / f"case_{i}_0000.png", 50 + i, channels=3)
        Image.fromarray(ball(50 + i)).save(folder / "labelsTr" / f"case_{i}.png")
    save_image(folder / "imagesTs" / "new_0000.png", 90, channels=3)
    dataset = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "ball": 1}}
    (folder / "dataset.json").write_text(json.dumps(dataset | {"numTraining": 5, "file_ending": ".png"}))


def save_monai_denoiser(folder: Path) -> None:
    network = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": [4, 8], "num_res_blocks": 1}
    network |= {"attention_levels": [False, True], "num_head_channels": 4, "norm_num_groups": 4}
    folder.mkdir()
    torch.save(DiffusionModelUNet(**network).state_dict(), folder / "model.pt")
    (folder / "model.json").write_text(json.dumps({"network": network, "scheduler": {"num_train_timesteps": 1000}}))


class Borrowing:
    """The whole chain, run once."""

    def __init__(self, root: Path):
        self.workplace = Workplace(root, UNLABELLED, external=True)
        self.shared = root / "denoiser.pth"
        write_unlabelled(self.workplace.raw)
        write_labelled(self.workplace.raw)

    def pretrain(self) -> None:
        run, plans = self.workplace.run, ("-p", TINY_PLANS)
        run("nnunet-diffusion", "plan", "-d", 1, *plans, *TINY, "--unlabelled", "-np", 1)
        change_plans(self.workplace.plans(TINY_PLANS), TINY_PLANS, FEW_SAMPLES)
        run("nnunet-diffusion", "preprocess", "-d", 1, *plans, "-c", "2d", "-np", 1)
        run("nnUNetv2_train", 1, "2d", "all", "-tr", PRETRAIN, *plans, "-device", "cpu")
        run("nnunet-diffusion", "export", self.checkpoint, self.shared, "--half")

    def segment(self, denoiser: str, plans_name: str) -> None:
        run, plans = self.workplace.run, ("-p", plans_name)
        run("nnunet-diffusion", "plan", "-d", 2, *plans, *HEAD, "--denoiser", denoiser, "-np", 1)
        run("nnunet-diffusion", "preprocess", "-d", 2, *plans, "-c", "2d", "-np", 1)
        run("nnUNetv2_train", 2, "2d", 0, "-tr", ENSEMBLE, *plans, "-device", "cpu")

    def predict(self, plans_name: str) -> np.ndarray:
        model = ("-d", 2, "-c", "2d", "-f", 0, "-tr", ENSEMBLE, "-p", plans_name, "-device", "cpu")
        images, output = self.workplace.raw / LABELLED / "imagesTs", self.root / f"predictions_{plans_name}"
        self.workplace.run("nnUNetv2_predict", *model, "-i", images, "-o", output)
        return np.asarray(Image.open(output / "new.png"))

    @property
    def root(self) -> Path:
        return self.workplace.root

    @property
    def checkpoint(self) -> Path:
        return self.workplace.trained(PRETRAIN, TINY_PLANS) / "fold_all" / "checkpoint_final.pth"

    def plans(self, dataset: str) -> dict:
        return json.loads((self.workplace.preprocessed / dataset / f"{TINY_PLANS}.json").read_text())


@pytest.fixture(scope="module")
def borrowing(tmp_path_factory: pytest.TempPathFactory) -> Borrowing:
    chain = Borrowing(tmp_path_factory.mktemp("borrowing"))
    chain.pretrain()
    chain.segment(os.path.relpath(chain.shared, chain.root), TINY_PLANS)
    return chain


def test_topology_patch_and_process_are_those_of_the_denoiser(borrowing: Borrowing) -> None:
    theirs, ours = (borrowing.plans(dataset)["configurations"] for dataset in (UNLABELLED, LABELLED))
    assert list(ours) == ["2d"]
    for key in ("architecture", "patch_size", "normalization_schemes"):
        repeated = theirs["2d"][key] * 3 if key == "normalization_schemes" else theirs["2d"][key]
        assert ours["2d"][key] == repeated
    assert ours["2d"]["diffusion"]["pretrained_checkpoint"] == str(borrowing.shared)


def test_the_log_says_how_the_channels_were_adapted(borrowing: Borrowing) -> None:
    folder = borrowing.workplace.results / LABELLED / f"{ENSEMBLE}__{TINY_PLANS}__2d" / "fold_0"
    (log,) = folder.glob("training_log_*.txt")
    text = log.read_text()
    assert "pretrained for 4 iterations" in text
    assert "trained on images with 1 channel(s), these have 3" in text


def test_the_new_image_is_segmented_in_its_own_size(borrowing: Borrowing) -> None:
    prediction = borrowing.predict(TINY_PLANS)
    assert prediction.shape == SIZE_PX
    assert set(np.unique(prediction)) <= {0, 1}


def test_a_denoiser_of_monai_is_trained_on_and_then_its_files_are_not_needed(borrowing: Borrowing) -> None:
    folder = borrowing.root / "monai"
    save_monai_denoiser(folder)
    borrowing.segment("monai:monai", "Monai")
    shutil.rmtree(folder)
    for file in (borrowing.workplace.preprocessed / LABELLED).glob("*_denoiser.pth"):
        file.unlink()
    assert borrowing.predict("Monai").shape == SIZE_PX


def test_an_exported_denoiser_in_half_precision_is_a_small_part_of_its_checkpoint(borrowing: Borrowing) -> None:
    # The checkpoint holds averaged and trained weights and two moments of each, in float32: eight times as much.
    assert borrowing.shared.stat().st_size < borrowing.checkpoint.stat().st_size / 2
