"""What users made before the package got its folders: it loads, continues, and predicts the same as then."""

import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from stock_prediction import stock

from nnunet_diffusion_ensemble.denoiser.pretrained import read_pretrained
from nnunet_diffusion_ensemble.denoiser.sampling import ddim_sample
from nnunet_diffusion_ensemble.prediction.predict import predict
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

MADE = Path(__file__).resolve().parent / "data" / "before_move"
TOLERANCE = 1e-4


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A copy of the files with the checkpoints unpacked."""
    folder = Path(shutil.copytree(MADE, tmp_path / "before_move"))
    for packed in folder.rglob("*.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
    return folder


@pytest.mark.parametrize("name", ["pretraining/checkpoint_final.pth", "exported/half.pth"])
def test_a_denoiser_draws_the_same_images(name: str, before: Path) -> None:
    expected = np.load((before / name).with_name("samples.npz"))["samples"]
    samples = ddim_sample(read_pretrained(before / name).module(), 2, (16, 16), 10, seed=0)
    assert expected.std() > 0.5
    np.testing.assert_allclose(samples.numpy(), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("trainer_class", "folder", "epochs"),
    [(DiffusionPretrainTrainer, "pretraining", 3), (DiffusionEnsembleTrainer, "model/fold_0", 2)],
)
def test_a_training_continues_with_its_weights_and_optimizer(
    trainer_class: type, folder: str, epochs: int, before: Path, make_trainer: Callable
) -> None:
    file = before / folder / "checkpoint_final.pth"
    saved = torch.load(file, weights_only=False)
    make_trainer(trainer_class)  # for nnU-Net's folders
    arguments = saved["init_args"] | {"device": torch.device("cpu")}
    arguments["plans"] = arguments["plans"] | {"continue_training": False}  # as nnU-Net's command adds it
    trainer = trainer_class(**arguments)
    trainer.load_checkpoint(str(file))
    assert trainer.current_epoch == epochs
    expected = saved.get("trained_weights", saved["network_weights"])
    loaded = trainer.network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())
    states = trainer.optimizer.state_dict()["state"]
    for number, state in saved["optimizer_state"]["state"].items():
        assert torch.equal(states[number]["exp_avg"], state["exp_avg"])


def read(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def test_nnunet_predicts_the_same(before: Path, tmp_path: Path) -> None:
    expected = np.load(before / "model" / "expected.npz")
    output = stock(before / "image", tmp_path / "stock", before / "model")
    assert np.array_equal(read(output / "False" / "case.nii.gz"), expected["segmentation"])
    probabilities = np.load(output / "True" / "case.npz")["probabilities"]
    np.testing.assert_allclose(probabilities, expected["probabilities"], rtol=0, atol=TOLERANCE)


def test_our_command_predicts_the_same(before: Path, tmp_path: Path) -> None:
    expected = np.load(before / "model" / "expected.npz")
    list(predict(before / "image", tmp_path / "ours", before / "model", PredictionSettings(folds=(0,), device="cpu")))
    assert np.array_equal(read(tmp_path / "ours" / "case.nii.gz"), expected["segmentation"])
    of_organ = read(tmp_path / "ours" / "probability" / "1_organ" / "case.nii.gz")
    np.testing.assert_allclose(of_organ, expected["probabilities"][1], rtol=0, atol=TOLERANCE)
