"""Unlabelled cases of a raw data set, the images in `imagesUn`, loose or in shards: found and checked by name."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from nnunet_diffusion_ensemble.nnunet.raw_cases import (
    UNLABELLED_IMAGES,
    group_by_case,
    grouped,
    labelled_file_counts,
    naming_problem,
    number_of_channels,
    other_file_problem,
)
from nnunet_diffusion_ensemble.nnunet.raw_shards import SHARD_ENDING, ShardError, read_shard
from nnunet_diffusion_ensemble.system.messages import raise_listing
from nnunet_diffusion_ensemble.system.records import stamp

SHOWN = 10  # faults of a shard


@dataclass(frozen=True)
class UnlabelledCases:
    """The unlabelled cases of a raw data set.

    Attributes:
        loose: of the cases whose images are files, these, one per channel and in that order.
        shards: the names of the cases in each shard, (cases,).
        file_ending: of images.
    """

    loose: Mapping[str, list[Path]]
    shards: Mapping[Path, np.ndarray]
    file_ending: str

    def __len__(self) -> int:
        return len(self.loose) + sum(map(len, self.shards.values()))

    @property
    def names(self) -> np.ndarray:
        """Of all cases, (cases,)."""
        return np.concatenate([np.array(list(self.loose), np.str_), *self.shards.values()])

    def items(self) -> Iterator[tuple[str, list[Path]]]:
        """Each case with its images, loose or in a shard, which is read as it comes up."""
        yield from self.loose.items()
        for shard in self.shards:
            yield from images_in_shard(shard, self.file_ending).items()


def images_in_shard(shard: Path, file_ending: str) -> dict[str, list[Path]]:
    """The images of each case in a shard, one per channel and in that order.

    Raises:
        ShardError: the shard cannot be used.
    """
    cases, _ = grouped(sorted(shard / name for name in read_shard(shard)), file_ending)
    return cases


def find_unlabelled_cases(
    raw_dataset_folder: Path,
    dataset_json: dict,
    known_names: Callable[[Path], np.ndarray | None] = lambda shard: None,
) -> UnlabelledCases:
    """Finds the unlabelled cases of a raw data set and checks their names; opens no image.

    Args:
        raw_dataset_folder: `nnUNet_raw/DatasetXXX_NAME`; the images lie in its `imagesUn`, loose or in shards. Hidden
            files are skipped.
        dataset_json: content of the data set's `dataset.json`.
        known_names: of a shard that was checked before and has not changed, the names of its cases; such a shard is
            not opened.

    Raises:
        ValueError: lists every file with another ending or no channel number, every folder, every case with missing or
            surplus channel files or in two places, and every shard that cannot be used.
    """
    folder, ending = Path(raw_dataset_folder) / UNLABELLED_IMAGES, dataset_json["file_ending"]
    loose, others = group_by_case(folder, ending)
    counts = allowed_counts(Path(raw_dataset_folder), dataset_json)
    found = {path for path in others if path.name.endswith(SHARD_ENDING) and path.is_file()}
    problems = [problem for path in others if path not in found and (problem := other_file_problem(path, ending))]
    problems += [problem for case, images in loose.items() if (problem := naming_problem(case, images, counts, ending))]
    shards: dict[Path, np.ndarray] = {}
    for shard in sorted(found):
        if (names := known_names(shard)) is None:
            names, faults = _look_into(shard, tuple(stamp(shard)), ending, counts)
            problems += faults
        shards[shard] = names
    cases = UnlabelledCases(loose, shards, ending)
    problems += _twice(cases)
    raise_listing(f"Rename or remove these in {folder}:", problems)
    return cases


def allowed_counts(raw_dataset_folder: Path, dataset_json: dict) -> frozenset[int]:
    """How many files a case may have. One RGB file may hold three channels: labelled cases show it."""
    counts = frozenset(islice(labelled_file_counts(raw_dataset_folder, dataset_json).values(), 1))
    return counts or frozenset({1, number_of_channels(dataset_json)})


@cache  # planning looks several times
def _look_into(
    shard: Path, state: tuple[int, ...], file_ending: str, counts: frozenset[int]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Names of the cases in a shard, and what is wrong with it; `state` is its stamp."""
    try:
        members = read_shard(shard)
    except ShardError as error:
        return np.array([], np.str_), _first(error.problems)
    cases, others = grouped(sorted(shard / name for name in members), file_ending)
    problems = [other_file_problem(path, file_ending) for path in others]
    problems += [naming_problem(case, images, counts, file_ending) for case, images in cases.items()]
    return np.array(list(cases), np.str_), _first([f"{shard.name}: {problem}" for problem in problems if problem])


def _first(problems: Collection[str]) -> tuple[str, ...]:
    more = [f"... and {len(problems) - SHOWN} more in this shard"] if len(problems) > SHOWN else []
    return (*islice(problems, SHOWN), *more)


def _twice(cases: UnlabelledCases) -> Iterator[str]:
    names = np.sort(cases.names)
    for name in np.unique(names[1:][names[1:] == names[:-1]]).tolist():
        places = ["a file"] if name in cases.loose else []
        places += [shard.name for shard, inside in cases.shards.items() if name in inside]
        yield f"case {name} is there twice: in {' and in '.join(places)}; remove all but one, or rename it"


def refuse_labelled_names(raw_dataset_folder: Path, dataset_json: dict, cases: UnlabelledCases) -> None:
    """Raises a `ValueError` listing the unlabelled cases that are named as labelled ones."""
    labelled = labelled_file_counts(raw_dataset_folder, dataset_json)
    both = np.intersect1d(np.array(list(labelled), np.str_), cases.names)
    problems = [f"unlabelled case {case} also is in imagesTr" for case in both.tolist()]
    raise_listing("Rename these in imagesUn (or remove them: pretraining sees labelled images too):", problems)
