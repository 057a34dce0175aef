"""Every command of the pages to begin with is run: short ones here, on small images, others by tests named here."""

import json
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from documented import DOCS, OURS, REPOSITORY, STOCK, shell_commands
from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor
from nnunetv2.preprocessing.preprocessors import default_preprocessor
from nnunetv2.utilities import utils
from PIL import Image

from nnunet_diffusion_ensemble.cli import main
from nnunet_diffusion_ensemble.data import unlabelled

PAGES = sorted((DOCS / "getting-started").glob("*.md"))
IN_LINE = re.compile(rf"`({OURS} [^`]*)`")
PLANS = "-p nnUNetDiffusionEnsemblePlans"
PRETRAINED, TRAINED = f"-tr DiffusionPretrainTrainer {PLANS}", f"-tr DiffusionEnsembleTrainer {PLANS}"
HERE = (
    "nnunet-diffusion convert Dataset001_Lungs --images images --masks masks --labels lung=255 --unlabelled unlabelled",
    "nnunet-diffusion doctor -d 1",
    "nnunet-diffusion plan -d 1 --pretraining-max-hours 8",
    "nnunet-diffusion plan -d 1 --denoiser chest-xray-64",
    "nnunet-diffusion plan -d 1",
    "nnunet-diffusion preprocess -d 1 -c 2d",
)
ELSEWHERE = {
    "tests/docs/test_getting_started.py::test_help_of_a_command_ends_well": ("nnunet-diffusion convert --help",),
    "tests/nnunet/test_register.py::test_run_says_what_was_written_what_state_it_is_in_and_what_was_removed": (
        "nnunet-diffusion register",
    ),
    "tests/doctor/test_doctor.py::test_the_machine_is_looked_at_without_a_data_set": ("nnunet-diffusion doctor",),
    "tests/slow/test_demo.py::test_with_the_denoiser_that_ships_few_iterations_beat_the_mean_shape": (
        "nnunet-diffusion demo",
        "nnunet-diffusion demo --quick",
    ),
    "tests/slow/test_demo.py::test_pretraining_went_on_where_it_was_killed": ("nnunet-diffusion demo --pretrain",),
    "tests/slow/test_demo.py::test_nnunet_exports_what_it_trained": (
        f"nnUNetv2_export_model_to_zip -d 1 -c 2d -f 0 {TRAINED} -o lungs.zip",
    ),
    "tests/slow/test_app_in_browser.py::test_an_xray_is_looked_at": (
        "nnunet-diffusion app -m nnUNet_results/Dataset001_Lungs/"
        "DiffusionEnsembleTrainer__nnUNetDiffusionEnsemblePlans__2d",
    ),
    "tests/slow/xray_chain.py::train_chain": (
        "nnUNetv2_plan_and_preprocess -d 1 -pl DiffusionEnsemblePlanner -c 2d",
        f"nnUNetv2_train 1 2d all {PRETRAINED}",
        f"nnUNetv2_train 1 2d 0 {TRAINED}",
    ),
    "tests/slow/test_hippocampus.py::chain": (
        "nnunet-diffusion preprocess -d 1 -c 3d_fullres",
        f"nnUNetv2_train 1 3d_fullres all {PRETRAINED}",
        f"nnUNetv2_train 1 3d_fullres 0 {TRAINED}",
        f"nnUNetv2_predict -d 1 -c 3d_fullres -f 0 {TRAINED} -i new_volumes -o predictions",
    ),
    "tests/slow/test_predict_commands.py::test_both_commands_write_the_same_segmentations": (
        "nnunet-diffusion predict -d 1 -c 2d -f 0 -i new_images -o predictions",
    ),
}


def commands(page: Path) -> Iterator[str]:
    """Of ours and of nnU-Net's: in blocks, and in lines, where a name without an argument is just a name."""
    in_lines = (shlex.split(text) for text in IN_LINE.findall(page.read_text()))
    for words in [*shell_commands(page), *(words for words in in_lines if len(words) > 2)]:
        if words[0].startswith((OURS, STOCK)):
            yield " ".join(words)


def test_every_command_is_in_the_tables_and_nothing_else() -> None:
    found = {command for page in PAGES for command in commands(page)}
    assert found == {*HERE, *(command for listed in ELSEWHERE.values() for command in listed)}


@pytest.mark.parametrize("place", ELSEWHERE)
def test_a_test_that_the_table_names_is_there(place: str) -> None:
    file, name = place.split("::")
    assert re.search(rf"^def {name}\(", (REPOSITORY / file).read_text(), re.MULTILINE)


def test_help_of_a_command_ends_well(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["convert", "--help"])
    assert "--masks" in capsys.readouterr().out


def write_png(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(file)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As the page on folders of PNGs begins: images, masks of some of them, the variables set; workers are threads."""
    random = np.random.default_rng(0)
    for case in range(7):
        mask = np.zeros((64, 64))
        mask[8 + case : 40, 10 : 50 - case] = 255
        write_png(
            tmp_path / ("images" if case < 5 else "unlabelled") / f"case_{case}.png",
            mask / 2 + random.integers(0, 90, mask.shape),
        )
        if case < 5:
            write_png(tmp_path / "masks" / f"case_{case}.png", mask)
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / f"nnUNet_{name}"))
        (tmp_path / f"nnUNet_{name}").mkdir()
    monkeypatch.chdir(tmp_path)
    in_threads = SimpleNamespace(get_context=lambda _: SimpleNamespace(Pool=ThreadPool))
    for module in (fingerprint_extractor, default_preprocessor):
        monkeypatch.setattr(module, "multiprocessing", in_threads)
    monkeypatch.setattr(utils, "Pool", ThreadPool)  # nnU-Net lists files in 12 processes
    monkeypatch.setattr(
        unlabelled, "ProcessPoolExecutor", lambda number, *context, **options: ThreadPoolExecutor(number)
    )
    return tmp_path


def run(command: str) -> None:
    """A command of ours, in one process where it would take eight."""
    _, name, *words = shlex.split(command)
    options = ["-np", "1"] if name in ("plan", "preprocess", "doctor") else []
    status = main([name, *words, *options])
    assert status == 0, command


@pytest.mark.slow
def test_short_commands_run_one_after_the_other(folder: Path) -> None:
    for command in HERE:
        run(command)
    dataset = folder / "nnUNet_preprocessed" / "Dataset001_Lungs"
    identifier = json.loads((dataset / "nnUNetDiffusionEnsemblePlans.json").read_text())["configurations"]["2d"]
    preprocessed = dataset / identifier["data_identifier"]
    assert {file.stem for file in preprocessed.glob("*.pkl")} == {f"case_{case}" for case in range(5)}
    assert len(list(dataset.rglob("case_[56]*.pkl"))) == 2
