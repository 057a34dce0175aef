"""`dataset.json` of a raw data set, with or without labels."""

from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.nnunet.raw_cases import labelled_file_counts, looks_like_image
from nnunet_diffusion_ensemble.system.json_files import read_object

NO_LABELS = {"background": 0}
MINIMAL = '{"channel_names": {"0": "X-ray"}, "file_ending": ".png"}'
EXAMPLE = f"The least that a data set without labels needs is\n  {MINIMAL}"


def read_dataset_json(raw_dataset_folder: Path) -> dict[str, Any]:
    """Reads `dataset.json` of a raw data set; labels and their number may be missing.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not JSON, or lacks what no data set can do without.
    """
    file = raw_dataset_folder / "dataset.json"
    content = read_object(file, "" if file.is_file() else EXAMPLE)
    missing = [] if content.get("channel_names") or content.get("modality") else ["channel_names"]
    missing += [] if content.get("file_ending") else ["file_ending"]
    if missing:
        raise ValueError(f"{file} lacks {' and '.join(missing)}. {EXAMPLE}")
    return content


def has_labels(dataset_json: dict[str, Any]) -> bool:
    """Whether there is anything to segment: a label or region besides the background and nnU-Net's ignore label."""
    return any(name not in ("background", "ignore") for name in dataset_json.get("labels", {}))


def refuse_labelled_cases(raw_dataset_folder: Path, dataset_json: dict[str, Any]) -> None:
    """Raises ValueError if a data set that is to be planned without labels has labelled cases."""
    num_labelled = len(labelled_file_counts(raw_dataset_folder, dataset_json))
    if num_labelled:
        raise ValueError(
            f"{raw_dataset_folder.name} has {num_labelled} labelled case(s) in imagesTr: plan it without --unlabelled "
            "(its unlabelled images are used as well), or move the images without labels to imagesUn."
        )


def refuse_missing_labels(raw_dataset_folder: Path, dataset_json: dict[str, Any]) -> None:
    """Raises ValueError if a data set that is to be planned with its labels has no labelled case."""
    if not labelled_file_counts(raw_dataset_folder, dataset_json):
        there = _overlooked(raw_dataset_folder, dataset_json["file_ending"])
        raise ValueError(
            f"{raw_dataset_folder.name} has no labelled image in imagesTr.{there} If it has only unlabelled ones, in "
            "imagesUn, plan it with: nnunet-diffusion plan --unlabelled."
        )


def _overlooked(raw_dataset_folder: Path, ending: str) -> str:
    """Images that nnU-Net does not see, by the name of one, and how they should be called."""
    names = [path.name for path in sorted((raw_dataset_folder / "imagesTr").glob("[!.]*")) if looks_like_image(path)]
    if not names:
        return ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f" It holds {names[0]}{more}, but images are named CASE_0000{ending}: the number is that of the channel, the "
        "ending that of file_ending in dataset.json. nnunet-diffusion convert makes such a data set of pictures with "
        "any names, JPEG too."
    )
