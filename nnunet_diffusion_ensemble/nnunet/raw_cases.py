"""Images of a raw data set by name: which files are a case, and which are none."""

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from nnunet_diffusion_ensemble.nnunet.raw_shards import COMPRESSED, COMPRESSED_ENDINGS

UNLABELLED_IMAGES = "imagesUn"
# What somebody may take for an image of a case, in whatever case it is written.
IMAGE_ENDINGS = (
    *(".nii", ".nii.gz", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".dcm", ".ima"),
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".npy", ".npz"),
)


def group_by_case(folder: Path, file_ending: str) -> tuple[dict[str, list[Path]], list[Path]]:
    """The files named CASE_XXXX plus ending, by case and in the order of their channels; and everything else.
    Hidden files are skipped: macOS leaves a `._` file beside each image on some disks."""
    there = sorted(folder.glob("[!.]*"), key=lambda path: path.name)
    return grouped(there, file_ending, Path.is_file)


def grouped(
    paths: Iterable[Path], file_ending: str, is_file: Callable[[Path], bool] = lambda path: True
) -> tuple[dict[str, list[Path]], list[Path]]:
    """Paths named CASE_XXXX plus ending, by case and in their order; and all others."""
    pattern = re.compile(rf"(.+)_\d{{4}}{re.escape(file_ending)}")
    cases: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in paths:
        match = pattern.fullmatch(path.name)
        if match and is_file(path):
            cases.setdefault(match[1], []).append(path)
        else:
            others.append(path)
    return cases, others


def looks_like_image(path: Path) -> bool:
    """Whether a file, by its ending, may be meant as an image; a link that leads nowhere may."""
    return path.name.lower().endswith(IMAGE_ENDINGS) or (path.is_symlink() and not path.exists())


def labelled_file_counts(raw_dataset_folder: Path, dataset_json: dict) -> dict[str, int]:
    """How many image files each labelled case has."""
    if "dataset" in dataset_json:
        return {case: len(files["images"]) for case, files in dataset_json["dataset"].items()}
    cases, _ = group_by_case(raw_dataset_folder / "imagesTr", dataset_json["file_ending"])
    return {case: len(files) for case, files in cases.items()}


def number_of_channels(dataset_json: dict) -> int:
    """Image channels of a case, by `dataset.json`."""
    return len(dataset_json["channel_names"] if "channel_names" in dataset_json else dataset_json["modality"])


def is_spacing_file(path: Path, file_ending: str) -> bool:
    """Whether a file may hold the spacing of an image beside it: nnU-Net's reader of 3D TIFF looks for CASE.json."""
    return path.suffix == ".json" and file_ending in (".tif", ".tiff")


def naming_problem(
    case: str, images: list[Path], allowed_counts: Collection[int], file_ending: str, model: str = "labelled cases"
) -> str | None:
    """What is wrong with the names of a case's files, if anything; `model` are those that have an allowed count."""
    channels = [path.name.removesuffix(file_ending)[-4:] for path in images]
    found = ", ".join(path.name for path in images)
    if case.endswith("_seg"):
        return f"{found}: nnU-Net keeps names ending in _seg for segmentations; rename the case"
    if channels != [f"{channel:04d}" for channel in range(len(channels))]:
        return f"{found}: the channels of a case are numbered from _0000 without gaps"
    if len(channels) not in allowed_counts:
        expected = " or ".join(map(str, sorted(allowed_counts)))
        return f"{found}: case {case} has {len(channels)} channel file(s), expected {expected} as for {model}"
    return None


def other_file_problem(path: Path, file_ending: str) -> str | None:
    """What is wrong with a file or folder that is no image of a case, if anything."""
    if is_spacing_file(path, file_ending):
        return None
    if path.name.endswith(COMPRESSED_ENDINGS):
        return f"{path.name} {COMPRESSED}"
    return f"{path.name}: expected a file named CASE_0000{file_ending}"
