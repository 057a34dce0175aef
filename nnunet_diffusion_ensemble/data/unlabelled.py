"""Unlabelled images (`imagesUn` of the raw data set), preprocessed once, exactly as labelled cases are.

Each case becomes `CASE.b2nd` (image), `CASE_seg.b2nd` (-1 outside the nonzero region, 0 inside; no labels) and
`CASE.pkl`, which is written last and records what the case was made from: a case is complete when that record holds.
"""

import hashlib
import json
import logging
import multiprocessing
import shutil
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle
from nnunetv2.configuration import default_num_processes
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from tqdm import tqdm

from nnunet_diffusion_ensemble.images.reading import FLAT_IN_3D, ImageError, is_flat, read_images, refuse_other_channels
from nnunet_diffusion_ensemble.nnunet.datasets import PREPROCESSED, find_dataset
from nnunet_diffusion_ensemble.nnunet.raw_cases import (
    find_unlabelled_cases,
    number_of_channels,
    refuse_labelled_names,
)
from nnunet_diffusion_ensemble.system.full_disk import DiskFullError, naming_full_disk
from nnunet_diffusion_ensemble.system.guard import alone_in
from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.system.messages import in_one_line, raise_listing
from nnunet_diffusion_ensemble.system.workers import die_with_parent

RECORD = "unlabelled_source"
# Cases are written here and then moved; it exists as long as the set is not complete.
IN_PROGRESS = "in_progress"
# Longest first, so that a mask is not taken for the image of a case called CASE_seg.
CASE_FILE_ENDINGS = ("_seg.b2nd", ".b2nd", ".pkl")
KEYS_THAT_DETERMINE_VALUES = (
    "preprocessor_name",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreprocessingJob:
    """What a worker needs to preprocess any case."""

    folder: Path
    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict
    fingerprint: str


def unlabelled_folder(preprocessed_dataset_folder: Path, data_identifier: str) -> Path:
    """Where a configuration's preprocessed unlabelled images lie: beside its labelled ones, whose folder nnU-Net
    deletes whenever it preprocesses."""
    return Path(preprocessed_dataset_folder) / f"{data_identifier}_unlabelled"


# What is there already


def _preprocessing_fingerprint(plans: PlansManager, configuration: ConfigurationManager) -> str:
    """Identifies everything in the plans that determines preprocessed values."""
    settings = {key: configuration.configuration.get(key) for key in KEYS_THAT_DETERMINE_VALUES}
    settings["transpose_forward"] = plans.transpose_forward
    settings["image_reader_writer"] = plans.plans["image_reader_writer"]
    settings["intensities"] = plans.foreground_intensity_properties_per_channel
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _source_state(case: str, images: list[Path]) -> list[tuple[str, int, int]]:
    """Name, size in bytes and time of change in nanoseconds of the files that a case is read from."""
    spacing_file = images[0].parent / f"{case}.json"
    files = [*images, spacing_file] if spacing_file.exists() else images
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _written_sizes(truncated: str) -> list[int]:
    return [Path(truncated + ending).stat().st_size for ending in (".b2nd", "_seg.b2nd")]


def _is_complete(job: PreprocessingJob, case: str, source: list[tuple[str, int, int]] | None) -> bool:
    """Whether a case was written to the end, from this source (None: any) and with these plans."""
    truncated = str(job.folder / case)
    try:
        record = load_pickle(truncated + ".pkl")[RECORD]
        is_intact = record["written_sizes"] == _written_sizes(truncated)
        return is_intact and record["preprocessing"] == job.fingerprint and source in (None, record["files"])
    except Exception:  # damaged pickles raise errors of any kind
        return False


def _case_of(file_name: str) -> str | None:
    """The case that a preprocessed file belongs to."""
    endings = [ending for ending in CASE_FILE_ENDINGS if file_name.endswith(ending)]
    return file_name.removesuffix(endings[0]) if endings else None


def _other_files(folder: Path, cases: Collection[str]) -> list[Path]:
    """Those of other cases, and what a kill left half-written."""
    return [
        path
        for path in folder.iterdir()
        if path.name == IN_PROGRESS or ((case := _case_of(path.name)) is not None and case not in cases)
    ]


def _incomplete(job: PreprocessingJob, cases: dict[str, list[Path]]) -> dict[str, list[Path]]:
    return {case: images for case, images in cases.items() if not _is_complete(job, case, _source_state(case, images))}


# Preprocessing one case


def _run_case(job: PreprocessingJob, images: list[Path]) -> tuple[np.ndarray, np.ndarray, dict]:
    """The preprocessor's `run_case` without a segmentation, with the channels counted after reading."""
    data, properties = read_images(job.plans.image_reader_writer_class(), images)
    expected = number_of_channels(job.dataset_json)
    refuse_other_channels(data, images, expected, f"dataset.json has {expected} in channel_names")
    if is_flat(data, properties) and len(job.configuration.spacing) == 3:
        raise ImageError(images, FLAT_IN_3D)
    preprocessor = job.configuration.preprocessor_class(verbose=False)
    data, mask, properties = preprocessor.run_case_npy(
        data, None, properties, job.plans, job.configuration, job.dataset_json
    )
    if not np.isfinite(data).all():
        raise ImageError(images, "give NaN or infinite values in preprocessing")
    return data.astype(np.float32, copy=False), mask.astype(np.int16, copy=False), properties


def _save_case(
    job: PreprocessingJob,
    case: str,
    source: list[tuple[str, int, int]],
    preprocessed: tuple[np.ndarray, np.ndarray, dict],
) -> None:
    """Writes a case as the preprocessor's `run_case_save` does, but complete or not at all."""
    data, mask, properties = preprocessed
    written, final = str(job.folder / IN_PROGRESS / case), str(job.folder / case)
    patch_size = tuple(job.configuration.patch_size)
    blocks, chunks = comp_blosc2_params(data.shape, patch_size, data.itemsize)
    blocks_seg, chunks_seg = comp_blosc2_params(mask.shape, patch_size, mask.itemsize)
    nnUNetDatasetBlosc2.save_case(
        data, mask, properties, written, chunks=chunks, blocks=blocks, chunks_seg=chunks_seg, blocks_seg=blocks_seg
    )
    sizes = _written_sizes(written)
    properties[RECORD] = {"files": source, "preprocessing": job.fingerprint, "written_sizes": sizes}
    write_pickle(properties, written + ".pkl")

    Path(final + ".pkl").unlink(missing_ok=True)  # an old record must not vouch for new data
    for ending in CASE_FILE_ENDINGS:
        Path(written + ending).replace(final + ending)


def _preprocess_case(job: PreprocessingJob, case: str, images: list[Path]) -> str | None:
    """Preprocesses and saves a case; returns what is wrong with its files, if anything."""
    try:
        source = _source_state(case, images)
        preprocessed = _run_case(job, images)
    except ImageError as error:
        return error.short
    except Exception as error:  # of preprocessing
        return ImageError(images, f"cannot be preprocessed ({in_one_line(error)})").short
    try:
        with naming_full_disk(job.folder / case):
            _save_case(job, case, source, preprocessed)
    except DiskFullError:
        raise
    except Exception as error:
        raise RuntimeError(f"Could not write case {case} to {job.folder} ({in_one_line(error)}).") from error
    return None


# Preprocessing all cases


def in_processes(
    function: Callable[[str, list[Path]], Result], cases: dict[str, list[Path]], num_processes: int
) -> Iterator[Result]:
    """Applies a function to all cases, a few at a time, so that memory does not grow with their number."""
    pool = ProcessPoolExecutor(
        min(num_processes, len(cases)), multiprocessing.get_context("spawn"), initializer=die_with_parent
    )
    waiting, running = iter(cases.items()), dict[Future[Result], str]()
    try:
        while True:
            for case, images in islice(waiting, 2 * num_processes - len(running)):
                running[pool.submit(function, case, images)] = case
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield future.result()
                del running[future]
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"A worker died while it worked on one of {', '.join(sorted(running.values()))}. If no error is shown "
            "above, the system probably ended it for want of memory: use fewer processes (nnUNet_def_n_proc=1) and "
            "run again; finished cases are kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _preprocess_cases(
    job: PreprocessingJob, cases: dict[str, list[Path]], num_processes: int, progress: tqdm
) -> list[str]:
    """Preprocesses the cases, in this process if `num_processes` is 0; returns what is wrong with which files."""
    preprocess = partial(_preprocess_case, job)
    if num_processes == 0:
        outcomes: Iterator[str | None] = (preprocess(case, images) for case, images in cases.items())
    else:
        outcomes = in_processes(preprocess, cases, num_processes)
    problems = []
    for problem in outcomes:
        progress.update()
        if problem is not None:
            problems.append(problem)
    return sorted(problems)


def _load_job(dataset_name: str, configuration: str, plans_identifier: str) -> PreprocessingJob:
    folder = Path(nnUNet_preprocessed) / dataset_name
    plans_file = folder / f"{plans_identifier}.json"
    if not plans_file.is_file():
        raise FileNotFoundError(f"No plans at {plans_file}. Run nnUNetv2_plan_and_preprocess first.")
    plans = PlansManager(read_object(plans_file))
    configuration_manager = plans.get_configuration(configuration)
    return PreprocessingJob(
        folder=unlabelled_folder(folder, configuration_manager.data_identifier),
        plans=plans,
        configuration=configuration_manager,
        dataset_json=read_object(folder / "dataset.json"),
        fingerprint=_preprocessing_fingerprint(plans, configuration_manager),
    )


def _check_without_raw_data(job: PreprocessingJob) -> None:
    """Where only preprocessed data were copied to, what is there is used if it is whole and fits the plans."""
    cases = {case for path in job.folder.iterdir() if (case := _case_of(path.name)) is not None}
    if (job.folder / IN_PROGRESS).exists() or not all(_is_complete(job, case, None) for case in cases):
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

    Unchanged cases are kept, changed and half-written ones redone, those no longer in `imagesUn` removed. If the raw
    data set is not on this machine, the preprocessed cases are used as they are.

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
        ValueError: before any work, for names that do not fit or are labelled cases' too; after all other cases
            are preprocessed, for files that cannot be read or have the wrong number of channels. Lists all of them.
        RuntimeError: a worker died, or a case could not be written.
    """
    dataset_name = find_dataset(dataset_name_or_id, PREPROCESSED)
    job = _load_job(dataset_name, configuration, plans_identifier)
    job.folder.mkdir(exist_ok=True)
    if not (nnUNet_raw.is_set() and (Path(nnUNet_raw) / dataset_name).is_dir()):
        _check_without_raw_data(job)
        return job.folder

    raw_dataset_folder = Path(nnUNet_raw) / dataset_name
    cases = find_unlabelled_cases(raw_dataset_folder, job.dataset_json)
    refuse_labelled_names(raw_dataset_folder, job.dataset_json, cases)

    todo = _incomplete(job, cases)
    logger.info("%d unlabelled images in %s, %d to preprocess", len(cases), raw_dataset_folder, len(todo))
    if todo or _other_files(job.folder, cases):
        with alone_in(job.folder, wait=True):  # trainings of several folds may begin at once
            _bring_up_to_date(job, cases, todo, num_processes, show_progress_bar)
    return job.folder


def _bring_up_to_date(
    job: PreprocessingJob,
    cases: dict[str, list[Path]],
    todo: dict[str, list[Path]],
    num_processes: int | None,
    show_progress_bar: bool,
) -> None:
    """Preprocesses what another process has not done meanwhile; removes what belongs to no case."""
    for path in _other_files(job.folder, cases):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    todo = _incomplete(job, todo)
    if todo:
        (job.folder / IN_PROGRESS).mkdir()
        workers = default_num_processes if num_processes is None else num_processes
        with tqdm(
            desc="Preprocessing unlabelled images",
            total=len(cases),
            initial=len(cases) - len(todo),
            disable=not show_progress_bar,
        ) as progress:
            problems = _preprocess_cases(job, todo, workers, progress)
        source = next(iter(cases.values()))[0].parent
        raise_listing(f"Repair or remove these in {source}:", problems)
        shutil.rmtree(job.folder / IN_PROGRESS)
