"""A case in DICOM as an image: values with a meaning, and where they lie.

Of slices the values of the modality (Hounsfield units in CT), without a window. Of an X-ray what a screen shows:
modality LUT, VOI LUT or first window, and MONOCHROME1 turned round, so that bone is white.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_diffusion_ensemble.dicom.cases import DicomCase, find_dicom_cases
from nnunet_diffusion_ensemble.images.geometry import Geometry
from nnunet_diffusion_ensemble.images.reading import ImageError, finite_voxels, told, without_prints

if TYPE_CHECKING:
    from highdicom import Volume
    from pydicom import Dataset

# Of X-rays: where a spacing comes from, what it means.
SPACINGS = {
    "PixelSpacing": "in the patient, or calibrated",
    "ImagerPixelSpacing": "at the detector: lengths in the patient are smaller, by the magnification",
    "NominalScannedPixelSpacing": "on the film that was scanned",
}
TO_RIGHT_ANTERIOR_SUPERIOR = np.diag([-1.0, -1.0, 1.0])  # DICOM's axes point to the left and to the back


@dataclass(frozen=True)
class DicomImage:
    """An image.

    Attributes:
        case: that it was read from.
        voxels: (slices, rows, columns); an X-ray has one slice, of uint8 or uint16 over the whole range of the type.
        geometry: where they lie, axes in the order columns, rows, slices; of an X-ray two axes and the origin 0.
        notes: what must be known about it, in words.
    """

    case: DicomCase
    voxels: np.ndarray
    geometry: Geometry
    notes: tuple[str, ...] = ()

    @property
    def spacing(self) -> tuple[float, ...]:
        """In mm in the order of `voxels`; of an X-ray (rows, columns)."""
        return tuple(self.geometry.spacing_mm[::-1].tolist())


def read_dicom(place: Path) -> DicomImage:
    """The one image in a folder or file.

    Raises:
        FileNotFoundError: there is no such place.
        ImageError: it holds none, several, or one that cannot be read; files are named.
        RuntimeError: pydicom is not installed.
    """
    found = find_dicom_cases(place)
    for problem in found.problems.values():
        raise problem
    if len(found.cases) > 1:
        files = [case.files[0] for case in found.cases]
        raise ImageError(files, f"belong to {len(files)} different images or series; one is needed")
    return read_dicom_case(found.cases[0])


def read_dicom_case(case: DicomCase) -> DicomImage:
    """Raises ImageError, which names the file, if pixels are missing or cannot be decoded."""
    datasets = [_with_pixels(file) for file in case.files]
    with told(case.files[0]), without_prints():
        image = _projection(case, datasets[0]) if case.is_projection else _volume(case, datasets)
    finite_voxels(image.voxels, case.files[0])
    if problem := image.geometry.problem(image.voxels.shape):
        raise ImageError(case.files[:1], problem)
    return image


def _with_pixels(file: Path) -> "Dataset":
    import pydicom

    with told(file), without_prints():
        dataset = pydicom.dcmread(file)
        if "PixelData" not in dataset:
            raise ImageError([file], "holds no pixels, only their description")
        _ = dataset.pixel_array  # decodes it, and is kept
    return dataset


def _volume(case: DicomCase, datasets: Sequence["Dataset"]) -> DicomImage:
    volume = _read_volume(datasets).ensure_handedness("LEFT_HANDED", flip_axis=0)  # columns, rows, slices: right
    affine = np.asarray(volume.affine, np.float64)[:3, [2, 1, 0, 3]]  # highdicom's indices are slices, rows, columns
    spacing = np.linalg.norm(affine[:, :3], axis=0)
    geometry = Geometry(spacing, affine[:, :3] / spacing, affine[:, 3], TO_RIGHT_ANTERIOR_SUPERIOR)
    return DicomImage(case, _as_integers(np.asarray(volume.array)), geometry, tuple(_notes(case)))


def _read_volume(datasets: Sequence["Dataset"]) -> "Volume":
    """highdicom's, in values of the modality."""
    import highdicom as hd

    values: dict[str, Any] = {
        "dtype": np.float32,
        "apply_real_world_transform": False,
        "apply_voi_transform": False,
        "apply_presentation_lut": False,
    }
    if int(datasets[0].get("NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in datasets[0]:
        return hd.Image.from_dataset(datasets[0], copy=False).get_volume(**values)
    for dataset in datasets:  # they agree within our tolerance, highdicom wants the same text
        dataset.PixelSpacing = datasets[0].PixelSpacing
    if len(datasets) == 1 and "SpacingBetweenSlices" not in datasets[0]:
        datasets[0].SpacingBetweenSlices = float(datasets[0].get("SliceThickness") or 1.0)
    return hd.image.get_volume_from_series(datasets, orientation_tol=1e-3, **values)


def _as_integers(values: np.ndarray) -> np.ndarray:
    """Whole numbers that fit as int16, as CT's are; others as they are."""
    whole = np.rint(values)
    limits = np.iinfo(np.int16)
    is_whole = np.array_equal(whole, values) and whole.min() >= limits.min and whole.max() <= limits.max
    return whole.astype(np.int16) if is_whole else values


def _projection(case: DicomCase, dataset: "Dataset") -> DicomImage:
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    low, high = _shown_range(dataset)
    shares = np.clip((values - low) / (high - low), 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        shares = 1 - shares
    kind = np.uint8 if high - low <= np.iinfo(np.uint8).max else np.uint16
    voxels = np.rint(shares * np.iinfo(kind).max).astype(kind)[None]
    spacing, note = _projection_spacing(dataset)
    geometry = Geometry(np.array(spacing), np.eye(2), np.zeros(2), np.diag([-1.0, -1.0]))
    return DicomImage(case, voxels, geometry, (note, *_notes(case)))


def _shown_range(dataset: "Dataset") -> tuple[float, float]:
    """Of the values that `apply_voi_lut` gives: of its LUT; or of what can be stored, as the modality rescales it."""
    for name in ("VOILUTSequence", "ModalityLUTSequence"):
        if luts := dataset.get(name):
            return 0.0, 2.0 ** int(luts[0].LUTDescriptor[2]) - 1
    bits, is_signed = int(dataset.BitsStored), int(dataset.PixelRepresentation) == 1
    stored = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    return slope * stored[0] + intercept, slope * stored[1] + intercept


def _projection_spacing(dataset: "Dataset") -> tuple[tuple[float, float], str]:
    """Of columns and rows in mm, and what it means."""
    for name, meaning in SPACINGS.items():
        if values := dataset.get(name):
            return (float(values[1]), float(values[0])), f"spacing from {name}, {meaning}"
    return (1.0, 1.0), "no spacing: 1 mm is made up, lengths are pixels"


def _notes(case: DicomCase) -> list[str]:
    marked = any(header.get("BurnedInAnnotation") == "YES" for header in case.headers)
    return ["has text in its pixels (Burned In Annotation), which may name the patient"] if marked else []
