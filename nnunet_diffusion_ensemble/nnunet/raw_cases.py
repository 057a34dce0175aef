"""Unlabelled cases of a raw data set, the images in `imagesUn`: found, and checked by name, before any is opened."""

import re
from collections.abc import Collection
from itertools import islice
from pathlib import Path

from nnunet_diffusion_ensemble.system.messages import raise_listing

UNLABELLED_IMAGES = "imagesUn"
# What somebody may take for an image of a case, in whatever case it is written.
IMAGE_ENDINGS = (
    *(".nii", ".nii.gz", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".dcm", ".ima"),
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".npy", ".npz"),
)


def group_by_case(folder: Path, file_ending: str) -> tuple[dict[str, list[Path]], list[Path]]:
    """The files named CASE_XXXX plus ending, by case and in the order of their channels; and everything else.
    Hidden files are skipped: macOS leaves a `._` file beside each image on some disks."""
    pattern = re.compile(rf"(.+)_\d{{4}}{re.escape(file_ending)}")
    cases: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in sorted(folder.glob("[!.]*"), key=lambda path: path.name):
        match = pattern.fullmatch(path.name)
        if match and path.is_file():
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


def naming_problem(case: str, images: list[Path], allowed_counts: Collection[int], file_ending: str) -> str | None:
    channels = [path.name.removesuffix(file_ending)[-4:] for path in images]
    found = ", ".join(path.name for path in images)
    if case.endswith("_seg"):
        return f"{found}: nnU-Net keeps names ending in _seg for segmentations; rename the case"
    if channels != [f"{channel:04d}" for channel in range(len(channels))]:
        return f"{found}: the channels of a case are numbered from _0000 without gaps"
    if len(channels) not in allowed_counts:
        expected = " or ".join(map(str, sorted(allowed_counts)))
        return f"{found}: case {case} has {len(channels)} channel file(s), expected {expected} as for labelled cases"
    return None


def find_unlabelled_cases(raw_dataset_folder: Path, dataset_json: dict) -> dict[str, list[Path]]:
    """Finds the unlabelled cases of a raw data set and checks their names; opens no image.

    Args:
        raw_dataset_folder: `nnUNet_raw/DatasetXXX_NAME`; the images lie in its `imagesUn`. Hidden files are skipped.
        dataset_json: content of the data set's `dataset.json`.

    Returns:
        The image files of each case, one per channel and in that order. Empty if there is no `imagesUn`.

    Raises:
        ValueError: lists every file with another ending or no channel number, every folder, and every case with
            missing or surplus channel files.
    """
    raw_dataset_folder, ending = Path(raw_dataset_folder), dataset_json["file_ending"]
    cases, others = group_by_case(raw_dataset_folder / UNLABELLED_IMAGES, ending)
    # One RGB file may hold three channels: labelled cases show how many files there are to a case.
    counts = set(islice(labelled_file_counts(raw_dataset_folder, dataset_json).values(), 1))
    counts = counts or {1, number_of_channels(dataset_json)}

    problems = [
        f"{path.name}: expected a file named CASE_0000{ending}" for path in others if not is_spacing_file(path, ending)
    ]
    problems += [problem for case, images in cases.items() if (problem := naming_problem(case, images, counts, ending))]
    raise_listing(f"Rename or remove these in {raw_dataset_folder / UNLABELLED_IMAGES}:", problems)
    return cases


def refuse_labelled_names(raw_dataset_folder: Path, dataset_json: dict, cases: Collection[str]) -> None:
    """Raises a `ValueError` listing the unlabelled cases that are named as labelled ones."""
    labelled = labelled_file_counts(raw_dataset_folder, dataset_json)
    problems = [f"unlabelled case {case} also is in imagesTr" for case in cases if case in labelled]
    raise_listing("Rename these in imagesUn (or remove them: pretraining sees labelled images too):", problems)
