"""Labelled cases that a training has not seen: those that its folds left out, or those that a user names."""

import filecmp
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_diffusion_ensemble.benchmark.domains import DomainCase, Expected, check_domain
from nnunet_diffusion_ensemble.benchmark.problems import refuse
from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec
from nnunet_diffusion_ensemble.nnunet.raw_cases import group_by_case
from nnunet_diffusion_ensemble.prediction.model_folder import read_descriptions
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.self_training.teacher import preprocessed_folder, raw_folder
from nnunet_diffusion_ensemble.study.label_orders import SPLITS, read_splits
from nnunet_diffusion_ensemble.system.messages import first_few
from nnunet_diffusion_ensemble.system.settings import Fold

SHOWN = 5
NAME_OTHERS = "Name a folder of others with --images and --references."


@dataclass(frozen=True)
class HeldOutCases:
    """Cases that are predicted by the mean of some folds, none of which has seen them.

    Attributes:
        folds: whose mean predicts.
        cases: by name.
    """

    folds: tuple[Fold, ...]
    cases: Mapping[str, DomainCase]


def of_the_data_set(model_folder: Path, settings: PredictionSettings) -> list[HeldOutCases]:
    """For each fold the labelled cases of the model's data set that it was not trained on, each case once.

    Raises:
        FileNotFoundError: raw data set or splits are not there.
        ValueError: a fold has seen all cases, or is not in the splits; or a case is faulty.
    """
    plans, dataset_json = read_descriptions(model_folder)
    raw, splits = raw_folder(plans.dataset_name), _splits(plans.dataset_name)
    names, _ = group_by_case(raw / "imagesTr", dataset_json["file_ending"])
    if not names:
        raise FileNotFoundError(f"{raw / 'imagesTr'} holds no labelled image of the model's data set. {NAME_OTHERS}")
    groups: list[HeldOutCases] = []
    for fold in settings.folds:
        seen = _seen(splits, [fold], plans.dataset_name, names) | {name for group in groups for name in group.cases}
        if unseen := sorted(names.keys() - seen):
            groups.append(HeldOutCases((fold,), _checked(model_folder, raw / "imagesTr", raw / "labelsTr", unseen)))
    if not groups:
        folds = ", ".join(map(str, settings.folds))
        raise ValueError(f"Training (fold {folds}) has seen all labelled cases of {plans.dataset_name}. {NAME_OTHERS}")
    return groups


def of_folders(
    model_folder: Path, settings: PredictionSettings, images: Path, references: Path
) -> tuple[HeldOutCases, str]:
    """All cases of two folders, and a warning if it cannot be known whether training has seen them.

    Raises:
        FileNotFoundError: a folder is not there.
        ValueError: a case is faulty, or training has seen it, by its name or its image.
    """
    cases = _checked(model_folder, images, references)
    plans, dataset_json = read_descriptions(model_folder)
    try:
        trained_on, _ = group_by_case(raw_folder(plans.dataset_name) / "imagesTr", dataset_json["file_ending"])
        seen = _seen(_splits(plans.dataset_name), settings.folds, plans.dataset_name, trained_on)
    except FileNotFoundError as error:
        warning = f"Whether training has seen these cases could not be checked: {error}"
        return HeldOutCases(settings.folds, cases), warning
    _refuse_seen(cases, seen, [file for name, files in trained_on.items() if name in seen for file in files])
    return HeldOutCases(settings.folds, cases), ""


def seen_cases(folds: Sequence[Fold], dataset_name: str, all_names: Iterable[str]) -> set[str]:
    """Names of the labelled cases that one of the folds was trained on.

    Args:
        folds: of the splits, or `all`.
        dataset_name: of the data set.
        all_names: of its labelled cases.

    Raises:
        FileNotFoundError: there are no splits.
        ValueError: a fold is not in them.
    """
    splits = [] if set(folds) == {"all"} else _splits(dataset_name)
    return _seen(splits, folds, dataset_name, all_names)


def _splits(dataset_name: str) -> list[dict[str, list[str]]]:
    file = preprocessed_folder(dataset_name) / SPLITS
    if not file.is_file():
        raise FileNotFoundError(f"There is no {file}, which says which cases the folds were trained on. {NAME_OTHERS}")
    return read_splits(file)


def _seen(
    splits: Sequence[Mapping[str, Sequence[str]]], folds: Iterable[Fold], dataset_name: str, all_names: Iterable[str]
) -> set[str]:
    """Names of the cases that one of the folds was trained on."""
    seen: set[str] = set()
    for fold in folds:
        if fold == "all":
            seen |= {*all_names, *(name for split in splits for part in ("train", "val") for name in split[part])}
        elif int(fold) < len(splits):
            seen |= set(splits[int(fold)]["train"])
        else:
            raise ValueError(
                f"{SPLITS} of {dataset_name} has {len(splits)} folds and none of the number {fold}, so that nobody "
                "knows what it was trained on. Name folds that are there with -f."
            )
    return seen


def _checked(
    model_folder: Path, images: Path, references: Path, names: Sequence[str] | None = None
) -> Mapping[str, DomainCase]:
    """The cases by name, read and compared; all problems are raised together."""
    plans, dataset_json = read_descriptions(model_folder)
    chosen = None if names is None else tuple(names)
    spec = DomainSpec(name=images.name, role="source", images=images, references=references, cases=chosen)
    domain, problems = check_domain(spec, Expected(dataset_json, plans.image_reader_writer_class()))
    refuse(problems, "Correct or remove these labelled cases")
    return domain.cases


def _refuse_seen(cases: Mapping[str, DomainCase], seen: set[str], trained_on: Sequence[Path]) -> None:
    same = {name: name for name in cases if name in seen} | _same_images(cases, trained_on)
    if same:
        listed = first_few(list(same), SHOWN)
        raise ValueError(
            f"Training has seen {len(same)} of these cases ({listed}): on them the model is surer and better than on "
            "new ones, so that nothing can be promised. Remove them from the folder of images."
        )


def _same_images(cases: Mapping[str, DomainCase], trained_on: Sequence[Path]) -> dict[str, str]:
    """Cases whose first image has the content of one that was trained on, whatever its name."""
    by_size: dict[int, list[Path]] = {}
    for file in trained_on:
        by_size.setdefault(os.path.getsize(file), []).append(file)
    return {
        name: str(file)
        for name, case in cases.items()
        for file in by_size.get(os.path.getsize(case.images[0]), [])
        if filecmp.cmp(case.images[0], file, shallow=False)
    }
