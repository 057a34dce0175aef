"""Splits of few labelled cases, splits files that do not fit, and training where no case validates."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.data.unlabelled_dataset import UnlabelledDataset
from nnunet_diffusion_ensemble.study.timed_training import TrainingLength, check_split, set_length
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.trainers.scratch_trainer import ScratchTrainer
from nnunet_diffusion_ensemble.training.splits import few_case_splits, prepare_splits

SHORT = {"training.num_epochs": 2, "training.num_iterations_per_epoch": 1, "training.num_val_iterations_per_epoch": 1}


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ("a", [("a", "")]),
        ("ba", [("b", "a"), ("a", "b")]),
        ("abc", [("bc", "a"), ("ac", "b"), ("ab", "c")]),
        ("abcd", [("bcd", "a"), ("acd", "b"), ("abd", "c"), ("abc", "d")]),
    ],
)
def test_each_of_few_cases_validates_once(cases: str, expected: list[tuple[str, str]]) -> None:
    splits = few_case_splits(list(cases))
    assert [("".join(split["train"]), "".join(split["val"])) for split in splits] == expected


def test_the_split_of_few_cases_is_written_once_for_other_trainers_too(tmp_path: Path) -> None:
    prepare_splits(tmp_path, ["a", "b"], 0)
    assert json.loads((tmp_path / "splits_final.json").read_text()) == few_case_splits(["a", "b"])


def test_five_cases_are_left_to_nnunet(tmp_path: Path) -> None:
    prepare_splits(tmp_path, list("abcde"), 0)
    assert not list(tmp_path.iterdir())


MALFORMED: dict[str, tuple[str, int, str]] = {
    "no JSON": ("[{", 0, r"splits_final\.json is not JSON"),
    "no list": ('{"train": ["a"], "val": []}', 0, r"splits_final\.json holds a list with"),
    "an empty list": ("[]", 0, r"splits_final\.json holds a list with"),
    "a fold that is a list": (
        '[["a"]]',
        0,
        r"splits_final\.json, fold 0: must have lists of cases under train and val",
    ),
    "no val": ('[{"train": ["a"]}]', 0, r"fold 0: must have lists of cases"),
    "a case that is a number": ('[{"train": [1], "val": []}]', 0, r"fold 0: must have lists of cases"),
    "an unknown case to train on": (
        '[{"train": ["a", "x"], "val": []}]',
        0,
        r"fold 0: x in train is not a preprocessed",
    ),
    "unknown cases": ('[{"train": ["a"], "val": ["x", "y"]}]', 0, r"fold 0: x in val is not .* nor are 1 more"),
    "a case twice": ('[{"train": ["b"], "val": ["a", "a"]}]', 0, r"fold 0: a is in val twice"),
    "nothing to train on": ('[{"train": [], "val": ["a"]}]', 0, r"fold 0: train is empty"),
    "a fold that there is not": ('[{"train": ["a"], "val": ["b"]}]', 3, r"no fold 3: 2 labelled case\(s\) give fold 0"),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_splits_file_is_told_with_file_fold_and_case(fault: str, tmp_path: Path) -> None:
    content, fold, message = MALFORMED[fault]
    (tmp_path / "splits_final.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        prepare_splits(tmp_path, ["a", "b"], fold)
    assert (tmp_path / "splits_final.json").read_text() == content


@pytest.mark.parametrize(("number", "fold"), [(1, 1), (3, 3), (4, 4)])
def test_of_a_fold_too_many_nothing_is_written(number: int, fold: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"no fold {fold}: {number} labelled case\(s\) give fold"):
        prepare_splits(tmp_path, list("abcd")[:number], fold)
    assert not list(tmp_path.iterdir())


# ---- trainers


@pytest.fixture
def with_cases(make_trainer: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`with_cases(2, ScratchTrainer)`: a trainer of a data set with so few labelled cases."""
    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda self, folder: None)  # takes seconds

    def make(number: int, trainer_class: type, **arguments: Any) -> Any:
        for file in (tmp_path / "preprocessed" / "Dataset001_Made" / "nnUNetPlans_2d").iterdir():
            if int(file.name[5]) >= number:
                file.unlink()
        return make_trainer(trainer_class, SHORT, **arguments)

    return make


def log_of(trainer: Any) -> str:
    return Path(trainer.log_file).read_text()


@pytest.mark.parametrize(("number", "validates"), [(2, "case_0"), (4, "case_0")])
def test_few_cases_train_and_validate_and_the_log_says_which(number: int, validates: str, with_cases: Callable) -> None:
    trainer = with_cases(number, ScratchTrainer)
    trainer.run_training()
    others = ", ".join(f"case_{i}" for i in range(1, number))
    assert f"Trains on {others}; validates on {validates}." in log_of(trainer)
    assert (Path(trainer.output_folder) / "checkpoint_best.pth").is_file()


def test_with_one_case_nothing_validates_and_nothing_is_chosen(with_cases: Callable) -> None:
    trainer = with_cases(1, ScratchTrainer)
    trainer.run_training()
    trainer.perform_actual_validation()
    log = log_of(trainer)
    assert "Trains on case_0. No case is left for validation" in log
    assert "no final validation either" in log
    written = {file.name for file in Path(trainer.output_folder).glob("*.pth")}
    assert written == {"checkpoint_final.pth"}
    assert all(math.isnan(loss) for loss in trainer.logger.get_value("val_losses", step=None))


def test_a_training_for_a_given_time_does_not_validate_on_what_it_trains_on(with_cases: Callable) -> None:
    trainer = with_cases(1, ScratchTrainer)
    set_length(trainer, TrainingLength(1, 1))  # sets a number of validation iterations as well
    trainer.run_training()
    assert math.isnan(trainer.logger.get_value("val_losses", step=-1))


def test_two_cases_pretrain_with_one_held_out(with_cases: Callable) -> None:
    trainer = with_cases(2, DiffusionPretrainTrainer)
    trainer.unlabelled = UnlabelledDataset(Path("missing"))
    training, held_out = trainer.get_tr_and_val_datasets()
    assert (list(training.identifiers), list(held_out.identifiers)) == (["case_1"], ["case_0"])


def test_nnunets_own_trainer_gets_a_split_of_few_cases(with_cases: Callable) -> None:
    trainer = with_cases(3, nnUNetTrainer)
    check_split(trainer)
    assert trainer.do_split() == (["case_1", "case_2"], ["case_0"])


def test_nnunets_own_trainer_is_told_that_it_needs_a_case_to_validate_on(with_cases: Callable) -> None:
    trainer = with_cases(1, nnUNetTrainer)
    with pytest.raises(ValueError, match="nnUNetTrainer needs a case to validate on, and fold 0 has none"):
        check_split(trainer)
