"""The main job with nnU-Net's own commands: from PNG folders to predictions on the second hospital."""

import json

import numpy as np
import pytest
from nnunet_commands import ENSEMBLE, PRETRAIN
from xray_chain import NUM_LABELLED, NUM_TESTED, PLANNED, PLANS, SIZE_PX, Chain, names_in, read_mask

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("registered")]

MARGIN = 0.05  # of Dice, over the better of the trivial predictors


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())


def trivial_dice(chain: Chain, hospital: str) -> dict[str, float]:
    """Mean Dice of the predictors that look at no image: lung everywhere, and where most training masks have it."""
    training = [read_mask(chain.raw / "labelsTr" / f"{name}.png") for name in chain.training_names]
    mean_shape = np.mean(training, axis=0) >= 0.5
    predictors = {"all lung": np.ones_like(mean_shape), "mean shape": mean_shape}
    truths = [read_mask(file) for file in sorted((chain.test_set(hospital) / "labelsTr").iterdir())]
    return {name: float(np.mean([dice(guess, truth) for truth in truths])) for name, guess in predictors.items()}


@pytest.fixture(scope="module")
def scores(xray_chain) -> dict[str, float]:
    """Mean Dice of both hospitals' test cases."""
    found = {}
    for hospital in ("montgomery", "shenzhen"):
        test_set = xray_chain.test_set(hospital)
        output = xray_chain.workplace.root / "predicted" / hospital
        xray_chain.workplace.predict(PLANS, test_set / "imagesTr", output)
        assert names_in(test_set / "labelsTr") == sorted(file.stem for file in output.glob("*.png"))
        found[hospital] = xray_chain.workplace.mean_dice(test_set / "labelsTr", output)
    return found


def test_convert_made_the_data_set_of_the_folders(xray_chain):
    description = json.loads((xray_chain.raw / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "lung": 1}
    counts = [len(names_in(xray_chain.raw / folder)) for folder in ("imagesTr", "labelsTr", "imagesUn")]
    assert counts == [10, 10, 60]
    assert read_mask(next((xray_chain.raw / "labelsTr").iterdir())).shape == (SIZE_PX, SIZE_PX)


def test_stock_planning_writes_the_method_into_the_plans(xray_chain):
    plans = json.loads(xray_chain.workplace.plans(PLANNED).read_text())
    settings = plans["configurations"]["2d"]["diffusion"]
    assert settings["ensemble"]["averaging"] == "softmax"
    assert plans["configurations"]["2d"]["architecture"]["network_class_name"].endswith("ResidualEncoderUNet")


def test_pretraining_shows_what_it_learnt(xray_chain):
    folder = xray_chain.workplace.trained(PRETRAIN, PLANS) / "fold_all"
    assert (folder / "progress.png").is_file()
    assert sorted(file.name for file in folder.glob("samples_epoch_*.png")) == [
        "samples_epoch_2.png",
        "samples_epoch_4.png",
    ]
    assert (xray_chain.workplace.trained(ENSEMBLE, PLANS) / "fold_0" / "progress.png").is_file()


def test_pretraining_used_labelled_and_unlabelled_images(xray_chain):
    log = next((xray_chain.workplace.trained(PRETRAIN, PLANS) / "fold_all").glob("training_log*")).read_text()
    # 10 labelled and 60 unlabelled images, 5% of them (rounded: 4) held out.
    assert "Pretraining on 66 images, 4 held out (60 unlabelled among them)" in log


def test_in_the_source_hospital_the_ensemble_beats_the_trivial_predictors_clearly(xray_chain, scores):
    trivial = trivial_dice(xray_chain, "montgomery")
    print(f"\nDice on {NUM_TESTED} cases of the source hospital: {scores['montgomery']:.3f}, trivial: {trivial}")
    assert len(xray_chain.training_names) == NUM_LABELLED
    assert scores["montgomery"] > max(trivial.values()) + MARGIN


def test_in_the_second_hospital_the_ensemble_beats_the_trivial_predictors(xray_chain, scores):
    trivial = trivial_dice(xray_chain, "shenzhen")
    print(f"\nDice on {NUM_TESTED} cases of the second hospital: {scores['shenzhen']:.3f}, trivial: {trivial}")
    assert scores["shenzhen"] > max(trivial.values())
