"""Training in several processes, which torchrun starts on the CPU: they talk through gloo, on GPUs it would be NCCL.

Run as a script, this file is one of the processes, or starts those of two machines.
"""

import json
import os
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_commands import ENSEMBLE, PRETRAIN, Workplace, change_plans, write_rectangles
from torch import distributed as dist

pytestmark = pytest.mark.slow

FOLDS: dict[str, int | str] = {PRETRAIN: "all", ENSEMBLE: 0}
PLANS, PLANS_OF_CURVES, PLANS_OF_TWO_MACHINES = "Tiny", "Curves", "Machines"
PLANS_OF_FINE_TUNING = "FineTuning"
MODULE = "nnunet_diffusion_ensemble.torchrun"
TORCHRUN = ("-m", "torch.distributed.run")
CASES = [f"case_{i}" for i in range(6)]
# Three images in a batch and three cases to validate on: two for the first process, one for the second. With two
# images in a pass, three timesteps of two images would take other passes than three timesteps of one image.
BATCH_SIZE, NUM_EPOCHS, NUM_ITERATIONS = 3, 2, 4
VALIDATED = CASES[:3]
OPTIONS = (
    *("--batch-size", BATCH_SIZE, "--pretraining-batch-size", BATCH_SIZE, "--images-per-pass", 2, "--mirror-axes", -1),
    *("--base-features", 4, "--blocks-per-stage", 1, "--hidden-features", 8, "--timesteps", 1, 50, 400),
    *("--pretraining-epochs", NUM_EPOCHS, "--pretraining-iterations", NUM_ITERATIONS),
    *("--epochs", NUM_EPOCHS, "--iterations", NUM_ITERATIONS),
)
# Statistics of batch norm are those of a process on the CPU; SyncBatchNorm is for GPUs.
WITHOUT_BATCH_NORM = {"ensemble.head.hidden_features": []}
FAST = {"pretraining.learning_rate": 0.01, "pretraining.warmup_iterations": 1, "training.learning_rate": 0.05}
# Every weight of the denoiser learns, from the second epoch on, and each image draws its own timesteps.
FINE_TUNED = {"training.fine_tune_denoiser": True, "training.head_first": 0.5, "training.timesteps_per_image": 2}
EPSILON = {"denoiser.prediction_type": "epsilon"}  # of which the loss falls at once
SHORT_TIMEOUT, LONG_WAIT = timedelta(seconds=5), 11


# ---- in the processes


def arguments_of(trainer_name: str, plans: str) -> list[str]:
    """What `nnUNetv2_train` takes."""
    return ["1", "2d", str(FOLDS[trainer_name]), "-tr", trainer_name, "-p", plans, "-device", "cpu"]


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


def train(trainer_name: str) -> dict[str, Any]:
    """nnU-Net's training and validation; returns what is to be looked at."""
    from nnunet_diffusion_ensemble.torchrun import main

    trainers: list[Any] = []
    moved: list[str] = []
    keep_trainer(trainers)
    note_moves(moved)
    torch.manual_seed(int(os.environ["RANK"]))  # the weights at the start are the first process's
    sys.argv[1:] = arguments_of(trainer_name, PLANS)
    main()
    trainer = trainers[0]
    return {
        "weights": trainer.plain_network.state_dict(),
        "averaged": trainer.averaged_network.state_dict() if hasattr(trainer, "averaged") else {},
        "batch_size": trainer.batch_size,
        "epochs": trainer.current_epoch,
        "moved": [name for name in moved if name.endswith(".pth")],
    }


def train_all_on_fixed_data(trained: str) -> dict[str, dict[str, Any]]:
    """One after the other: a start of processes takes longer than all of them."""
    if int(os.environ["WORLD_SIZE"]) > 1:
        dist.init_process_group("gloo")
    return {one: train_on_fixed_data(one) for one in trained.split(",")}


def train_on_fixed_data(trainer_and_plans: str) -> dict[str, Any]:
    """Training on batches that depend on the iteration alone, of which each process takes its share."""
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer_name, plans = trainer_and_plans.split("-")
    fold, device = FOLDS[trainer_name], torch.device("cpu")
    trainer = get_trainer_from_args("1", "2d", fold, trainer_name, plans, device=device)
    torch.manual_seed(0)
    trainer.initialize()
    for epoch in range(NUM_EPOCHS):
        trainer.current_epoch = epoch
        trainer.on_train_epoch_start()
        trainer.logger.log("epoch_start_timestamps", 0.0, epoch)
        outputs = []
        for iteration in range(NUM_ITERATIONS):
            generator = torch.Generator().manual_seed(epoch * NUM_ITERATIONS + iteration)
            slope = 1 + torch.rand(BATCH_SIZE, 1, 1, 1, generator=generator)
            data = slope * torch.linspace(-2, 2, 40).expand(BATCH_SIZE, 1, 32, 40)
            own = data[trainer.share.start :][: trainer.batch_size]
            outputs.append(trainer.train_step({"data": own, "target": (own > 0).to(torch.int16)}))
        trainer.on_train_epoch_end(outputs)
    denoiser = trainer.plain_network.denoiser
    return {
        "batch_size": trainer.batch_size,
        "losses": np.array(trainer.logger.get_value("train_losses", step=None)),
        "steps": np.array([output["loss"] for output in outputs]),
        "bands": np.array(trainer.logger.local_logger.my_fantastic_logging.get("train_loss_per_band", [])),
        "intensity_range": denoiser.intensity_range,
        "averaged": trainer.averaged_network.state_dict() if hasattr(trainer, "averaged") else {},
    }


def wait_for_the_first(_: str) -> list[str]:
    """The first process takes longer than a collective operation may."""
    from nnunet_diffusion_ensemble.training.processes import from_first_process

    dist.init_process_group("gloo", timeout=SHORT_TIMEOUT)

    def compute() -> list[str]:
        time.sleep(LONG_WAIT)
        return [f"computed by {dist.get_rank()}"]

    return from_first_process(compute)


def start_two_machines(trainer_name: str) -> int:
    """torchrun twice, as on two machines with a process each."""
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}", "--rdzv-id", "1"]
    command = [sys.executable, *TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1", *meeting]
    command += ["-m", MODULE, *arguments_of(trainer_name, PLANS_OF_TWO_MACHINES)]
    machines = [subprocess.Popen(command) for _ in range(2)]
    return max(machine.wait() for machine in machines)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


TASKS = {task.__name__: task for task in (train, train_all_on_fixed_data, wait_for_the_first)}

if __name__ == "__main__":
    name, argument, output = sys.argv[1:]
    if name == start_two_machines.__name__:
        sys.exit(start_two_machines(argument))
    result = TASKS[name](argument)
    torch.save(result, Path(output) / f"{os.environ['RANK']}.pth")
    sys.exit()


# ---- in pytest


def run_processes(workplace: Workplace, task: Any, argument: str, num_processes: int = 2) -> list[Any]:
    """A task in processes that torchrun starts; what it returned in each of them."""
    output = workplace.root / f"{task.__name__}_{argument.replace(',', '_')}_{num_processes}"
    output.mkdir()
    start = ["--standalone", "--nproc-per-node", num_processes]
    workplace.run("python", *TORCHRUN, *start, __file__, task.__name__, argument, output)
    return [torch.load(output / f"{rank}.pth", weights_only=False) for rank in range(num_processes)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """With data preprocessed and split, ready for training."""
    made = Workplace(tmp_path_factory.mktemp("two_processes"), "Dataset001_Rectangles", external=True)
    write_rectangles(made.raw / made.dataset, CASES)
    made.run("nnunet-diffusion", "plan", "-d", 1, "--plans-name", PLANS, *OPTIONS, "-np", 1)
    plans = change_plans(made.plans(PLANS), PLANS, {"pretraining.num_samples": 2, "pretraining.num_sampling_steps": 2})
    content = json.loads(plans.read_text())
    content["configurations"]["2d"]["batch_dice"] = False  # would need equal shares
    plans.write_text(json.dumps(content))
    change_plans(plans, PLANS_OF_CURVES, WITHOUT_BATCH_NORM | FAST | EPSILON)
    change_plans(plans, PLANS_OF_FINE_TUNING, WITHOUT_BATCH_NORM | FAST | FINE_TUNED)
    change_plans(plans, PLANS_OF_TWO_MACHINES, {})
    made.run("nnunet-diffusion", "preprocess", "-d", 1, "-p", PLANS, "-c", "2d", "-np", 1)
    splits = [{"train": CASES[3:], "val": VALIDATED}]
    (plans.parent / "splits_final.json").write_text(json.dumps(splits))
    return made


@pytest.fixture(scope="module")
def states(workplace: Workplace) -> dict[str, list[dict[str, Any]]]:
    """What both processes ended with, for each trainer."""
    return {trainer: run_processes(workplace, train, trainer) for trainer in FOLDS}


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


# ---- as one process does


TRAINED = (f"{PRETRAIN}-{PLANS_OF_CURVES}", f"{ENSEMBLE}-{PLANS_OF_CURVES}", f"{ENSEMBLE}-{PLANS_OF_FINE_TUNING}")


@pytest.fixture(scope="module")
def on_fixed_data(workplace: Workplace) -> list[dict[str, dict[str, Any]]]:
    """What was trained by one process, and by the first and the second of two."""
    return [
        state
        for number in (1, 2)
        for state in run_processes(workplace, train_all_on_fixed_data, ",".join(TRAINED), num_processes=number)
    ]


@pytest.mark.parametrize("trained", TRAINED)
def test_two_processes_have_the_loss_curve_of_one_with_the_same_global_batch(on_fixed_data, trained) -> None:
    one, first, second = (state[trained] for state in on_fixed_data)
    assert [state["batch_size"] for state in (one, first, second)] == [3, 2, 1]
    assert one["losses"][1] < 0.97 * one["losses"][0]  # it learns, so that steps matter and not the losses alone
    for state in (first, second):
        np.testing.assert_allclose(state["losses"], one["losses"], rtol=1e-4)
        np.testing.assert_allclose(state["bands"], one["bands"], rtol=1e-3)
        assert torch.equal(state["intensity_range"], one["intensity_range"])
    np.testing.assert_allclose((first["steps"] + second["steps"]) / 2, one["steps"], rtol=1e-4)
    assert_equal_weights(first["averaged"], second["averaged"])


def test_others_wait_for_the_first_process_longer_than_for_any_other_operation(workplace) -> None:
    assert run_processes(workplace, wait_for_the_first, "") == [["computed by 0"]] * 2


def test_torchrun_trains_on_two_machines(workplace) -> None:
    workplace.run("python", __file__, start_two_machines.__name__, PRETRAIN, "")
    file = workplace.trained(PRETRAIN, PLANS_OF_TWO_MACHINES) / "fold_all" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    assert checkpoint["current_epoch"] == NUM_EPOCHS
    assert checkpoint["network_weights"]["denoiser.trained_iterations"] == NUM_EPOCHS * NUM_ITERATIONS
    assert len(list(file.parent.glob("training_log*.txt"))) == 1  # the first process's
