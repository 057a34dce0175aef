"""Preprocessed unlabelled cases in files of their own.

Each case becomes `CASE.b2nd` (image), `CASE_seg.b2nd` (-1 outside the nonzero region, 0 inside; no labels) and
`CASE.pkl`, which is written last and records what the case was made from: a case is complete when that record holds.
"""

from collections.abc import Collection
from pathlib import Path

from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle

from nnunet_diffusion_ensemble.data.preprocessing_job import PreprocessedCase, PreprocessingJob
from nnunet_diffusion_ensemble.images.reading import ImageError
from nnunet_diffusion_ensemble.system.messages import in_one_line

RECORD = "unlabelled_source"
# Longest first, so that a mask is not taken for the image of a case called CASE_seg.
CASE_FILE_ENDINGS = ("_seg.b2nd", ".b2nd", ".pkl")
SourceState = list[tuple[str, int, int]]


def source_state(case: str, images: list[Path]) -> SourceState:
    """Name, size in bytes and time of change in nanoseconds of the files that a case is read from."""
    spacing_file = images[0].parent / f"{case}.json"
    files = [*images, spacing_file] if spacing_file.exists() else images
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def is_complete(job: PreprocessingJob, case: str, source: SourceState | None) -> bool:
    """Whether a case was written to the end, from this source (None: any) and with these plans."""
    truncated = str(job.folder / case)
    try:
        record = load_pickle(truncated + ".pkl")[RECORD]
        is_intact = record["written_sizes"] == _written_sizes(truncated)
        return is_intact and record["preprocessing"] == job.fingerprint and source in (None, record["files"])
    except Exception:  # damaged pickles raise errors of any kind
        return False


def _written_sizes(truncated: str) -> list[int]:
    return [Path(truncated + ending).stat().st_size for ending in (".b2nd", "_seg.b2nd")]


def loose_cases(folder: Path) -> set[str]:
    """Cases of which a preprocessed file is there."""
    return {case for path in folder.iterdir() if (case := _case_of(path.name)) is not None}


def files_of_others(folder: Path, cases: Collection[str]) -> list[Path]:
    """Preprocessed files that belong to none of the cases."""
    return [path for path in folder.iterdir() if (case := _case_of(path.name)) is not None and case not in cases]


def _case_of(file_name: str) -> str | None:
    """The case that a preprocessed file belongs to."""
    endings = [ending for ending in CASE_FILE_ENDINGS if file_name.endswith(ending)]
    return file_name.removesuffix(endings[0]) if endings else None


def preprocess_loose(job: PreprocessingJob, case: str, images: list[Path]) -> list[str]:
    """Preprocesses and saves a case; returns what is wrong with its files, if anything."""
    try:
        source = source_state(case, images)
        preprocessed = job.preprocess(images)
    except ImageError as error:
        return [error.short]
    except OSError as error:
        return [ImageError(images, f"cannot be read ({in_one_line(error)})").short]
    with job.writing(f"case {case}"):
        _save(job, case, source, preprocessed)
    return []


def _save(job: PreprocessingJob, case: str, source: SourceState, preprocessed: PreprocessedCase) -> None:
    """Complete or not at all."""
    written, final = str(job.in_progress / case), str(job.folder / case)
    job.write(preprocessed, written)
    record = {"files": source, "preprocessing": job.fingerprint, "written_sizes": _written_sizes(written)}
    write_pickle({**preprocessed.properties, RECORD: record}, written + ".pkl")

    Path(final + ".pkl").unlink(missing_ok=True)  # an old record must not vouch for new data
    for ending in CASE_FILE_ENDINGS:
        Path(written + ending).replace(final + ending)
