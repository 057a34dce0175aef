"""One data set examined: how far it has come, and every image of it read."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from nnunet_diffusion_ensemble.data.verify import verify_dataset
from nnunet_diffusion_ensemble.doctor.datasets import DataFolders, look_at_dataset
from nnunet_diffusion_ensemble.doctor.finding import NOTE, OK, PROBLEM, Finding
from nnunet_diffusion_ensemble.nnunet.dataset_json import has_labels, read_dataset_json
from nnunet_diffusion_ensemble.nnunet.datasets import NAME


def examine(number: int, places: DataFolders, num_processes: int) -> Iterator[Finding]:
    """Looks at one data set, by its number, and at all its images.

    Raises:
        ValueError: there is no such data set, or there are several.
    """
    names = [name for name in places.datasets() if (match := NAME.fullmatch(name)) and int(match[1]) == number]
    if len(names) != 1:
        there = ", ".join(places.datasets()) or "none"
        what = f"{len(names)} data sets have" if names else "No data set has"
        raise ValueError(f"{what} the number {number}; there are {there}.")
    yield from look_at_dataset(names[0], places)
    if places.raw is not None and (places.raw / names[0]).is_dir():
        yield _look_at_images(places.raw / names[0], num_processes)


def _look_at_images(raw_dataset_folder: Path, num_processes: int) -> Finding:
    """Whether every image and every label map can be read and fits, as `plan` checks it, looked at anew."""
    about = f"{raw_dataset_folder.name}, images"
    try:
        dataset_json = read_dataset_json(raw_dataset_folder)
        if not has_labels(dataset_json):
            return Finding(about, NOTE, "not read: without labels, they are when they are preprocessed")
        with TemporaryDirectory() as scratch:  # in the place of what an earlier check noted
            verify_dataset(raw_dataset_folder, Path(scratch), dataset_json, num_processes)
    except (ValueError, OSError, RuntimeError) as error:
        return Finding(about, PROBLEM, str(error), "correct or remove the files that are named")
    return Finding(about, OK, "all can be read and fit their labels")
