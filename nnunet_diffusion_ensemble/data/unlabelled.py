"""Unlabelled images (`imagesUn` of the raw data set), preprocessed once, exactly as labelled cases are.

A loose case becomes three files (`loose_cases`), a shard one file and its index (`packed_shards`), in one folder.
"""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from nnunetv2.configuration import default_num_processes
from nnunetv2.paths import nnUNet_raw
from tqdm import tqdm

from nnunet_diffusion_ensemble.data.loose_cases import (
    files_of_others,
    is_complete,
    loose_cases,
    preprocess_loose,
    source_state,
)
from nnunet_diffusion_ensemble.data.packed_shards import PackedShard, index_of, preprocess_shard, shards_of_others
from nnunet_diffusion_ensemble.data.preprocessing_job import PreprocessingJob
from nnunet_diffusion_ensemble.nnunet.datasets import PREPROCESSED, find_dataset
from nnunet_diffusion_ensemble.nnunet.raw_cases import UNLABELLED_IMAGES
from nnunet_diffusion_ensemble.nnunet.raw_shards import SHARD_ENDING
from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import (
    UnlabelledCases,
    find_unlabelled_cases,
    refuse_labelled_names,
)
from nnunet_diffusion_ensemble.system.guard import alone_in
from nnunet_diffusion_ensemble.system.messages import raise_listing
from nnunet_diffusion_ensemble.system.workers import as_they_come

Task = list[Path] | tuple[Path, int]  # the images of a loose case, or a shard and the number of its cases

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Todo:
    """Loose cases and shards that are not preprocessed as they are now."""

    loose: dict[str, list[Path]]
    shards: dict[Path, np.ndarray]

    @classmethod
    def of(cls, job: PreprocessingJob, cases: "UnlabelledCases | _Todo") -> "_Todo":
        return cls(
            {
                case: files
                for case, files in cases.loose.items()
                if not is_complete(job, case, source_state(case, files))
            },
            {shard: names for shard, names in cases.shards.items() if _packed_names(job, shard) is None},
        )

    def __len__(self) -> int:
        return len(self.loose) + sum(map(len, self.shards.values()))


def _packed_names(job: PreprocessingJob, raw_shard: Path) -> np.ndarray | None:
    """Names of the cases of a shard that is preprocessed as it is now, (cases,)."""
    packed = PackedShard.read(index_of(job.folder / raw_shard.name))
    return packed.names if packed is not None and packed.fits(job, raw_shard) else None


def _surplus(job: PreprocessingJob, cases: UnlabelledCases) -> list[Path]:
    """What belongs to no case, and what a kill left half-written."""
    others = files_of_others(job.folder, cases.loose.keys())
    others += shards_of_others(job.folder, {shard.name for shard in cases.shards})
    return [*others, job.in_progress] if job.in_progress.exists() else others


def _check_without_raw_data(job: PreprocessingJob) -> None:
    """Where only preprocessed data were copied to, what is there is used if it is whole and fits the plans."""
    are_complete = all(is_complete(job, case, None) for case in loose_cases(job.folder))
    stems = {path.stem for path in shards_of_others(job.folder, ())}
    packed = [PackedShard.read(index_of(job.folder / f"{stem}{SHARD_ENDING}")) for stem in stems]
    are_complete &= all(one is not None and one.fits(job, None) for one in packed)
    if job.in_progress.exists() or not are_complete:
        raise FileNotFoundError(
            f"{job.folder} is incomplete or was made with other plans, and the raw data set to redo it from is not "
            f"in nnUNet_raw ({nnUNet_raw.get()}). Make the raw data set available, or delete that folder to go "
            "without unlabelled images."
        )


def preprocess_unlabelled(
    dataset_name_or_id: str | int,
    configuration: str,
    plans_identifier: str,
    num_processes: int | None = None,
    show_progress_bar: bool = True,
) -> Path:
    """Preprocesses the data set's unlabelled images as the plans say, except those that are done already.

    Unchanged cases are kept, changed and half-written ones redone, those no longer in `imagesUn` removed; a shard is
    kept or redone as a whole, and one that is kept is not opened. If the raw data set is not on this machine, the
    preprocessed cases are used as they are.

    Args:
        dataset_name_or_id: data set, as nnU-Net's commands take it.
        configuration: such as `2d` or `3d_fullres`.
        plans_identifier: name of the plans file in `nnUNet_preprocessed/DATASET`, without `.json`.
        num_processes: workers; None for nnU-Net's default (`nnUNet_def_n_proc`), 0 for this process alone.
        show_progress_bar: whether a progress bar is shown while there is work to do.

    Returns:
        The folder of preprocessed cases; without cases if there are no unlabelled images.

    Raises:
        FileNotFoundError: no plans, or no raw data where they are needed.
        ValueError: before any work, for names that do not fit, are there twice or are labelled cases' too, and for
            shards that cannot be used; after all other cases and shards are preprocessed, for images that cannot be
            read or have the wrong number of channels. Lists all of them.
        RuntimeError: a worker died, or a case could not be written.
    """
    dataset_name = find_dataset(dataset_name_or_id, PREPROCESSED)
    job = PreprocessingJob.load(dataset_name, configuration, plans_identifier)
    job.folder.mkdir(exist_ok=True)
    if not (nnUNet_raw.is_set() and (Path(nnUNet_raw) / dataset_name).is_dir()):
        _check_without_raw_data(job)
        return job.folder

    raw_dataset_folder = Path(nnUNet_raw) / dataset_name
    cases = find_unlabelled_cases(raw_dataset_folder, job.dataset_json, partial(_packed_names, job))
    refuse_labelled_names(raw_dataset_folder, job.dataset_json, cases)

    todo = _Todo.of(job, cases)
    logger.info("%d unlabelled images in %s, %d to preprocess", len(cases), raw_dataset_folder, len(todo))
    if todo.loose or todo.shards or _surplus(job, cases):
        with alone_in(job.folder, wait=True):  # trainings of several folds may begin at once
            problems = _bring_up_to_date(job, cases, todo, num_processes, show_progress_bar)
        raise_listing(f"Repair or remove these in {raw_dataset_folder / UNLABELLED_IMAGES}:", problems)
    return job.folder


def _bring_up_to_date(
    job: PreprocessingJob,
    cases: UnlabelledCases,
    todo: _Todo,
    num_processes: int | None,
    show_progress_bar: bool,
) -> list[str]:
    """Preprocesses what another process has not done meanwhile, removes what belongs to no case; returns what is wrong
    with which images."""
    for path in _surplus(job, cases):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    todo = _Todo.of(job, todo)
    if not (todo.loose or todo.shards):
        return []
    job.in_progress.mkdir()
    problems = []
    done, workers = len(cases) - len(todo), default_num_processes if num_processes is None else num_processes
    with tqdm(
        desc="Preprocessing unlabelled images", total=len(cases), initial=done, disable=not show_progress_bar
    ) as progress:
        for num_cases, found in _outcomes(job, todo, workers):
            progress.update(num_cases)
            problems += found
    if not problems:
        shutil.rmtree(job.in_progress)
    return sorted(problems)


def _outcomes(job: PreprocessingJob, todo: _Todo, num_processes: int) -> Iterator[tuple[int, list[str]]]:
    """Of each loose case and each shard the number of its cases and what is wrong with them; in this process if
    `num_processes` is 0."""
    shards: dict[str, Task] = {shard.name: (shard, len(names)) for shard, names in todo.shards.items()}
    tasks: Iterator[tuple[str, Task]] = chain(todo.loose.items(), shards.items())
    preprocess = partial(_preprocess, job)
    if num_processes == 0:
        return (preprocess(name, task) for name, task in tasks)
    return as_they_come(preprocess, tasks, num_processes)


def _preprocess(job: PreprocessingJob, name: str, task: Task) -> tuple[int, list[str]]:
    if isinstance(task, list):
        return 1, preprocess_loose(job, name, task)
    shard, num_cases = task
    return num_cases, preprocess_shard(job, shard)
