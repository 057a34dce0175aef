"""Labelled cases of a raw data set: image and label map found by name, before any is opened."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import expandvars
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_diffusion_ensemble.nnunet.raw_cases import (
    group_by_case,
    looks_like_image,
    naming_problem,
    number_of_channels,
)

IMAGES, LABELS = "imagesTr", "labelsTr"


@dataclass(frozen=True)
class RawCase:
    """A case of a raw data set: its image files in the order of their channels, and its label map if it has one."""

    name: str
    images: tuple[Path, ...]
    label: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All that it is read from; a 3D TIFF has its spacing in a file beside it."""
        pairs = [(self.images[0], self.name), *([(self.label, self.name)] if self.label else [])]
        spacings = [file.with_name(f"{name}.json") for file, name in pairs]
        return (*self.images, *([self.label] if self.label else []), *(file for file in spacings if file.is_file()))


def find_labelled_cases(raw_dataset_folder: Path, dataset_json: Mapping[str, Any]) -> tuple[list[RawCase], list[str]]:
    """Labelled cases whose files are there and rightly named, and what is wrong with all others.

    Args:
        raw_dataset_folder: `nnUNet_raw/DatasetXXX_NAME`, with `imagesTr` and `labelsTr`, or files in dataset.json.
        dataset_json: without `json_problems` in file ending and channels.
    """
    if "dataset" in dataset_json:
        found = list(_listed_cases(raw_dataset_folder, dataset_json["dataset"]))
        problems: list[str] = []
    else:
        found, problems = _named_cases(raw_dataset_folder, dataset_json)
    number = dataset_json.get("numTraining")
    if isinstance(number, int) and number != len(found):
        problems.append(f"dataset.json: numTraining is {number}, but there are {len(found)} labelled cases")
    missing = {case.name: [file for file in case.files if not file.is_file()] for case in found}
    problems += [f"{below(file, raw_dataset_folder)} {_why(file)}" for files in missing.values() for file in files]
    return [case for case in found if not missing[case.name]], problems


def spread_over(files: Sequence[Path], number: int) -> list[Path]:
    """At most so many of them, at even distances from the first to the last."""
    positions = np.linspace(0, len(files) - 1, min(number, len(files))).round().astype(int)
    return [files[i] for i in positions]


def below(file: Path, folder: Path) -> str:
    """A file's path from a folder, if it lies below it."""
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def _why(file: Path) -> str:
    if file.is_dir():
        return "is a folder"
    return f"is a link to {file.readlink()}, which is not there" if file.is_symlink() else "is missing"


def _listed_cases(raw_dataset_folder: Path, listed: Mapping[str, Any]) -> Iterator[RawCase]:
    """As nnU-Net reads the entry `dataset`: paths from the folder of the data set, with variables."""
    for name, files in listed.items():
        images = tuple(raw_dataset_folder / expandvars(text) for text in files["images"])
        yield RawCase(name, images, raw_dataset_folder / expandvars(files["label"]))


def _named_cases(raw_dataset_folder: Path, dataset_json: Mapping[str, Any]) -> tuple[list[RawCase], list[str]]:
    ending = dataset_json["file_ending"]
    for folder in (IMAGES, LABELS):
        if not (raw_dataset_folder / folder).is_dir():
            return [], [f"there is no folder {folder}"]
    images, others = group_by_case(raw_dataset_folder / IMAGES, ending)
    problems = [
        f"{IMAGES}/{path.name} {_why_overlooked(path, f'CASE_0000{ending}')}"
        for path in others
        if looks_like_image(path)
    ]
    problems += [
        f"{IMAGES}/{path.name} is hidden, but nnU-Net takes it for a case: delete it (macOS leaves such files)"
        for path in sorted((raw_dataset_folder / IMAGES).glob(f".*{ending}"))
    ]
    counts = {1, number_of_channels(dict(dataset_json))}  # one RGB file may hold all channels
    cases = []
    for name, files in images.items():
        if problem := naming_problem(name, files, counts, ending):
            problems.append(f"{IMAGES}/{problem}")
        cases.append(RawCase(name, tuple(files), raw_dataset_folder / LABELS / f"{name}{ending}"))
    problems += _surplus_labels(raw_dataset_folder / LABELS, {case.label for case in cases if case.label}, ending)
    return cases, problems


def _surplus_labels(folder: Path, wanted: set[Path], ending: str) -> Iterator[str]:
    for path in sorted(folder.glob("[!.]*")):
        if path in wanted or not looks_like_image(path):
            continue
        if path.name.endswith(ending):
            yield f"{LABELS}/{path.name} has no image {IMAGES}/{path.name.removesuffix(ending)}_0000{ending}"
        else:
            yield f"{LABELS}/{path.name} {_why_overlooked(path, f'CASE{ending}')}"


def _why_overlooked(path: Path, name: str) -> str:
    return f"is not named {name}, so nnU-Net does not see it" if path.is_file() else _why(path)
