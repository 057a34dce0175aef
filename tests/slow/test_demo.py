"""The demo in tiny: killed in the middle of its pretraining, started again, its results; and without pretraining."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

TINY = """
import sys
from pathlib import Path
from nnunet_diffusion_ensemble.demo.steps import DemoOptions, run_demo
sizes = dict(pretrain=True, base_features=4, pretraining_epochs=7, pretraining_iterations=10, pretraining_batch_size=4)
sizes |= dict(epochs=1, iterations=10, unlabelled_images=12, cases_per_hospital=3)
sys.exit(run_demo(Path(sys.argv[1]), DemoOptions(**sizes)))
"""
WITHOUT_PRETRAINING = TINY.replace("pretrain=True", "pretrain=False").replace("iterations=10, un", "iterations=100, un")
TIMEOUT_SECONDS = 900


def start(folder: Path, script: str = TINY) -> subprocess.Popen:
    # Without the user's variables: the demo needs none.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet")}
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


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


def test_results_of_both_hospitals_are_written_and_shown(shown: tuple[Path, str]) -> None:
    folder, output = shown
    summary = json.loads((folder / "summary.json").read_text())
    assert [len(one["dice"]) for one in summary.values()] == [3, 3]
    for hospital, one in summary.items():
        assert one["mean_dice"] == pytest.approx(np.mean(list(one["dice"].values())))
        assert any(line.startswith(hospital) and f"{one['mean_dice']:.3f}" in line for line in output.splitlines())
    assert Image.open(folder / "overlay.png").size[0] > 500


def test_with_the_denoiser_that_ships_few_iterations_beat_the_mean_shape(tmp_path: Path) -> None:
    process = start(tmp_path / "folder", WITHOUT_PRETRAINING)
    output = process.communicate(timeout=TIMEOUT_SECONDS)[0]
    assert process.returncode == 0, output
    summary = json.loads((tmp_path / "folder" / "summary.json").read_text())
    for one in summary.values():
        assert one["mean_dice"] > one["mean_dice_of_mean_shape"] + 0.05
