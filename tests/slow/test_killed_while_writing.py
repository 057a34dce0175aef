"""Processes that are killed (`kill -9`) while they write, or two at once: nothing is lost but what was not finished.

Run as a script, this file is `nnUNetv2_train` with a disk that is slow in the middle of every checkpoint.
"""

import io
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from nnunet_commands import ENSEMBLE, PRETRAIN, Workplace, change_plans, training, write_rectangles
from PIL import Image
from test_two_processes import CASES, OPTIONS, PLANS

from nnunet_diffusion_ensemble.data.preprocessing_job import unlabelled_folder

pytestmark = pytest.mark.slow

NUM_UNLABELLED = 80
NUM_EPOCHS, NUM_ITERATIONS = 3, 4
SHORT = {
    **{f"{part}.num_epochs": NUM_EPOCHS for part in ("pretraining", "training")},
    "pretraining.num_samples": 2,
    "pretraining.num_sampling_steps": 2,
    "pretraining.save_samples_every": NUM_EPOCHS,
}


SLOW_SECONDS = 3
HOLD = Path("hold")  # in the commands' folder; while it is there, no checkpoint is finished


def save_slowly(checkpoint: dict, file: Path) -> None:
    """Half of the file, a while, the other half."""
    torch_save(checkpoint, buffer := io.BytesIO())
    content = buffer.getvalue()
    with Path(file).open("wb") as stream:
        stream.write(content[: len(content) // 2])
        stream.flush()
        time.sleep(SLOW_SECONDS)
        while HOLD.exists():
            time.sleep(0.01)
        stream.write(content[len(content) // 2 :])


if __name__ == "__main__":
    from nnunetv2.run.run_training import run_training_entry

    sys.argv[0] = "nnUNetv2_train"
    torch_save, torch.save = torch.save, save_slowly  # type: ignore[assignment]
    run_training_entry()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """With plans and many unlabelled images of noise, in which preprocessing has something to do."""
    made = Workplace(tmp_path_factory.mktemp("killed"), "Dataset001_Rectangles", external=True)
    write_rectangles(made.raw / made.dataset, CASES)
    random = np.random.RandomState(0)
    for i in range(NUM_UNLABELLED - len(list((made.raw / made.dataset / "imagesUn").iterdir()))):
        image = random.randint(0, 255, (300, 300)).astype(np.uint8)
        Image.fromarray(image).save(made.raw / made.dataset / "imagesUn" / f"noise_{i:03d}_0000.png")
    made.run("nnunet-diffusion", "plan", "-d", 1, "--plans-name", PLANS, *OPTIONS, "-np", 1)
    change_plans(made.plans(PLANS), PLANS, SHORT)
    return made


def write_times(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.pkl")}


def test_preprocessing_killed_while_it_writes_continues_where_it_stopped(workplace: Workplace) -> None:
    identifier = json.loads(workplace.plans(PLANS).read_text())["configurations"]["2d"]["data_identifier"]
    folder = unlabelled_folder(workplace.preprocessed / workplace.dataset, identifier)
    command = ["nnunet-diffusion", "preprocess", "-d", 1, "-p", PLANS, "-c", "2d", "-np", 1]
    workplace.kill_when(lambda: len(list(folder.glob("*.pkl"))) >= 5, *command)
    before = write_times(folder)
    assert 5 <= len(before) < NUM_UNLABELLED
    workplace.run(*command)
    after = write_times(folder)
    assert len(after) == NUM_UNLABELLED
    assert len(list(folder.iterdir())) == 3 * NUM_UNLABELLED  # each with its image and mask, and nothing else
    # A case whose last file was moved when the kill came is the only one that may be done again.
    assert sum(after[name] != changed for name, changed in before.items()) <= 1


@pytest.mark.parametrize(("trainer", "fold"), [(PRETRAIN, "all"), (ENSEMBLE, 0)])
def test_a_training_killed_while_it_writes_a_checkpoint_continues_from_the_one_before(
    workplace: Workplace, trainer: str, fold: object
) -> None:
    folder = workplace.trained(trainer, PLANS) / f"fold_{fold}"

    def is_writing_another() -> bool:
        return (folder / "checkpoint_best.pth").is_file() and any(folder.glob("*.pth.partial"))

    workplace.kill_when(is_writing_another, "python", __file__, *training(trainer, PLANS, fold)[1:])
    saved = torch.load(folder / "checkpoint_best.pth", weights_only=False)
    (partial,) = folder.glob("*.pth.partial")
    with pytest.raises((RuntimeError, EOFError, UnpicklingError)):  # which of them depends on how little is there
        torch.load(partial, weights_only=False)
    output = workplace.train(trainer, PLANS, fold, "--c")
    epochs = [int(line.split()[-1]) for line in output.splitlines() if "Epoch " in line and "time" not in line]
    assert epochs == list(range(saved["current_epoch"], NUM_EPOCHS))
    final = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert final["current_epoch"] == NUM_EPOCHS
    losses = final["logging"]["train_losses"]
    assert len(losses) == NUM_EPOCHS and losses[: saved["current_epoch"]] == saved["logging"]["train_losses"]
    if trainer == PRETRAIN:
        assert final["network_weights"]["denoiser.trained_iterations"] == NUM_EPOCHS * NUM_ITERATIONS
    assert not list(folder.glob("*.partial"))


def test_half_a_checkpoint_is_not_continued_from(workplace: Workplace) -> None:
    plans = change_plans(workplace.plans(PLANS), "Halved", {}).stem
    folder = workplace.trained(PRETRAIN, plans) / "fold_all"
    folder.mkdir(parents=True)
    whole = (workplace.trained(PRETRAIN, PLANS) / "fold_all" / "checkpoint_final.pth").read_bytes()
    (folder / "checkpoint_latest.pth").write_bytes(whole[: len(whole) // 2])
    output = workplace.train(PRETRAIN, plans, "all", "--c", fails=True)
    assert "checkpoint_latest.pth is not a checkpoint that nnU-Net wrote: it is truncated" in output


def test_a_second_training_of_the_fold_is_told_who_is_at_work_and_the_first_one_ends_whole(
    workplace: Workplace,
) -> None:
    workplace.run("nnunet-diffusion", "preprocess", "-d", 1, "-p", PLANS, "-c", "2d", "-np", 1)  # what is not yet
    plans = change_plans(workplace.plans(PLANS), "TwoAtOnce", {"pretraining.num_epochs": 1}).stem
    folder = workplace.trained(PRETRAIN, plans) / "fold_all"
    (hold := workplace.root / HOLD).touch()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(workplace.run, "python", __file__, *training(PRETRAIN, plans, "all")[1:])
        while not first.done() and not (folder / ".lock").is_file():
            time.sleep(0.01)
        try:
            told = workplace.train(PRETRAIN, plans, "all", fails=True)
        finally:
            hold.unlink()
        first.result()
    assert f"{folder} is being written by another process: process " in told
    assert f"nnUNetv2_train 1 2d all -tr {PRETRAIN} -p {plans}" in told.split("another process: ")[1]
    assert "Traceback" not in told
    weights = torch.load(folder / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert weights["denoiser.trained_iterations"] == NUM_ITERATIONS
    assert not (folder / ".lock").exists()
