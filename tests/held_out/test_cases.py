"""Which labelled cases may calibrate a model: never one that its training has seen."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from held_out_data import make_raw_dataset
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.held_out.cases import of_folders, of_the_data_set
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings


@pytest.fixture
def model(model_folder: Callable) -> Path:
    return model_folder(nnUNetTrainer, folds=(0, 1))


def settings(*folds: int | str) -> PredictionSettings:
    return PredictionSettings(folds=folds, device="cpu")


def copied(raw: Path, folder: Path, names: dict[str, str]) -> tuple[Path, Path]:
    """Cases of a raw data set under other names."""
    for name, new in names.items():
        for part, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
            (folder / part).mkdir(parents=True, exist_ok=True)
            shutil.copy(raw / part / f"{name}{ending}", folder / part / f"{new}{ending}")
    return folder / "imagesTr", folder / "labelsTr"


def test_a_fold_has_not_seen_what_it_did_not_train_on(model: Path, tmp_path: Path) -> None:
    make_raw_dataset(tmp_path)
    (group,) = of_the_data_set(model, settings(0))
    assert group.folds == (0,) and list(group.cases) == ["case_2", "case_3", "case_4", "case_5"]


def test_each_case_belongs_to_one_fold_that_has_not_seen_it(model: Path, tmp_path: Path) -> None:
    make_raw_dataset(tmp_path)
    groups = of_the_data_set(model, settings(0, 1))
    assert [(group.folds, list(group.cases)) for group in groups] == [
        ((0,), ["case_2", "case_3", "case_4", "case_5"]),
        ((1,), ["case_0", "case_1"]),
    ]


def test_cases_that_training_has_not_seen_are_taken(model: Path, tmp_path: Path) -> None:
    images, references = copied(make_raw_dataset(tmp_path), tmp_path / "new", {"case_4": "x", "case_5": "y"})
    group, warning = of_folders(model, settings(0, 1), images, references)
    assert (group.folds, list(group.cases), warning) == ((0, 1), ["x", "y"], "")


@pytest.mark.parametrize(
    ("names", "told"),
    [({"case_2": "case_2"}, "case_2"), ({"case_0": "renamed", "case_4": "x"}, "renamed")],
    ids=["by its name", "by its image"],
)
def test_cases_that_training_has_seen_are_refused(model: Path, tmp_path: Path, names: dict, told: str) -> None:
    folders = copied(make_raw_dataset(tmp_path), tmp_path / "new", names)
    with pytest.raises(ValueError, match=rf"Training has seen 1 of these cases \({told}\).*Remove them"):
        of_folders(model, settings(0, 1), *folders)


def test_without_the_splits_it_is_said_that_nothing_could_be_checked(model: Path, tmp_path: Path) -> None:
    folders = copied(make_raw_dataset(tmp_path, splits=None), tmp_path / "new", {"case_4": "x"})
    group, warning = of_folders(model, settings(0), *folders)
    assert list(group.cases) == ["x"] and "could not be checked" in warning and "splits_final.json" in warning


@pytest.mark.parametrize(
    ("folds", "splits", "words"),
    [
        (("all",), [{"train": ["case_0"], "val": []}], "has seen all labelled cases of Dataset001_Made.*--images"),
        ((7,), [{"train": ["case_0"], "val": []}], "has 1 folds and none of the number 7"),
        ((0,), None, r"There is no .*splits_final\.json, which says"),
        ((0,), [{"train": "case_0"}], r"splits_final\.json, fold 0"),
    ],
)
def test_what_is_not_known_to_be_new_is_refused(
    model: Path, tmp_path: Path, folds: tuple, splits: list | None, words: str
) -> None:
    make_raw_dataset(tmp_path, splits=splits)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        of_the_data_set(model, settings(*folds))


def test_a_faulty_case_is_named(model: Path, tmp_path: Path) -> None:
    raw = make_raw_dataset(tmp_path)
    (raw / "labelsTr" / "case_4.nii.gz").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"Correct or remove these labelled cases[\s\S]*case_4\.nii\.gz"):
        of_the_data_set(model, settings(0))


def test_a_data_set_that_is_not_here_is_asked_for(model: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no .*splits_final\.json"):
        of_the_data_set(model, settings(0))
