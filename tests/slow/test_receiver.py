"""People who have our wheel, nnU-Net and none of our folders or variables: a zipped model, and the container."""

import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from distributions import PACKAGE, Distributions, Receiver, build_wheel
from dockerfiles import instructions, is_in_context
from nnunet_commands import ENSEMBLE, Workplace
from PIL import Image
from projects import REPOSITORY, repository_files

from nnunet_diffusion_ensemble.nnunet.register import EXTERNAL_VARIABLE
from nnunet_diffusion_ensemble.prediction.predict import predict
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings

pytestmark = pytest.mark.slow

DATASET, PLANS = "Dataset001_Squares", "nnUNetDiffusionEnsemblePlans"
WHICH = ["-d", 1, "-c", "2d", "-f", 0, "-tr", ENSEMBLE, "-p", PLANS]
SCRIPT = REPOSITORY / "docker" / "predict.sh"


@pytest.fixture(scope="module")
def receiver(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Receiver:
    receiver = Receiver(tmp_path_factory.mktemp("receiver"))
    receiver.install(distributions.wheel)
    return receiver


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (2, 22, 19), np.uint8)
    for name, one in zip("ab", pixels, strict=True):
        Image.fromarray(one).save(folder / f"{name}_0000.png")
    return folder


@pytest.fixture
def sender(model_folder: Callable, tmp_path: Path) -> Workplace:
    """Has the results folder of a tiny model for PNGs, with what nnU-Net's training leaves beside it."""
    workplace = Workplace(tmp_path / "sender", DATASET, external=True)
    made = model_folder(reader="NaturalImage2DIO", file_ending=".png")
    folder = workplace.trained(ENSEMBLE, PLANS)
    shutil.copytree(made, folder)
    (folder / "fold_0" / "validation").mkdir()
    for file in ("validation/summary.json", "progress.png"):
        (folder / "fold_0" / file).touch()
    (folder / "dataset_fingerprint.json").write_text("{}")
    return workplace


@pytest.fixture
def expected(sender: Workplace, images: Path, tmp_path: Path) -> dict[str, np.ndarray]:
    """The masks that the sender has."""
    settings = PredictionSettings(folds=(0,), device="cpu")
    list(predict(images, tmp_path / "expected", sender.trained(ENSEMBLE, PLANS), settings))
    return masks(tmp_path / "expected")


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def assert_same(found: Path, expected: dict[str, np.ndarray]) -> None:
    assert all(len(np.unique(mask)) > 1 for mask in expected.values())
    np.testing.assert_equal(masks(found), expected)


def offline() -> list[str]:
    """What goes before a command that shall have no network, where the system lets us."""
    without = ["unshare", "--net"]
    allowed = shutil.which("unshare") and subprocess.run([*without, "true"], capture_output=True).returncode == 0
    return without if allowed else []


def test_our_package_is_the_one_that_was_installed(receiver: Receiver) -> None:
    where = receiver.run("python", "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)").strip()
    assert Path(where).is_relative_to(receiver.root)


def test_a_zipped_model_predicts_the_same_where_only_our_package_and_nnunet_are(
    sender: Workplace, receiver: Receiver, images: Path, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    sender.run("nnUNetv2_export_model_to_zip", *WHICH, "-o", tmp_path / "model.zip")
    shutil.rmtree(sender.root)
    receiver.run("nnUNetv2_install_pretrained_model_from_zip", tmp_path / "model.zip")
    where = ["-i", images, "-device", "cpu", "-o"]
    receiver.run("nnunet-diffusion", "predict", *WHICH, *where, tmp_path / "ours")
    assert_same(tmp_path / "ours", expected)
    variables = {EXTERNAL_VARIABLE: str(receiver.external_folder), "nnUNet_npp": "0", "nnUNet_nps": "0"}
    receiver.run("nnUNetv2_predict", *WHICH, *where, tmp_path / "stock", **variables)
    assert_same(tmp_path / "stock", expected)


def test_the_container_writes_masks_without_a_network(
    sender: Workplace, receiver: Receiver, images: Path, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "output").mkdir()
    folders = {"INPUT": images, "OUTPUT": tmp_path / "output", "MODEL": sender.trained(ENSEMBLE, PLANS)}
    receiver.run(*offline(), SCRIPT, **{name: str(folder) for name, folder in folders.items()})
    assert_same(tmp_path / "output", expected)
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == sorted(expected)


def test_the_build_context_of_the_container_makes_the_same_wheel(distributions: Distributions, tmp_path: Path) -> None:
    sources = tmp_path / "source"
    for line in (rest for keyword, rest in instructions() if keyword == "COPY" and "/source" in rest):
        for name in line.split()[:-1]:
            for path in repository_files():
                if (path == name or path.startswith(f"{name}/")) and is_in_context(path):
                    (sources / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(REPOSITORY / path, sources / path)
    with zipfile.ZipFile(build_wheel(sources, tmp_path / "wheels")) as wheel:
        assert set(wheel.namelist()) == distributions.files_of_wheel()
