"""The demo in tiny: killed in its pretraining, started again, its results and models; and without pretraining."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

TINY = """
import sys
from pathlib import Path
from nnunet_diffusion_ensemble.demo.run import run_demo
from nnunet_diffusion_ensemble.demo.steps import DemoOptions
sizes = dict(pretrain=True, base_features=4, pretraining_epochs=7, pretraining_iterations=10, pretraining_batch_size=4)
sizes |= dict(minutes=0.01, iterations=5, unlabelled_images=12, cases_per_hospital=3)
sys.exit(run_demo(Path(sys.argv[1]), DemoOptions(**sizes)))
"""
# It trains as long on a busy machine as on another.
STEADY = """
from nnunet_diffusion_ensemble.study import timed_training
timed_training.measure_iteration = lambda *_: 0.12  # seconds
"""
WITHOUT_PRETRAINING = STEADY + TINY.replace("pretrain=True", "pretrain=False").replace("minutes=0.01", "minutes=0.2")
MODELS = ("DiffusionEnsembleTrainer", "nnUNetTrainer")
EXPORT = "from nnunetv2.model_sharing.entry_points import export_pretrained_model_entry as export; export()"
TIMEOUT_SECONDS = 900


def start(folder: Path, script: str = TINY, **variables: str) -> subprocess.Popen:
    # Without the user's variables: the demo needs none.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet")}
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(
        command, env=environment | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo's folder, and what it showed when it was started again after a kill."""
    folder = tmp_path_factory.mktemp("demo") / "folder"
    first = start(folder)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not list(folder.glob("nnUNet_results/*/*/fold_all/checkpoint_latest.pth")) and time.monotonic() < deadline:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(2)  # its command sees that and ends, too
    second = start(folder)
    output = second.communicate(timeout=TIMEOUT_SECONDS)[0]
    assert second.returncode == 0, output
    return folder, output


def test_steps_that_were_done_before_the_kill_are_not_done_again(shown: tuple[Path, str]) -> None:
    lines = shown[1].splitlines()
    assert sum(line.endswith("done before") for line in lines) == 3
    assert any(
        line.endswith("-tr DiffusionPretrainTrainer -p nnUNetDiffusionEnsemblePlans -device cpu --c") for line in lines
    )


def test_pretraining_went_on_where_it_was_killed(shown: tuple[Path, str]) -> None:
    logs = shown[0].glob("nnUNet_results/*/DiffusionPretrainTrainer__*/fold_all/training_log_*.txt")
    epochs = [[line.split()[-1] for line in log.read_text().splitlines() if ": Epoch " in line] for log in sorted(logs)]
    numbers = [[int(text) for text in one if text.isdigit()] for one in epochs]
    assert numbers[0][0] == 0
    assert numbers[-1][0] >= 5
    assert numbers[-1][-1] == 6


def test_results_of_both_models_on_both_hospitals_are_written_and_shown(shown: tuple[Path, str]) -> None:
    folder, output = shown
    summary = json.loads((folder / "summary.json").read_text())
    for hospital, one in summary.items():
        assert list(one["dice"]) == [*MODELS, "mean shape"]
        for name, dice in one["dice"].items():
            assert len(dice) == 3
            assert one["mean_dice"][name] == pytest.approx(np.mean(list(dice.values())))
        row = " ".join(f"{mean:.3f}" for mean in one["mean_dice"].values())
        assert any(line.startswith(hospital) and " ".join(line.split()).endswith(row) for line in output.splitlines())


def test_it_ends_with_the_report(shown: tuple[Path, str]) -> None:
    folder, output = shown
    assert "benchmark/report/report.html" in output
    page = (folder / "benchmark/report/report.html").read_text()
    assert all(name in page for name in (*MODELS, "Montgomery, held out", "Shenzhen, another hospital"))


def test_nothing_is_written_outside_its_folder(shown: tuple[Path, str]) -> None:
    others = [path.name for path in shown[0].parent.iterdir() if path != shown[0]]
    assert [name for name in others if not name.endswith(".lock")] == []


@pytest.mark.parametrize("trainer", MODELS)
def test_nnunet_exports_what_it_trained(shown: tuple[Path, str], trainer: str, tmp_path: Path) -> None:
    variables = {f"nnUNet_{name}": str(shown[0] / f"nnUNet_{name}") for name in ("raw", "preprocessed", "results")}
    options = ["-d", "1", "-c", "2d", "-f", "0", "-tr", trainer, "-p", "nnUNetDiffusionEnsemblePlans"]
    command = [sys.executable, "-c", EXPORT, *options, "-o", str(tmp_path / "model.zip")]
    subprocess.run(command, env={**os.environ, **variables}, check=True, timeout=TIMEOUT_SECONDS)
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
    assert {"dataset.json", "plans.json", "checkpoint_final.pth", "summary.json"} <= names


def test_with_the_denoiser_that_ships_few_iterations_beat_the_mean_shape(tmp_path: Path) -> None:
    process = start(tmp_path / "folder", WITHOUT_PRETRAINING, PYTHONPATH=str(Path(__file__).parent))
    output = process.communicate(timeout=TIMEOUT_SECONDS)[0]
    assert process.returncode == 0, output
    summary = json.loads((tmp_path / "folder" / "summary.json").read_text())
    for one in summary.values():
        assert one["mean_dice"]["DiffusionEnsembleTrainer"] > one["mean_dice"]["mean shape"] + 0.05
