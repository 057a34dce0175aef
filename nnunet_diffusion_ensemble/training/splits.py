"""Which labelled cases train and which validate: `splits_final.json`, checked, and made where there are too few for
nnU-Net's five folds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.system.atomic import write_text

SPLITS = "splits_final.json"
FOLDS_OF_NNUNET = 5
PARTS = ("train", "val")

Split = dict[str, list[str]]


def few_case_splits(cases: Sequence[str]) -> list[Split]:
    """Each case validates once, with all others to train on; a single one trains, and none validates.

    Args:
        cases: fewer than nnU-Net has folds.
    """
    cases = sorted(cases)
    if len(cases) == 1:
        return [{"train": list(cases), "val": []}]
    return [{"train": [case for case in cases if case != held_out], "val": [held_out]} for held_out in cases]


def prepare_splits(preprocessed_dataset_folder: Path, cases: Sequence[str], fold: int) -> None:
    """Checks the splits file, and writes one where there is none and nnU-Net could not.

    Args:
        preprocessed_dataset_folder: of the data set, where the file lies.
        cases: all preprocessed ones.
        fold: that is to be trained.

    Raises:
        ValueError: the file is malformed, or names cases that are not preprocessed (in this fold), or there are too few
            cases for the fold. The message names file, fold and case.
    """
    file = preprocessed_dataset_folder / SPLITS
    few = 0 < len(cases) < FOLDS_OF_NNUNET
    if not file.is_file() and not few:
        return  # nnU-Net makes its five
    splits = _read(file) if file.is_file() else few_case_splits(cases)
    if few and fold >= len(splits):
        there = "fold 0" if len(splits) == 1 else f"folds 0 to {len(splits) - 1}"
        raise ValueError(
            f"There is no fold {fold}: {len(cases)} labelled case(s) give {there} ({file}). Train one of them, or all."
        )
    if fold < len(splits):
        _check_fold(file, fold, splits[fold], set(cases))
    if not file.is_file():
        write_text(file, json.dumps(splits, indent=4))


def _read(file: Path) -> list[Any]:
    form = 'a list with {"train": [CASE, ...], "val": [CASE, ...]} for each fold'
    try:
        splits = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}). It holds {form}; deleted, it is made anew.") from error
    if not isinstance(splits, list) or not splits:
        raise ValueError(f"{file} holds {form}; got {str(splits)[:60]}. Deleted, it is made anew.")
    return splits


def _check_fold(file: Path, fold: int, split: Any, cases: set[str]) -> None:
    where = f"{file}, fold {fold}"
    if not isinstance(split, dict) or any(not _is_list_of_names(split.get(part)) for part in PARTS):
        raise ValueError(f"{where}: must have lists of cases under train and val; got {str(split)[:60]}.")
    if not split["train"]:
        raise ValueError(f"{where}: train is empty. Name at least one case to train on.")
    for part in PARTS:
        names = split[part]
        if unknown := [case for case in names if case not in cases]:
            more = f", nor are {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise ValueError(
                f"{where}: {unknown[0]} in {part} is not a preprocessed case{more}. Preprocess the data set again, or "
                "correct the file."
            )
    validation = split["val"]  # in train, a repeated case is drawn more often, as self-training has it
    if twice := [case for case in dict.fromkeys(validation) if validation.count(case) > 1]:
        raise ValueError(f"{where}: {twice[0]} is in val twice. Leave one of them out.")


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(case, str) for case in value)


def split_in_words(training: Sequence[str], validation: Sequence[str]) -> str:
    """What a split of few cases means, for the log."""
    trains = f"Trains on {', '.join(training)}"
    if validation:
        return f"{trains}; validates on {', '.join(validation)}."
    return f"{trains}. No case is left for validation: nothing is chosen by it, and there is no checkpoint_best."
