"""Slices of a series: their order, and whether they are one volume; what is wrong names the files."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_diffusion_ensemble.dicom.files import DicomFile
from nnunet_diffusion_ensemble.images.geometry import DIRECTION_TOLERANCE, SPACING_TOLERANCE, numbers_in_words
from nnunet_diffusion_ensemble.images.reading import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

GAP_TOLERANCE = 0.01  # relative to the usual distance of slices; highdicom's as well
SAME_PLACE_MM = 1e-3
GREY = ("MONOCHROME1", "MONOCHROME2")


def pixel_problem(header: "Dataset") -> str:
    """Whether its pixels are no grey values, as a predicate; empty if they are."""
    interpretation = str(header.get("PhotometricInterpretation", ""))
    if interpretation not in GREY or int(header.get("SamplesPerPixel") or 1) != 1:
        return f"is in colour ({interpretation or 'of no photometric interpretation'}); grey images are read"
    return ""


def frames_problem(header: "Dataset") -> str:
    """Whether frames in one file are no volume, e.g. a film."""
    groups = header.get("PerFrameFunctionalGroupsSequence") or []
    if groups and all("PlanePositionSequence" in group for group in groups):
        return ""
    return (
        f"holds {header.get('NumberOfFrames')} frames without a place in the patient, e.g. a film: a case is one image "
        "or one volume; export the frame that is meant"
    )


def _normal(header: "Dataset") -> np.ndarray:
    directions = np.asarray(header.ImageOrientationPatient, np.float64)
    return np.cross(directions[:3], directions[3:])


def _has_place(image: DicomFile) -> bool:
    return all(image.header.get(name) for name in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"))


def in_order(images: Sequence[DicomFile]) -> list[DicomFile]:
    """Along the normal of the first slice; as they came, if one has no place."""
    if not all(map(_has_place, images)):
        return list(images)
    normal = _normal(images[0].header)
    return sorted(images, key=lambda image: float(normal @ np.asarray(image.header.ImagePositionPatient, np.float64)))


def stack_problem(images: Sequence[DicomFile]) -> ImageError | None:
    """Why slices, in their order, are no volume; None if they are one."""
    for image in images:
        if not _has_place(image):
            return ImageError([image.file], "lacks its position, orientation or pixel spacing")
        if not image.header.get("FrameOfReferenceUID"):
            return ImageError([image.file], "lacks a frame of reference: where its slices lie is not known")
    return _difference(images) or _distance_problem(images)


def _difference(images: Sequence[DicomFile]) -> ImageError | None:
    """In what a slice differs from the first."""
    first = images[0]
    for other in images[1:]:
        files = [first.file, other.file]
        for name, words, tolerance in (
            ("FrameOfReferenceUID", "lie in two frames of reference, though in one series: store them apart", None),
            ("ImageOrientationPatient", "differ in orientation: {} and {}", DIRECTION_TOLERANCE),
            ("PixelSpacing", "differ in pixel spacing: {} and {} mm", SPACING_TOLERANCE),
            ("Rows", "differ in their rows: {} and {}", 0.0),
            ("Columns", "differ in their columns: {} and {}", 0.0),
        ):
            values = first.header.get(name), other.header.get(name)
            if not _is_same(*values, tolerance):
                return ImageError(files, words.format(*map(_in_words, values)))
    return None


def _is_same(one: Any, other: Any, tolerance: float | None) -> bool:
    if tolerance is None:
        return one == other
    return np.allclose(np.asarray(one, np.float64), np.asarray(other, np.float64), rtol=0, atol=tolerance)


def _in_words(value: Any) -> str:
    return numbers_in_words(value) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _distance_problem(images: Sequence[DicomFile]) -> ImageError | None:
    if len(images) == 1:
        return None
    steps = np.diff([np.asarray(image.header.ImagePositionPatient, np.float64) for image in images], axis=0)
    along = steps @ _normal(images[0].header)
    usual = float(np.median(along))
    for position, (step, distance) in enumerate(zip(steps, along, strict=True)):
        files = [image.file for image in images[position : position + 2]]
        if distance < SAME_PLACE_MM:
            return ImageError(
                files, "lie at one place: several volumes in one series (times, echoes, copies); store each apart"
            )
        if abs(distance - usual) > GAP_TOLERANCE * usual:
            return ImageError(
                files, f"lie {distance:g} mm apart, most others {usual:g} mm: slices are missing, or unevenly spaced"
            )
        if np.linalg.norm(step) > distance * (1 + DIRECTION_TOLERANCE):
            return ImageError(
                files, "are shifted against each other (a tilted gantry): resample the series to right angles"
            )
    return None
