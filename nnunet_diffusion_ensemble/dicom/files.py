"""The DICOM files of a folder and all folders in it: their headers, and why other files are no images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_diffusion_ensemble.dicom.library import need_dicom_libraries
from nnunet_diffusion_ensemble.images.reading import ImageError, told, without_prints

if TYPE_CHECKING:
    from pydicom import Dataset

DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage: the index of a CD
NO_IMAGES = ("SEG", "RTDOSE", "PR", "KO", "SR")  # modalities; some of them have rows and columns


@dataclass(frozen=True)
class DicomFile:
    """An image: its file, and all that the file holds before the pixels."""

    file: Path
    header: "Dataset"


def read_headers(place: Path) -> tuple[list[DicomFile], Mapping[Path, str]]:
    """Images in a folder, and in all folders in it, or one file; and what other files are, in words.

    Hidden files are skipped.

    Raises:
        FileNotFoundError: there is no such place.
        ImageError: nothing there is an image in DICOM.
        RuntimeError: pydicom is not installed.
    """
    need_dicom_libraries()
    if not place.exists():
        raise FileNotFoundError(f"There is no {place}.")
    images, others = [], {}
    for file in _files(place):
        header, reason = _header(file)
        if header is None or reason:
            others[file] = reason
        else:
            images.append(DicomFile(file, header))
    if not images:
        raise ImageError([place], _why_none(others))
    return images, others


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    visible = (path for path in place.rglob("*") if not any(part[0] == "." for part in path.relative_to(place).parts))
    return sorted(path for path in visible if path.is_file())


def _header(file: Path) -> tuple["Dataset | None", str]:
    """The header, and why it is none of an image."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with told(file), without_prints():
            header = pydicom.dcmread(file, stop_before_pixels=True)
    except ImageError as error:
        is_other = isinstance(error.__cause__, InvalidDicomError)
        return None, "is not DICOM" if is_other else error.reason
    if header.file_meta.get("MediaStorageSOPClassUID") == DIRECTORY:
        return None, "is a DICOMDIR, the index of a medium: copy the folders beside it as well"
    if header.get("Modality") in NO_IMAGES:
        return None, f"is no image, but of the kind {_kind(header)}"
    if "Rows" not in header or "Columns" not in header:
        return None, f"has no rows and columns of pixels ({_kind(header)})"
    return header, ""


def _kind(header: "Dataset") -> str:
    uid = header.get("SOPClassUID")
    return str(header.get("Modality", "of no modality")) if uid is None else str(uid.name)


def _why_none(others: Mapping[Path, str]) -> str:
    if not others:
        return "holds no file"
    file, reason = next(((f, r) for f, r in others.items() if r != "is not DICOM"), next(iter(others.items())))
    more = f"; there are {len(others) - 1} more such files" if len(others) > 1 else ""
    return f"holds no image in DICOM: {file.name} {reason}{more}"
