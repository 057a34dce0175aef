"""Training for a given time: the measurement, the number of epochs, and what a continued training holds on to."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nnunet_diffusion_ensemble.study import timed_training
from nnunet_diffusion_ensemble.study.timed_training import (
    LENGTH_FILE,
    Fold,
    TimeBudget,
    TrainingLength,
    measure_iteration,
    train_for,
)
from nnunet_diffusion_ensemble.trainers.scratch_trainer import ScratchTrainer


@pytest.mark.parametrize(
    ("limit", "seconds_per_iteration", "length"),
    [
        (TimeBudget(minutes=2, iterations_per_epoch=99), 0.1, (12, 99)),  # 1200 iterations, 100 with that of validation
        (TimeBudget(minutes=2, iterations_per_epoch=100), 0.5, (2, 100)),  # 240 iterations
        (TimeBudget(minutes=2, iterations_per_epoch=250), 0.5, (1, 240)),  # less than an epoch
        (TimeBudget(minutes=1), 120.0, (1, 1)),  # not even one iteration
    ],
)
def test_so_many_epochs_as_fit(limit: TimeBudget, seconds_per_iteration: float, length: tuple[int, int]) -> None:
    assert TrainingLength.fitting(limit, seconds_per_iteration) == TrainingLength(*length)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "minutes is missing; known are minutes, clock, iterations_per_epoch"),
        ({"minutes": 0}, "minutes must be a number above 0; got 0"),
        ({"minutes": float("nan")}, "minutes must be a finite number above 0; got nan"),
        ({"minutes": 2, "clock": "sun"}, "clock must be wall or cpu; got 'sun'"),
        ({"minutes": 2, "iterations_per_epoch": 0}, "iterations_per_epoch must be a whole number of at least 1; got 0"),
    ],
)
def test_an_impossible_budget_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimeBudget(**values)


def test_the_first_iterations_are_not_measured_and_workers_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ended = {"now": 0.0}, []
    durations = iter([30.0, 20.0, *[0.25, 0.75] * 10])
    monkeypatch.setattr(timed_training, "_now", lambda kind: clock["now"])

    def train_step(batch: str) -> None:
        clock["now"] += next(durations)

    class Loader:
        def __next__(self) -> str:
            return "batch"

        def _finish(self) -> None:
            ended.append(self)

    trainer = SimpleNamespace(
        on_train_start=lambda: None,
        on_train_epoch_start=lambda: None,
        train_step=train_step,
        dataloader_train=Loader(),
        dataloader_val=Loader(),
    )
    assert measure_iteration(trainer, "cpu") == pytest.approx(0.5)
    assert trainer.disable_checkpointing
    assert ended == [trainer.dataloader_train, trainer.dataloader_val]


def test_parts_of_a_training_count_by_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr(timed_training, "_now", lambda kind: clock["now"])
    trainer = SimpleNamespace(
        phases={0: 0.25, 5: 0.75},
        dataloader_train=iter(lambda: "batch", None),
        dataloader_val=None,
        on_train_start=lambda: None,
        on_train_epoch_start=lambda: None,
    )

    def train_step(batch: str) -> None:
        clock["now"] += 1.0 if trainer.current_epoch == 0 else 3.0

    trainer.train_step = train_step
    assert measure_iteration(trainer, "cpu") == pytest.approx(0.25 * 1 + 0.75 * 3)


@pytest.fixture
def fold(make_trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Fold:
    """A fold of tiny cases, of which an iteration is said to take ten seconds."""
    monkeypatch.setattr(Fold, "make_trainer", lambda *_: make_trainer(ScratchTrainer))
    monkeypatch.setattr(timed_training, "measure_iteration", lambda trainer, clock: 10.0)
    monkeypatch.setattr(ScratchTrainer, "perform_actual_validation", lambda self: None)  # starts processes
    monkeypatch.setattr("nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png", lambda *_: None)
    return Fold("1", "2d", 0, "ScratchTrainer", "Plans", "cpu")


def folder_of(fold: Fold) -> Path:
    return Path(fold.make_trainer().output_folder)


def test_a_training_has_the_length_that_fits_and_says_so(fold: Fold) -> None:
    train_for(
        fold, TimeBudget(minutes=1, iterations_per_epoch=2)
    )  # 6 iterations, 3 with that of validation in an epoch
    folder = folder_of(fold)
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["current_epoch"] == 2
    assert json.loads((folder / LENGTH_FILE).read_text())["length"] == {"epochs": 2, "iterations_per_epoch": 2}
    logs = [file.read_text() for file in folder.glob("training_log_*.txt")]
    assert any("2 epochs of 2 iterations fit into 1 minutes of wall time" in log for log in logs)


def test_a_continued_training_keeps_its_length_whatever_is_measured_then(
    fold: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = TimeBudget(minutes=1, iterations_per_epoch=2)
    with monkeypatch.context() as patch:
        patch.setattr(ScratchTrainer, "run_training", lambda self: None)  # killed before the first epoch
        train_for(fold, limit)
    monkeypatch.setattr(timed_training, "measure_iteration", lambda trainer, clock: 1.0)
    train_for(fold, limit, continue_training=True)
    assert torch.load(folder_of(fold) / "checkpoint_final.pth", weights_only=False)["current_epoch"] == 2


def test_a_training_of_another_time_is_not_continued(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScratchTrainer, "run_training", lambda self: None)
    train_for(fold, TimeBudget(minutes=1, iterations_per_epoch=2))
    with pytest.raises(ValueError, match=r"was trained with 1 minutes of wall.*, not with 3 minutes of wall"):
        train_for(fold, TimeBudget(minutes=3, iterations_per_epoch=2), continue_training=True)


def test_a_training_ends_with_the_validation_and_one_that_is_finished_has_only_that_left(
    fold: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    train = ScratchTrainer.run_training
    monkeypatch.setattr(ScratchTrainer, "run_training", lambda self: (done.append("training"), train(self)))
    monkeypatch.setattr(ScratchTrainer, "perform_actual_validation", lambda self: done.append("validation"))
    limit = TimeBudget(minutes=1, iterations_per_epoch=2)
    train_for(fold, limit)
    assert done == ["training", "validation"]
    train_for(fold, limit, continue_training=True)
    assert done == ["training", "validation", "validation"]


def test_cpu_time_counts_augmentation(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    seen = []
    monkeypatch.setattr(ScratchTrainer, "run_training", lambda self: seen.append(os.environ["nnUNet_n_proc_DA"]))
    train_for(fold, TimeBudget(minutes=1, clock="cpu"))
    assert seen == ["0"]


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no device cuda here"):
        Fold("1", "2d", 0, "nnUNetTrainer", "Plans").make_trainer()
