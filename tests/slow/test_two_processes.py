"""Training on two devices (`-num_gpus 2`), as two processes on the CPU that talk through gloo instead of nccl.

Run as a script, this file is nnU-Net's own `run_ddp` in both processes, with what assumes CUDA there put aside.
"""

import json
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_commands import ENSEMBLE, PRETRAIN, Workplace, change_plans
from PIL import Image
from torch import distributed as dist

pytestmark = pytest.mark.slow

NUM_PROCESSES = 2
FOLDS: dict[str, int | str] = {PRETRAIN: "all", ENSEMBLE: 0}
PLANS = "Tiny"
CASES = [f"case_{i}" for i in range(6)]
# Three images in a batch and three cases to validate on: two for the first process, one for the second. With two
# images in a pass, three timesteps of two images would take other passes than three timesteps of one image.
VALIDATED = CASES[:3]
OPTIONS = (
    *("--batch-size", 3, "--pretraining-batch-size", 3, "--images-per-pass", 2, "--timesteps", 1, 50, 400),
    *("--base-features", 4, "--blocks-per-stage", 1, "--hidden-features", 8, "--mirror-axes", -1),
    *("--pretraining-epochs", 2, "--pretraining-iterations", 4, "--epochs", 2, "--iterations", 4),
)
COMMUNICATION_TIMEOUT = timedelta(seconds=120)  # a process that waits for the other for longer waits for ever


# ---- in the processes


def join_through_gloo(rank: int, world_size: int) -> None:
    """For nnU-Net's `setup_ddp`, which asks for nccl."""
    dist.init_process_group("gloo", rank=rank, world_size=world_size, timeout=COMMUNICATION_TIMEOUT)


def keep_off_cuda() -> None:
    """nnU-Net takes for granted that processes are there for GPUs: in `run_ddp`, `__init__` and `initialize`."""
    from nnunetv2.run import run_training
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as module

    with_cuda, wrap = module.nnUNetTrainer.__init__, module.DDP

    def on_cpu(self: Any, *args: Any, **kwargs: Any) -> None:
        with_cuda(self, *args, **kwargs)
        self.device, self.grad_scaler = torch.device("cpu"), None

    run_training.setup_ddp = join_through_gloo
    torch.cuda.set_device = lambda device: None
    module.nnUNetTrainer.__init__ = on_cpu
    module.DDP = lambda network, device_ids: wrap(network)
    # There is none for the CPU. The statistics of plain batch norm are the first process's: DDP hands them on.
    torch.nn.SyncBatchNorm.convert_sync_batchnorm = lambda network: network


def keep_trainer(trainers: list[Any]) -> None:
    """Puts the trainer that nnU-Net makes into a list; the second process comes to its checkpoints a bit later."""
    from nnunetv2.run import run_training

    make = run_training.get_trainer_from_args

    def kept(*args: Any, **kwargs: Any) -> Any:
        trainer = make(*args, **kwargs)
        save = trainer.save_checkpoint

        def save_late(filename: str) -> None:
            time.sleep(0.3 * trainer.local_rank)
            save(filename)

        trainer.save_checkpoint = save_late
        trainers.append(trainer)
        return trainer

    run_training.get_trainer_from_args = kept


def note_moves(moved: list[str]) -> None:
    """Lists the files that are moved to their places, and has torch.save take as long as with a large network."""
    save, replace = torch.save, Path.replace

    def save_slowly(*args: Any, **kwargs: Any) -> None:
        save(*args, **kwargs)
        time.sleep(1)

    def replace_noted(self: Path, target: Any) -> Path:
        moved.append(Path(target).name)
        return replace(self, target)

    torch.save, Path.replace = save_slowly, replace_noted  # type: ignore[method-assign, assignment]


def run_process(rank: int, trainer_name: str, output: str) -> None:
    """One of the two processes: nnU-Net's training and validation, then what is to be looked at goes to `output`."""
    from nnunetv2.run import run_training

    trainers: list[Any] = []
    moved: list[str] = []
    keep_off_cuda()
    keep_trainer(trainers)
    note_moves(moved)
    torch.manual_seed(rank)  # the weights at the start are the first process's
    run_training.run_ddp(
        *(rank, "1", "2d", FOLDS[trainer_name], trainer_name, PLANS),
        *(False, False, False, None, False, False, NUM_PROCESSES),
    )
    trainer = trainers[0]
    state = {
        "weights": trainer.plain_network.state_dict(),
        "averaged": trainer.averaged_network.state_dict() if hasattr(trainer, "averaged") else {},
        "batch_size": trainer.batch_size,
        "epochs": trainer.current_epoch,
        "moved": [name for name in moved if name.endswith(".pth")],
    }
    torch.save(state, Path(output) / f"{trainer_name}_{rank}.pth")


if __name__ == "__main__":
    torch.multiprocessing.spawn(run_process, args=tuple(sys.argv[1:]), nprocs=NUM_PROCESSES)
    sys.exit()


# ---- in pytest


def write_raw_dataset(folder: Path) -> None:
    """Grey noise with brighter rectangles, which are the label; three images have none."""
    random = np.random.RandomState(0)
    for name in ("imagesTr", "labelsTr", "imagesUn"):
        (folder / name).mkdir(parents=True)
    for i, case in enumerate([*CASES, "other_0", "other_1", "other_2"]):
        label = np.zeros((32, 40), np.uint8)
        label[4 + i : 18 + i, 6 + i : 25] = 1
        image = (80 + 80 * label + random.normal(0, 10, label.shape)).astype(np.uint8)
        Image.fromarray(image).save(folder / ("imagesTr" if case in CASES else "imagesUn") / f"{case}_0000.png")
        if case in CASES:
            Image.fromarray(label).save(folder / "labelsTr" / f"{case}.png")
    labels = {"background": 0, "rectangle": 1}
    dataset = {"channel_names": {"0": "grey"}, "labels": labels, "numTraining": len(CASES), "file_ending": ".png"}
    (folder / "dataset.json").write_text(json.dumps(dataset))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """With data preprocessed and split, ready for training."""
    made = Workplace(tmp_path_factory.mktemp("two_processes"), "Dataset001_Rectangles", external=True)
    write_raw_dataset(made.raw / made.dataset)
    made.run("nnunet-diffusion", "plan", "-d", 1, "--plans-name", PLANS, *OPTIONS, "-np", 1)
    change_plans(made.plans(PLANS), PLANS, {"pretraining.num_samples": 2, "pretraining.num_sampling_steps": 2})
    made.run("nnunet-diffusion", "preprocess", "-d", 1, "-p", PLANS, "-c", "2d", "-np", 1)
    # Dice over a batch gathers the shares of the processes, which nnU-Net can do for equal ones only.
    plans = json.loads(made.plans(PLANS).read_text())
    plans["configurations"]["2d"]["batch_dice"] = False
    made.plans(PLANS).write_text(json.dumps(plans))
    splits = [{"train": CASES[3:], "val": VALIDATED}]
    (made.plans(PLANS).parent / "splits_final.json").write_text(json.dumps(splits))
    return made


@pytest.fixture(scope="module")
def states(workplace: Workplace) -> dict[str, list[dict[str, Any]]]:
    """What both processes ended with, for each trainer."""
    ended = {}
    for trainer in FOLDS:
        address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
        workplace.run("python", __file__, trainer, workplace.root, **address)
        files = [workplace.root / f"{trainer}_{rank}.pth" for rank in range(NUM_PROCESSES)]
        ended[trainer] = [torch.load(file, weights_only=False) for file in files]
    return ended


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def assert_equal_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("trainer", FOLDS)
def test_the_batch_is_shared_out_unevenly_and_both_epochs_are_run(states, trainer) -> None:
    assert [state["batch_size"] for state in states[trainer]] == [2, 1]
    assert [state["epochs"] for state in states[trainer]] == [2, 2]


@pytest.mark.parametrize("trainer", FOLDS)
def test_both_processes_end_with_the_same_weights(states, trainer) -> None:
    first, second = states[trainer]
    assert_equal_weights(first["weights"], second["weights"])
    assert_equal_weights(first["averaged"], second["averaged"])


@pytest.mark.parametrize("trainer", FOLDS)
def test_only_the_first_process_writes_checkpoints(states, trainer) -> None:
    first, second = states[trainer]
    assert first["moved"][-1] == "checkpoint_final.pth"
    assert first["moved"].count("checkpoint_final.pth") == 1
    assert second["moved"] == []


@pytest.mark.parametrize("trainer", FOLDS)
def test_the_checkpoint_holds_the_weights_of_both(workplace, states, trainer) -> None:
    file = workplace.trained(trainer, PLANS) / f"fold_{FOLDS[trainer]}" / "checkpoint_final.pth"
    expected = states[trainer][1]["averaged"] or states[trainer][1]["weights"]
    assert_equal_weights(torch.load(file, weights_only=False)["network_weights"], expected)


def test_every_case_is_validated_once(workplace, states) -> None:
    folder = workplace.trained(ENSEMBLE, PLANS) / "fold_0" / "validation"
    assert sorted(file.stem for file in folder.glob("*.png")) == VALIDATED
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == len(VALIDATED)
