"""Students of self-training: which cases they draw, on which they are validated, and what they start from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.denoiser.pretrained import denoiser_weights
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.scratch_trainer import ScratchTrainer
from nnunet_diffusion_ensemble.trainers.self_training_trainers import (
    DiffusionEnsembleSelfTrainer,
    ScratchSelfTrainer,
    nnUNetTrainerSelfTraining,
)
from nnunet_diffusion_ensemble.training.self_training import SelfTrainingData, starting_weights

DATASET = "Dataset001_Made"
PSEUDO = ("case_2", "case_3", "case_4")
SPLIT = {"train": ["case_0", "case_0", "case_0", *PSEUDO], "val": ["case_1"]}
STUDENTS = [DiffusionEnsembleSelfTrainer, ScratchSelfTrainer, nnUNetTrainerSelfTraining]


@pytest.fixture
def describe(tmp_path: Path) -> Callable[..., None]:
    """`describe(teacher=FILE, at_end=0.5)` after `make_trainer`'s folders are there."""

    def write(teacher: Path | None = None, at_end: float = 0.5) -> None:
        folder = tmp_path / "preprocessed" / DATASET
        (folder / "splits_final.json").write_text(json.dumps([SPLIT]))
        SelfTrainingData(PSEUDO, {} if teacher is None else {"0": str(teacher)}, at_end, "run", DATASET).write(folder)

    return write


def drawn_cases(trainer: Any, num_epochs: int = 4) -> list[set[str]]:
    """Those of each epoch, as nnU-Net's loop draws them."""
    trainer.num_epochs, of_epochs = num_epochs, []
    trainer.plot_network_architecture = lambda: None
    trainer.on_train_start()
    for trainer.current_epoch in range(num_epochs):
        trainer.on_epoch_start()
        of_epochs.append({case for _ in range(4) for case in next(trainer.dataloader_train)["keys"].tolist()})
    return of_epochs


@pytest.mark.parametrize("student", STUDENTS)
def test_the_end_of_the_training_is_on_true_labels_alone(
    make_trainer: Callable, describe: Callable, student: type
) -> None:
    trainer = make_trainer(student)
    describe()
    if student is DiffusionEnsembleSelfTrainer:
        trainer.initialize()
        trainer.network.denoiser.trained_iterations.fill_(1)
    of_epochs = drawn_cases(trainer)
    assert of_epochs[2] == of_epochs[3] == {"case_0"}
    assert (of_epochs[0] | of_epochs[1]) & set(PSEUDO)


@pytest.mark.parametrize(("num_epochs", "at_end", "first"), [(50, 0.15, 42), (4, 0.15, 3), (1, 0.15, 1), (10, 0.0, 10)])
def test_how_many_epochs_the_end_has(
    make_trainer: Callable, describe: Callable, num_epochs: int, at_end: float, first: int
) -> None:
    trainer = make_trainer(ScratchSelfTrainer)
    describe(at_end=at_end)
    trainer.num_epochs = num_epochs
    assert trainer.first_epoch_on_true_labels == first


def test_a_student_that_goes_on_near_the_end_starts_with_true_labels(
    make_trainer: Callable, describe: Callable
) -> None:
    trainer = make_trainer(ScratchSelfTrainer)
    trainer.num_epochs = 4
    describe()
    trainer.current_epoch = 3
    assert trainer.do_split() == (["case_0"] * 3, ["case_1"])


def test_validation_holds_true_labels_alone_even_on_all_cases(make_trainer: Callable, describe: Callable) -> None:
    trainer = make_trainer(ScratchSelfTrainer, fold="all")
    describe()
    training, validation = trainer.do_split()
    assert set(training) == {"case_0", "case_1", *PSEUDO}
    assert sorted(validation) == ["case_0", "case_1"]


def test_without_a_description_the_trainer_says_which_data_set_it_is_for(make_trainer: Callable) -> None:
    with pytest.raises(FileNotFoundError, match="data sets that nnunet-diffusion self-train has made"):
        make_trainer(ScratchSelfTrainer).do_split()


def save(trainer: Any, file: Path) -> dict[str, torch.Tensor]:
    trainer.save_checkpoint(str(file))
    return torch.load(file, weights_only=False)["network_weights"]


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        (DiffusionEnsembleTrainer, DiffusionEnsembleSelfTrainer),
        (ScratchTrainer, ScratchSelfTrainer),
        (nnUNetTrainer, nnUNetTrainerSelfTraining),
        (ScratchTrainer, nnUNetTrainerSelfTraining),
    ],
)
def test_a_student_of_the_same_network_starts_from_all_weights(
    make_trainer: Callable, describe: Callable, randomise: Callable, tmp_path: Path, teacher: type, student: type
) -> None:
    taught = make_trainer(teacher)
    taught.initialize()
    randomise(taught.network)
    weights = save(taught, tmp_path / "teacher.pth")
    trainer = make_trainer(student)
    describe(tmp_path / "teacher.pth")
    trainer.initialize()
    trainer._start_from_teacher()
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_a_student_keeps_what_the_denoiser_was_before_the_teachers_training(
    make_trainer: Callable, describe: Callable, randomise: Callable, tmp_path: Path
) -> None:
    fine_tuned = {"training.fine_tune_denoiser": True}
    taught = make_trainer(DiffusionEnsembleTrainer, fine_tuned)
    taught.initialize()
    randomise(taught.network)
    taught.network.denoiser.trained_iterations.fill_(1)
    expected = {name: value + 1 for name, value in denoiser_weights(taught.network.state_dict()).items()}
    taught.before_fine_tuning = expected
    save(taught, tmp_path / "teacher.pth")
    trainer = make_trainer(DiffusionEnsembleSelfTrainer, fine_tuned)
    describe(tmp_path / "teacher.pth")
    trainer.plot_network_architecture = lambda: None
    trainer.on_train_start()
    assert trainer.before_fine_tuning.keys() == expected.keys()
    assert all(torch.equal(trainer.before_fine_tuning[name], value) for name, value in expected.items())


def test_a_student_of_another_network_keeps_its_own_denoiser(
    make_trainer: Callable, describe: Callable, architecture: Callable, randomise: Callable, tmp_path: Path
) -> None:
    taught = make_trainer(DiffusionEnsembleTrainer, architecture=architecture("2d", features_per_stage=[8, 16, 32]))
    taught.initialize()
    taught.before_fine_tuning = denoiser_weights(taught.network.state_dict())
    save(taught, tmp_path / "teacher.pth")
    trainer = make_trainer(DiffusionEnsembleSelfTrainer, {"training.fine_tune_denoiser": True})
    describe(tmp_path / "teacher.pth")
    trainer.initialize()
    randomise(trainer.network)
    trainer.network.denoiser.trained_iterations.fill_(1)
    own = {name: value.clone() for name, value in denoiser_weights(trainer.network.state_dict()).items()}
    trainer.plot_network_architecture = lambda: None
    trainer.on_train_start()
    assert trainer.before_fine_tuning.keys() == own.keys()
    assert all(torch.equal(trainer.before_fine_tuning[name], value) for name, value in own.items())


WEIGHTS = {"denoiser.a": torch.ones(2), "head.b": torch.ones(3)}


def test_with_another_head_the_student_keeps_the_denoiser() -> None:
    own = {"denoiser.a": torch.zeros(2), "head.b": torch.zeros(4)}
    weights, what = starting_weights(WEIGHTS, own)
    assert list(weights) == ["denoiser.a"]
    assert what == "the denoiser of the teacher in"


def test_another_network_starts_from_its_own_weights() -> None:
    assert starting_weights(WEIGHTS, {"encoder.a": torch.zeros(2)})[0] == {}
