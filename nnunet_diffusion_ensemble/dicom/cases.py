"""Images in DICOM as cases: an X-ray each, a series of slices each, a file of many slices each; and under which name.

A name is the modality and the beginning of the SHA-256 of a UID. Whoever has the UID can tell the name again, nobody
can read a patient from it.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_diffusion_ensemble.dicom.files import DicomFile, read_headers
from nnunet_diffusion_ensemble.dicom.stack import frames_problem, in_order, pixel_problem, stack_problem
from nnunet_diffusion_ensemble.images.reading import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

DIGITS = 12  # of a checksum: among a million cases two are of one name with a probability of 1 in 500


@dataclass(frozen=True)
class DicomCase:
    """An image to be.

    Attributes:
        name: holds nothing about the patient.
        files: of slices in their order, the first where the normal of the slices begins; or one.
        headers: of the files.
        source: name that people know it by, which may tell who the patient is: of the file without its ending, of
            slices that of their folder.
    """

    name: str
    files: tuple[Path, ...]
    headers: tuple["Dataset", ...]
    source: str

    @property
    def modality(self) -> str:
        return str(self.headers[0].get("Modality", "") or "OT")

    @property
    def is_projection(self) -> bool:
        """An X-ray or another picture that lies nowhere in the patient."""
        return _is_projection(self.headers[0])


@dataclass(frozen=True)
class FoundDicom:
    """What lies in a folder.

    Attributes:
        cases: those that can be read, as far as headers tell.
        problems: by the name of a case, files and what is wrong with them.
        others: files that are no images, and what they are.
    """

    cases: Sequence[DicomCase]
    problems: Mapping[str, ImageError] = field(default_factory=dict)
    others: Mapping[Path, str] = field(default_factory=dict)


def find_dicom_cases(place: Path) -> FoundDicom:
    """The images of a folder and of all folders in it, or of one file.

    Raises:
        FileNotFoundError: there is no such place.
        ImageError: nothing there is an image in DICOM.
        RuntimeError: pydicom is not installed.
    """
    images, others = read_headers(place)
    cases: list[DicomCase] = []
    problems: dict[str, ImageError] = {}
    for uid, group in _groups(images).items():
        case = _case(uid, group)
        problem = _problem(case)
        if problem is None:
            cases.append(case)
        else:
            problems[case.name] = problem
    return FoundDicom(cases, problems, others)


def _is_projection(header: "Dataset") -> bool:
    return "ImagePositionPatient" not in header and not _is_multi_frame(header)


def _is_multi_frame(header: "Dataset") -> bool:
    return int(header.get("NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in header


def _groups(images: Iterable[DicomFile]) -> dict[str, list[DicomFile]]:
    """By the UID that makes a case: of the series where files are slices, otherwise of the image."""
    groups: dict[str, list[DicomFile]] = {}
    for image in images:
        alone = _is_projection(image.header) or _is_multi_frame(image.header)
        uid = image.header.get("SOPInstanceUID" if alone else "SeriesInstanceUID")
        groups.setdefault(str(uid) if uid else f"none in {image.file}", []).append(image)
    return groups


def _case(uid: str, images: Sequence[DicomFile]) -> DicomCase:
    first = images[0]
    modality = re.sub(r"[^a-z0-9]", "", str(first.header.get("Modality", "")).lower()) or "ot"
    name = f"{modality}_{hashlib.sha256(uid.encode()).hexdigest()[:DIGITS]}"
    slices = not _is_projection(first.header) and not _is_multi_frame(first.header)
    ordered = in_order(images) if slices else images
    source = first.file.parent.name if slices else re.sub(r"(?i)\.(dcm|dicom|ima)$", "", first.file.name)
    return DicomCase(name, tuple(i.file for i in ordered), tuple(i.header for i in ordered), source)


def _problem(case: DicomCase) -> ImageError | None:
    """What the headers say against it."""
    images = [DicomFile(file, header) for file, header in zip(case.files, case.headers, strict=True)]
    for image in images:
        text = pixel_problem(image.header)
        if not image.header.get("SOPInstanceUID") or not image.header.get("SeriesInstanceUID"):
            text = "lacks the UID of its image or series, which every DICOM file must have"
        if text:
            return ImageError([image.file], text)
    if _is_multi_frame(case.headers[0]):
        text = frames_problem(case.headers[0])
        return ImageError(case.files, text) if text else None
    if case.is_projection:
        return ImageError(case.files, "are one image (one SOP Instance UID): keep one") if len(images) > 1 else None
    return stack_problem(images)
