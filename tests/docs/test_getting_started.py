"""Every command of the pages to begin with is run: short ones here, on small images, others by tests named here."""

import json
import shlex
from pathlib import Path

import in_one_process
import pytest
from documented import DOCS, commands, is_there
from png_folders import write_png_folders

from nnunet_diffusion_ensemble.cli import main

PAGES = sorted((DOCS / "getting-started").glob("*.md"))
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


def test_every_command_is_in_the_tables_and_nothing_else() -> None:
    found = {command for page in PAGES for command in commands(page)}
    assert found == {*HERE, *(command for listed in ELSEWHERE.values() for command in listed)}


@pytest.mark.parametrize("place", ELSEWHERE)
def test_a_test_that_the_table_names_is_there(place: str) -> None:
    assert is_there(place)


def test_help_of_a_command_ends_well(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["convert", "--help"])
    assert "--masks" in capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As the page on folders of PNGs begins: images, masks of some of them, the variables set."""
    in_one_process.nnunets_folders(tmp_path, monkeypatch)
    write_png_folders(tmp_path, num_labelled=5)
    return tmp_path


def run(command: str) -> None:
    """A command of ours, in one process where it would take eight."""
    words = shlex.split(command)
    in_one_process.run([*words, *(["-np", "1"] if words[1] in ("plan", "preprocess", "doctor") else [])])


@pytest.mark.slow
def test_short_commands_run_one_after_the_other(folder: Path) -> None:
    for command in HERE:
        run(command)
    dataset = folder / "nnUNet_preprocessed" / "Dataset001_Lungs"
    identifier = json.loads((dataset / "nnUNetDiffusionEnsemblePlans.json").read_text())["configurations"]["2d"]
    preprocessed = dataset / identifier["data_identifier"]
    assert {file.stem for file in preprocessed.glob("*.pkl")} == {f"case_{case}" for case in range(5)}
    assert len(list(dataset.rglob("case_[56]*.pkl"))) == 2
