"""An upload in DICOM, one file or a zip of a series, as NIfTI without anything about the patient."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nnunet_diffusion_ensemble.dicom.cases import DicomCase, find_dicom_cases
from nnunet_diffusion_ensemble.dicom.pixels import read_dicom_case
from nnunet_diffusion_ensemble.dicom.write import write_dicom_image
from nnunet_diffusion_ensemble.images.reading import ImageError, told

DICOM_ENDINGS, ZIP_ENDINGS = (".dcm", ".dicom", ".ima"), (".zip",)
NIFTI = ".nii.gz"
MAGIC_AT, MAGIC = 128, b"DICM"
MOST_FILES = 5000
LITTER = ("__MACOSX", ".")  # how names begin of what macOS adds to a zip
ONE_SLICE = "one slice alone: a zip of its series gives the volume"


@dataclass(frozen=True)
class ConvertedDicom:
    """An image in DICOM, converted.

    Attributes:
        file: NIfTI; an X-ray has two dimensions.
        name: of the case, which holds nothing about the patient.
        notes: what must be known about it, in words.
    """

    file: Path
    name: str
    notes: tuple[str, ...]


def is_dicom(file: Path) -> bool:
    """Whether a file is meant as DICOM, by its ending or, as archives leave it out, by its content."""
    if file.name.lower().endswith((*DICOM_ENDINGS, *ZIP_ENDINGS)):
        return True
    with file.open("rb") as opened:
        return opened.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC


@contextmanager
def blaming_upload(file: Path) -> Iterator[None]:
    """Says of the upload what is wrong with a file in it."""
    try:
        yield
    except ImageError as error:
        raise error if error.files == (file,) else ImageError([file], f"cannot be used: {error.short}") from error


def nifti_of_dicom(file: Path, folder: Path, most_bytes: int, most_voxels: int) -> ConvertedDicom:
    """Converts the one image of an upload.

    Args:
        file: the upload.
        folder: empty, for what is unpacked and converted; whoever made it removes it.
        most_bytes: that a zip may hold, unpacked.
        most_voxels: that the image may have.

    Raises:
        ImageError: it holds no image, several, one that cannot be read, or too much; nothing is decoded before.
        RuntimeError: pydicom or highdicom is not installed.
    """
    with blaming_upload(file):
        place = _unpacked(file, folder / "files", most_bytes) if file.name.lower().endswith(ZIP_ENDINGS) else file
        case = _only_case(file, place)
        number = _declared_voxels(case)
        if number > most_voxels:
            raise ImageError([file], too_many_voxels(number, most_voxels))
        image = read_dicom_case(case)
        target = folder / f"{case.name}{NIFTI}"
        write_dicom_image(image, target, NIFTI)
    alone = not case.is_projection and image.voxels.shape[0] == 1
    return ConvertedDicom(target, case.name, (*image.notes, *([ONE_SLICE] if alone else [])))


def too_many_voxels(number: int, most: int) -> str:
    """The predicate of an image that is too large."""
    return (
        f"has {number / 1e6:.0f} million voxels; this page takes {most / 1e6:.0f} million at most. Use "
        "nnunet-diffusion predict"
    )


def _only_case(file: Path, place: Path) -> DicomCase:
    found = find_dicom_cases(place)
    for problem in found.problems.values():
        raise problem
    if len(found.cases) > 1:
        raise ImageError([file], f"holds {len(found.cases)} different images or series; this page looks at one")
    return found.cases[0]


def _declared_voxels(case: DicomCase) -> int:
    """What the headers say."""
    sizes = ((h.Rows, h.Columns, h.get("NumberOfFrames") or 1) for h in case.headers)
    return sum(int(rows) * int(columns) * int(frames) for rows, columns, frames in sizes)


def _unpacked(file: Path, folder: Path, most_bytes: int) -> Path:
    """The files of a zip, each in a folder of its own: names may repeat, and paths in it lead nowhere."""
    with told(file), zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if not member.is_dir() and not _is_litter(member.filename)]
        size = sum(member.file_size for member in members)
        if len(members) > MOST_FILES:
            raise ImageError([file], f"holds {len(members)} files; this page takes {MOST_FILES} at most")
        if size > most_bytes:
            most = most_bytes / 1e6
            raise ImageError([file], f"holds {size / 1e6:.0f} MB, unpacked; this page takes {most:.0f} MB at most")
        folder.mkdir()
        for number, member in enumerate(members):
            target = folder / f"{number:05d}" / _base_name(member.filename)
            target.parent.mkdir()
            target.write_bytes(archive.read(member))  # which reads no more than the size that was declared
    return folder


def _base_name(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _is_litter(name: str) -> bool:
    return name.startswith(LITTER[0]) or _base_name(name).startswith(LITTER[1]) or not _base_name(name)
