"""One case's pictures for the gallery: image, reference, prediction, single timesteps and entropy, as flat arrays.

Of a volume the slice with the largest reference area is taken, across the axis with the largest spacing, and shown as
radiologists look at it: the patient's left at the right, the head above in coronal and sagittal slices.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec
from nnunet_diffusion_ensemble.prediction.folder import ENTROPY, TIMESTEPS

Masks = dict[str, np.ndarray]
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class CaseImages:
    """Arrays of one size (rows, columns).

    Attributes:
        image: the first channel, in its own range; an RGB picture has a third axis.
        reference: boolean masks by label.
        prediction: the same.
        timesteps: the same by timestep; empty where there are none.
        entropy: between 0 and 1, if it was written.
        aspect: height of a pixel, its width being 1.
        cut: which slice of a volume, in words.
    """

    image: np.ndarray
    reference: Masks
    prediction: Masks
    timesteps: Mapping[int, Masks] = field(default_factory=dict)
    entropy: np.ndarray | None = None
    aspect: float = 1.0
    cut: str | None = None


@dataclass(frozen=True)
class _Cut:
    """Where a volume is cut: position along an axis (slices, rows, columns)."""

    axis: int
    position: int

    def __call__(self, volume: np.ndarray) -> np.ndarray:
        plane = volume.take(self.position, self.axis)
        return plane if self.axis == 0 else plane[::-1]


def read_case(domain: DomainSpec, prediction: Path, case: str, labels: tuple[str, ...]) -> CaseImages:
    """Reads a case.

    Args:
        domain: where its image and reference are.
        prediction: folder of `nnunet-diffusion predict`.
        case: its name.
        labels: labels or regions whose masks are wanted, by their names in dataset.json.

    Raises:
        ValueError: a file is missing, unreadable or of another size than the image; it is named.
    """
    values, ending = _label_values(prediction / "dataset.json", labels)
    image_file = domain.images / f"{case}_0000{ending}"
    image = _read(image_file)
    shape = sitk.GetArrayViewFromImage(image).shape[: image.GetDimension()]
    reference = _array(domain.references / f"{case}{ending}", shape)
    predicted = _array(prediction / f"{case}{ending}", shape)
    cut = _find_cut(image, np.isin(reference, _all_values(values)), np.isin(predicted, _all_values(values)))

    def masks(labelled: np.ndarray) -> Masks:
        flat = _flat(labelled, cut)
        return {name: np.isin(flat, numbers) for name, numbers in values.items()}

    timesteps = {
        int(folder.name[1:]): masks(_array(folder / f"{case}{ending}", shape))
        for folder in sorted((prediction / TIMESTEPS).glob("t[0-9]*"))
    }
    maps = [file for file in (prediction / ENTROPY / f"{case}{end}" for end in (".tif", ".nii.gz")) if file.is_file()]
    entropy = _flat(_array(maps[0], shape), cut) if maps else None
    shown = _flat(sitk.GetArrayFromImage(image), cut)
    aspect, text = _aspect(image, cut), _cut_text(cut, shape)
    return CaseImages(shown, masks(reference), masks(predicted), timesteps, entropy, aspect, text)


def _label_values(file: Path, labels: tuple[str, ...]) -> tuple[dict[str, list[int]], str]:
    """The values in a label map of each label or region, and the ending of image files."""
    try:
        described = json.loads(file.read_text())
        ending, named = described["file_ending"], described["labels"]
        values = {name: np.atleast_1d(named[name]).tolist() for name in labels}
    except FileNotFoundError as error:
        raise ValueError(f"{file} is missing") from error
    except (KeyError, ValueError) as error:
        raise ValueError(f"{file} does not describe the labels {', '.join(labels)}") from error
    return values, ending


def _all_values(values: Mapping[str, list[int]]) -> list[int]:
    return sorted({number for numbers in values.values() for number in numbers})


def _read(file: Path) -> sitk.Image:
    """An image; volumes with axes towards the patient's left, back and head."""
    if not file.is_file():
        raise ValueError(f"{file} is missing")
    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError as error:
        raise ValueError(f"{file} cannot be read") from error
    return sitk.DICOMOrient(image, "LPS") if image.GetDimension() == 3 else image


def _array(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    array = sitk.GetArrayFromImage(_read(file))
    if array.shape != shape:
        raise ValueError(f"{file} is of size {_size(array.shape)}, the image of {_size(shape)}")
    return array


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _find_cut(image: sitk.Image, reference: np.ndarray, prediction: np.ndarray) -> _Cut | None:
    """Through the largest area of the reference, of the prediction if that is empty, or through the middle."""
    if reference.ndim == 2:
        return None
    axis = int(np.argmax(image.GetSpacing()[::-1]))
    others = tuple(other for other in range(3) if other != axis)
    for mask in (reference, prediction):
        areas = mask.sum(others)
        if areas.any():
            return _Cut(axis, int(areas.argmax()))
    return _Cut(axis, reference.shape[axis] // 2)


def _flat(array: np.ndarray, cut: _Cut | None) -> np.ndarray:
    return array if cut is None else cut(array)


def _aspect(image: sitk.Image, cut: _Cut | None) -> float:
    spacing = list(image.GetSpacing()[::-1])
    if cut is not None:
        del spacing[cut.axis]
    return spacing[0] / spacing[1]


def _cut_text(cut: _Cut | None, shape: tuple[int, ...]) -> str | None:
    return None if cut is None else f"{PLANES[cut.axis]} slice {cut.position + 1} of {shape[cut.axis]}"
