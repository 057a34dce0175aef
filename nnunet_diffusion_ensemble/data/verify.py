"""A raw data set verified before anything is made of it: dataset.json, names, and every image beside its label map.

nnU-Net's `--verify_dataset_integrity` stops at the first fault, prints, and only warns of another origin or direction.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from tqdm import tqdm

from nnunet_diffusion_ensemble.images.labels import SHOWN_VALUES, allowed_values, pair_problem, value_problem
from nnunet_diffusion_ensemble.images.reading import (
    ImageError,
    choose_reader,
    is_flat,
    read_images,
    read_segmentation,
    refuse_other_channels,
)
from nnunet_diffusion_ensemble.nnunet.dataset_problems import READER, refuse_json_problems
from nnunet_diffusion_ensemble.nnunet.labelled_cases import RawCase, below, find_labelled_cases
from nnunet_diffusion_ensemble.nnunet.raw_cases import number_of_channels
from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import find_unlabelled_cases, refuse_labelled_names
from nnunet_diffusion_ensemble.system.messages import first_few, raise_listing
from nnunet_diffusion_ensemble.system.records import as_written, read_record, stamps, write_record
from nnunet_diffusion_ensemble.system.workers import map_in_order

RECORD = "verified.json"  # in the preprocessed data set: cases that were right, until a file of theirs changes
RULES = 1  # counted up when more is checked
SECONDS_ALONE = 5.0  # about as long as it takes to start processes
SHOWN = 100

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """What reading a case showed.

    Attributes:
        problems: with the names of files.
        values: of its label map; empty without one.
        is_flat: whether it is an image of two dimensions in a format that knows three.
    """

    problems: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    is_flat: bool = False


def verify_dataset(
    raw_dataset_folder: Path,
    preprocessed_folder: Path,
    dataset_json: Mapping[str, Any],
    num_processes: int,
) -> None:
    """Reads every image, and every label map beside its image, unless they were right before and have not changed.

    Args:
        raw_dataset_folder: `nnUNet_raw/DatasetXXX_NAME`.
        preprocessed_folder: where what was right is noted.
        dataset_json: content of its dataset.json.
        num_processes: that read.

    Raises:
        ValueError: lists all faults with their files. Nothing was written.
        RuntimeError: a process died.
    """
    refuse_json_problems(raw_dataset_folder, dataset_json)
    cases, problems = _find_cases(raw_dataset_folder, dataset_json)
    record = _Record.read(preprocessed_folder / RECORD, dataset_json)
    looks = {case.name: look for case in cases if (look := record.look_at(case))}
    new = [case for case in cases if case.name not in looks]
    if new:
        looks |= _look_at(new, raw_dataset_folder, dataset_json, num_processes)
    problems += [problem for case in cases for problem in looks[case.name].problems]
    problems += _odd_dimensions(looks, cases, raw_dataset_folder)
    if not problems:
        problems += _label_problems(looks, cases, dataset_json)
    more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    raise_listing(f"Correct these in {raw_dataset_folder}:", problems[:SHOWN] + more)
    if new:
        record.write(cases, looks)


def _find_cases(raw_dataset_folder: Path, dataset_json: Mapping[str, Any]) -> tuple[list[RawCase], list[str]]:
    """Labelled and unlabelled cases whose names are right, and what is wrong with those of others. Of cases in shards
    names are all that is looked at: preprocessing reads them, once, and tells what is wrong with them."""
    cases, problems = find_labelled_cases(raw_dataset_folder, dataset_json)
    try:
        unlabelled = find_unlabelled_cases(raw_dataset_folder, dict(dataset_json))
        refuse_labelled_names(raw_dataset_folder, dict(dataset_json), unlabelled)
    except ValueError as error:
        return cases, [*problems, *(f"imagesUn/{line.strip()}" for line in str(error).splitlines()[1:])]
    return [*cases, *(RawCase(name, tuple(files)) for name, files in unlabelled.loose.items())], problems


# By content


def _look_at(
    cases: Sequence[RawCase], raw_dataset_folder: Path, dataset_json: Mapping[str, Any], num_processes: int
) -> dict[str, Look]:
    reader = choose_reader(dataset_json, [case.images[0] for case in cases])
    values = allowed_values(dataset_json)
    look = partial(look_at_case, reader, number_of_channels(dict(dataset_json)), values, raw_dataset_folder)
    looks = tqdm(_looks(look, cases, num_processes), "Verifying images", len(cases), disable=None)
    return {case.name: look for case, look in zip(cases, looks, strict=True)}


def _looks(look: Callable[[RawCase], Look], cases: Sequence[RawCase], num_processes: int) -> Iterator[Look]:
    """In this process, and if that takes long, in several."""
    start, position = monotonic(), 0
    while position < len(cases) and monotonic() - start < SECONDS_ALONE:
        yield look(cases[position])
        position += 1
    if rest := cases[position:]:
        yield from map_in_order(look, rest, min(num_processes, len(rest)), [__name__])


def look_at_case(
    reader: BaseReaderWriter, num_channels: int, allowed: Sequence[int], folder: Path, case: RawCase
) -> Look:
    """Reads a case.

    Args:
        reader: nnU-Net's.
        num_channels: by dataset.json.
        allowed: values of a label map.
        folder: problems name files from there.
        case: to read.
    """
    problems: list[str] = []
    image = labels = None
    try:
        image, image_properties = read_images(reader, case.images)
        refuse_other_channels(image, case.images, num_channels, f"dataset.json has {num_channels} in channel_names")
    except ImageError as error:
        problems.append(_told(error, folder))
    try:
        if case.label is not None:
            labels, label_properties = read_segmentation(reader, case.label)
    except ImageError as error:
        problems.append(_told(error, folder))
    flat = image is not None and is_flat(image, image_properties)
    if labels is None or case.label is None:
        return Look(tuple(problems), is_flat=flat)
    found = [value_problem(labels, allowed)]
    if image is not None:
        found.append(pair_problem(labels, label_properties, image, image_properties, case.images[0]))
    problems += [f"{below(case.label, folder)} {problem}" for problem in found if problem]
    return Look(tuple(problems), () if problems else tuple(map(int, np.unique(labels))), flat)


def _told(error: ImageError, folder: Path) -> str:
    return f"{', '.join(below(file, folder) for file in error.files)} {error.reason}"


# Of all cases together


def _odd_dimensions(looks: Mapping[str, Look], cases: Sequence[RawCase], folder: Path) -> Iterator[str]:
    """Slices among volumes: each would become one of 999 slices; or volumes among slices."""
    flat = [case for case in cases if looks[case.name].is_flat]
    solid = [case for case in cases if not looks[case.name].is_flat and not looks[case.name].problems]
    if not (flat and solid):
        return
    odd, text = (
        (flat, "has 2 dimensions, most images have 3")
        if len(flat) <= len(solid)
        else (solid, "has 3 dimensions, most images have 2")
    )
    for case in odd:
        yield f"{below(case.images[0], folder)} {text}; nnU-Net would take a slice for a volume of 999 slices"


def _label_problems(
    looks: Mapping[str, Look], cases: Sequence[RawCase], dataset_json: Mapping[str, Any]
) -> Iterator[str]:
    ignore = dataset_json["labels"].get("ignore")
    found = {value for case in cases if case.label for value in looks[case.name].values} - {0, ignore}
    if not found:
        yield "labelsTr: all label maps are empty: none holds anything but background, so there is nothing to learn"
    missing = [value for value in allowed_values(dataset_json) if value not in {0, ignore, *found}]
    if found and missing:
        logger.warning("No label map holds the value(s) %s of dataset.json.", first_few(missing, SHOWN_VALUES))


# What was right before


@dataclass(frozen=True)
class _Record:
    """Cases that were right, with the size and time of change of their files."""

    file: Path
    conditions: Any
    cases: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path, dataset_json: Mapping[str, Any]) -> "_Record":
        keys = ("channel_names", "modality", "labels", "file_ending", READER)
        conditions = as_written({key: dataset_json.get(key) for key in keys} | {"rules": RULES})
        before = read_record(file) or {}
        return cls(file, conditions, before.get("cases", {}) if before.get("of") == conditions else {})

    @staticmethod
    def _stamps(case: RawCase) -> dict[str, list[int]]:
        return stamps(map(Path.absolute, case.files), Path(case.images[0].absolute().anchor))

    def look_at(self, case: RawCase) -> Look | None:
        """What was seen of a case, if its files are the same."""
        before = self.cases.get(case.name)
        if not before or before["files"] != self._stamps(case):
            return None
        return Look((), tuple(before["values"]), before["is_flat"])

    def write(self, cases: Sequence[RawCase], looks: Mapping[str, Look]) -> None:
        seen = {
            case.name: {
                "files": self._stamps(case),
                "values": looks[case.name].values,
                "is_flat": looks[case.name].is_flat,
            }
            for case in cases
        }
        write_record(self.file, {"of": self.conditions, "cases": seen})
