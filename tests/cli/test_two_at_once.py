"""Two commands with one output: the second says who is at work, writes nothing and ends with status 2."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from other_process import holding
from PIL import Image
from planning_data import make_dataset as make_raw_dataset
from report_data import Made, make_results
from unlabelled_data import GREY_JSON, GREY_PLANS, NAME, make_dataset

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.method import PLANS_KEY, DiffusionMethod
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

SHIPPED = "chest-xray-64"
Place = tuple[str, Path, list[object]]  # how and where the other works, and the command


def files_in(folder: Path) -> dict[str, bytes]:
    """Without the lock of the other process."""
    found = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".lock"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


def converting(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    pictures, raw = tmp_path / "pictures", tmp_path / "raw"
    pictures.mkdir()
    raw.mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(pictures / "a.png")
    request.getfixturevalue("monkeypatch").setenv("nnUNet_raw", str(raw))
    return "at", raw / "Dataset001_Lungs", ["convert", "Dataset001_Lungs", "--unlabelled", pictures]


def demonstrating(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return "at", tmp_path / "demo", ["demo", tmp_path / "demo"]


def planning(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    name = make_raw_dataset(
        tmp_path, request.getfixturevalue("monkeypatch"), {"0": "MRI"}, (4, 32, 32), (1.0, 1.0, 1.0)
    )
    return "at", tmp_path / "preprocessed" / name / "dataset_fingerprint.json", ["plan", "-d", 1, "-np", 1]


def preprocessing(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    plans = copy.deepcopy(GREY_PLANS)
    plans["configurations"]["2d"][PLANS_KEY] = DiffusionMethod().to_plans()
    make_dataset(tmp_path, request.getfixturevalue("monkeypatch"), plans, GREY_JSON)
    command = ["preprocess", "-d", 1, "-c", "2d", "-p", "Plans", "-np", 1]
    return "at", tmp_path / "nnUNet_preprocessed" / NAME / "Plans_2d", command


def predicting(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    model = request.getfixturevalue("model_folder")()
    images = request.getfixturevalue("images")(num_cases=1)
    options = ["-m", model, "-f", 0, "-device", "cpu"]
    return "in", tmp_path / "out", ["predict", "-i", images, "-o", tmp_path / "out", *options]


def sampling(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    options = ["--num-images", 1, "--steps", 1, "--size", 64, 64]
    return "at", tmp_path / "samples.png", ["sample", SHIPPED, tmp_path / "samples.png", *options]


def exporting(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return "at", tmp_path / "mine.pth", ["export", SHIPPED, tmp_path / "mine.pth"]


def reporting(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    request.getfixturevalue("monkeypatch").setattr(Figure, "savefig", lambda *_, **__: None)  # most of the time
    make_results(tmp_path / "results", Made(num_cases=2, seeds=(0,), labelled_cases=(6,), has_images=False))
    return "in", tmp_path / "results" / "report", ["report", tmp_path / "results"]


KINDS = (converting, demonstrating, planning, preprocessing, predicting, sampling, exporting, reporting)


@pytest.mark.parametrize("prepare", KINDS, ids=lambda prepare: prepare.__name__)
def test_the_second_command_says_who_is_at_work_and_writes_nothing(
    prepare: Callable[..., Place], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    how, place, command = prepare(request, tmp_path)
    with holding(how, place) as other:
        before = files_in(tmp_path)
        assert main(list(map(str, command))) == 2
        assert files_in(tmp_path) == before
    told = capsys.readouterr().err
    assert f"{place} is being written by another process: process {other.pid} on " in told
    assert "Traceback" not in told


@pytest.mark.parametrize("trainer_class", [DiffusionPretrainTrainer, DiffusionEnsembleTrainer])
@pytest.mark.parametrize("step", ["run_training", "perform_actual_validation"])
def test_a_second_training_of_a_fold_ends_before_it_touches_the_first_ones_checkpoint(
    trainer_class: type, step: str, make_trainer: Callable, capsys: pytest.CaptureFixture
) -> None:
    trainer = make_trainer(trainer_class)
    folder = Path(trainer.output_folder)
    (folder / "checkpoint_latest.pth").write_bytes(b"of the first")
    with holding("in", folder) as other, pytest.raises(SystemExit) as end:
        getattr(trainer, step)()
    assert end.value.code == 2
    assert f"process {other.pid} on " in capsys.readouterr().out
    assert (folder / "checkpoint_latest.pth").read_bytes() == b"of the first"


def test_only_the_first_of_several_processes_asks_for_the_fold(make_trainer: Callable) -> None:
    trainer = make_trainer(DiffusionEnsembleTrainer)
    trainer.local_rank = 1
    with holding("in", Path(trainer.output_folder)), trainer.alone():
        pass


def test_of_two_conversions_begun_at_once_one_is_written_whole_and_the_other_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "raw").mkdir()
    for i in range(40):
        Image.fromarray(np.full((60, 60), i, np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    command = ["convert", "Dataset001_Lungs", "--unlabelled", str(tmp_path / "pictures"), "--resize", "300", "300"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "nnunet_diffusion_ensemble.cli", *command],
            env={"nnUNet_raw": str(tmp_path / "raw"), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=60) for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], printed
    told = next(errors for process, (_, errors) in zip(processes, printed, strict=True) if process.returncode)
    assert "is being written by another process" in told or "already holds files" in told
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["Dataset001_Lungs"]
    assert len(list((tmp_path / "raw" / "Dataset001_Lungs" / "imagesUn").iterdir())) == 40
