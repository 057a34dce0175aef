"""What nnU-Net offers for a trained model works on ours: mirroring, folds, probabilities, sizes, zips, validation."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from nnunet_commands import ENSEMBLE, Workplace, change_plans, mean_dice
from PIL import Image
from xray_chain import DATASET, PLANS, SIZE_PX, Chain

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("registered")]

TOLERANCE = 0.01  # of a probability, for logits added up in float16


def save(pixels: np.ndarray, name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{name}_0000.png")


def probabilities(output: Path, name: str) -> np.ndarray:
    """(classes, height, width) as nnU-Net saved them."""
    return np.load(output / f"{name}.npz")["probabilities"].squeeze(1).astype(np.float64)


def mask(output: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(output / f"{name}.png"))


@pytest.fixture(scope="module")
def images(xray_chain: Chain) -> Path:
    """One test image as it is, mirrored, twice as large as the patch, and smaller than the patch."""
    file = sorted((xray_chain.test_set("montgomery") / "imagesTr").iterdir())[0]
    folder = xray_chain.workplace.root / "variants"
    pixels = np.asarray(Image.open(file))
    save(pixels, "plain", folder)
    save(pixels[:, ::-1].copy(), "mirrored", folder)
    for name, size_px in (("large", 2 * SIZE_PX), ("small", SIZE_PX // 2 + 5)):
        save(np.asarray(Image.open(file).resize((size_px, size_px - 3))), name, folder)
    return folder


@pytest.fixture(scope="module")
def predicted(xray_chain: Chain, images: Path) -> Path:
    output = xray_chain.workplace.root / "predicted_variants"
    return xray_chain.workplace.predict(PLANS, images, output, "--save_probabilities")


def test_probabilities_sum_to_one_and_the_mask_is_their_maximum(predicted):
    for name in ("plain", "mirrored", "large", "small"):
        found = probabilities(predicted, name)
        np.testing.assert_allclose(found.sum(0), 1, atol=1e-3)
        np.testing.assert_array_equal(found.argmax(0), mask(predicted, name))


def test_images_larger_and_smaller_than_the_patch_keep_their_size(predicted, images):
    for name in ("large", "small"):
        found = mask(predicted, name)
        assert found.shape == np.asarray(Image.open(images / f"{name}_0000.png")).shape
        assert set(np.unique(found)) == {0, 1}


def test_with_mirroring_the_mirrored_image_gives_the_mirrored_prediction(xray_chain, images, predicted):
    workplace = xray_chain.workplace
    without = workplace.root / "without_mirroring"
    workplace.predict(PLANS, images, without, "--disable_tta", "--save_probabilities")

    def asymmetry(output: Path) -> float:
        return np.abs(probabilities(output, "plain") - probabilities(output, "mirrored")[..., ::-1]).max()

    assert asymmetry(predicted) < TOLERANCE < asymmetry(without)


def test_the_same_image_gives_the_same_prediction_among_others_and_in_another_order(xray_chain, images, predicted):
    workplace = xray_chain.workplace
    again = workplace.root / "again"
    again.mkdir()
    for old, new in (("large", "a"), ("small", "b"), ("plain", "c")):
        shutil.copy(images / f"{old}_0000.png", again / f"{new}_0000.png")
    output = xray_chain.workplace.predict(
        PLANS, again, xray_chain.workplace.root / "predicted_again", "--save_probabilities"
    )
    for old, new in (("large", "a"), ("small", "b"), ("plain", "c")):
        np.testing.assert_array_equal(probabilities(predicted, old), probabilities(output, new))


def test_an_exported_model_predicts_the_same_where_it_is_installed(xray_chain, images, predicted, tmp_path):
    model = tmp_path / "model.zip"
    which = ["-d", 1, "-c", "2d", "-tr", ENSEMBLE, "-p", PLANS, "-f", 0]
    xray_chain.workplace.run("nnUNetv2_export_model_to_zip", *which, "-o", model)
    elsewhere = Workplace(tmp_path / "elsewhere", DATASET)
    elsewhere.run("nnUNetv2_install_pretrained_model_from_zip", model)
    assert [folder.name for folder in (elsewhere.results / DATASET).iterdir()] == [f"{ENSEMBLE}__{PLANS}__2d"]
    (elsewhere.raw / DATASET).mkdir()  # nnU-Net finds the name of data set 1 in any of its folders
    output = elsewhere.predict(PLANS, images, tmp_path / "predicted", "--save_probabilities")
    for name in ("plain", "large"):
        np.testing.assert_array_equal(probabilities(predicted, name), probabilities(output, name))


def test_validation_is_run_again_without_training(xray_chain):
    folder = xray_chain.workplace.trained(ENSEMBLE, PLANS) / "fold_0"
    summary = folder / "validation" / "summary.json"
    before = mean_dice(summary)
    checkpoint = (folder / "checkpoint_final.pth").stat().st_mtime_ns
    shutil.rmtree(summary.parent)
    xray_chain.workplace.train(ENSEMBLE, PLANS, 0, "--val")
    assert mean_dice(summary) == pytest.approx(before, abs=1e-6)
    assert (folder / "checkpoint_final.pth").stat().st_mtime_ns == checkpoint


def test_several_folds_predict_with_the_mean_of_their_logits(xray_chain, images, predicted):
    """Softmax of a mean of logits is the geometric mean of probabilities, divided by its sum."""
    workplace, plans = xray_chain.workplace, xray_chain.workplace.plans(PLANS)
    before = plans.read_text()
    change_plans(plans, PLANS, {"training.num_epochs": 1, "training.num_iterations_per_epoch": 20})
    workplace.train(ENSEMBLE, PLANS, 1)
    plans.write_text(before)
    second = workplace.predict(PLANS, images, workplace.root / "second", "--save_probabilities", folds=1)
    both = workplace.predict(PLANS, images, workplace.root / "both", "--save_probabilities", folds="0 1")
    for name in ("plain", "large"):
        mean = np.sqrt(probabilities(predicted, name) * probabilities(second, name))
        np.testing.assert_allclose(probabilities(both, name), mean / mean.sum(0), atol=TOLERANCE)
