"""One case's pictures for the gallery: image, reference, prediction, single timesteps and entropy, as flat arrays.

Of a volume the slice with the largest reference area is taken, across the axis with the largest spacing, and shown as
radiologists look at it: the patient's left at the right, the head above in coronal and sagittal slices. All arrays are
turned alike, as the image lies, so that what is shown is what was compared, voxel by voxel.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec
from nnunet_diffusion_ensemble.images.geometry import Geometry
from nnunet_diffusion_ensemble.images.maps import ENDINGS, read_map
from nnunet_diffusion_ensemble.images.reading import choose_reader, read_images, read_segmentation, size
from nnunet_diffusion_ensemble.prediction.folder import ENTROPY, TIMESTEPS
from nnunet_diffusion_ensemble.system.json_files import read_object

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
class _View:
    """How a volume is looked at.

    Attributes:
        orientation: nibabel's transform of the axes (columns, rows, slices) towards the patient's left, back and head;
            None for pictures.
        spacing: of the turned axes (slices, rows, columns).
    """

    orientation: np.ndarray | None
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> "_View":
        geometry = Geometry.of(properties)
        if geometry is None or len(geometry.spacing_mm) == 2:
            return cls(None, tuple(map(float, properties["spacing"])))
        turned = ornt_transform(io_orientation(geometry.affine), axcodes2ornt(("L", "P", "S")))
        spacing = np.empty(3)
        spacing[turned[:, 0].astype(int)] = geometry.spacing_mm
        return cls(turned, tuple(spacing[::-1].tolist()))

    def __call__(self, volume: np.ndarray) -> np.ndarray:
        """A volume (slices, rows, columns), its axes towards the patient's left, back and head."""
        return volume if self.orientation is None else apply_orientation(volume.T, self.orientation).T


@dataclass(frozen=True)
class _Cut:
    """Where a volume is cut: position along an axis (slices, rows, columns)."""

    axis: int
    position: int

    def __call__(self, volume: np.ndarray) -> np.ndarray:
        plane = volume.take(self.position, self.axis)
        return plane if self.axis == 0 else plane[::-1]


@dataclass(frozen=True)
class _Files:
    """Reads the files of a case, with the reader of its model, and refuses those of another size than the image."""

    reader: BaseReaderWriter
    shape: tuple[int, ...]
    like: np.ndarray

    def labels(self, file: Path) -> np.ndarray:
        return self._checked(read_segmentation(self.reader, file)[0], file)

    def map(self, file: Path) -> np.ndarray:
        return self._checked(read_map(file, type(self.reader).__name__), file)

    def _checked(self, array: np.ndarray, file: Path) -> np.ndarray:
        if array.shape != self.shape:
            raise ValueError(f"{file} is of size {size(array[None])}, the image of {size(self.like)}")
        return array


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
    values, dataset_json = _label_values(prediction / "dataset.json", labels)
    ending = dataset_json["file_ending"]
    image_file = domain.images / f"{case}_0000{ending}"
    reader = _reader(prediction / "plans.json", dataset_json, image_file)
    image, properties = read_images(reader, [image_file])
    files, view = _Files(reader, image.shape[1:], image), _View.of(properties)
    reference = view(files.labels(domain.references / f"{case}{ending}"))
    predicted = view(files.labels(prediction / f"{case}{ending}"))
    cut = _find_cut(view.spacing, np.isin(reference, _all_values(values)), np.isin(predicted, _all_values(values)))

    def masks(labelled: np.ndarray) -> Masks:
        flat = _flat(labelled, cut)
        return {name: np.isin(flat, numbers) for name, numbers in values.items()}

    timesteps = {
        int(folder.name[1:]): masks(view(files.labels(folder / f"{case}{ending}")))
        for folder in sorted((prediction / TIMESTEPS).glob("t[0-9]*"))
    }
    map_file = prediction / ENTROPY / f"{case}{ENDINGS.get(type(reader).__name__)}"
    entropy = _flat(view(files.map(map_file)), cut) if map_file.is_file() else None
    shown = [_flat(view(channel), cut) for channel in image]
    picture = np.stack(shown, -1) if len(shown) in (3, 4) and cut is None else shown[0]
    aspect, text = _aspect(view.spacing, cut), _cut_text(cut, reference.shape)
    return CaseImages(picture, masks(reference), masks(predicted), timesteps, entropy, aspect, text)


def _label_values(file: Path, labels: tuple[str, ...]) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """The values in a label map of each label or region, and dataset.json."""
    try:
        described = json.loads(file.read_text())
        described["file_ending"].startswith(".")
        values = {name: np.atleast_1d(described["labels"][name]).tolist() for name in labels}
    except FileNotFoundError as error:
        raise ValueError(f"{file} is missing") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} does not describe the labels {', '.join(labels)}") from error
    return values, described


def _reader(plans_file: Path, dataset_json: Mapping[str, Any], image: Path) -> BaseReaderWriter:
    """That of the model; of predictions without plans the one that nnU-Net would choose."""
    if plans_file.is_file():
        return recursive_find_reader_writer_by_name(read_object(plans_file)["image_reader_writer"])()
    return choose_reader(dataset_json, [image])


def _all_values(values: Mapping[str, list[int]]) -> list[int]:
    return sorted({number for numbers in values.values() for number in numbers})


def _find_cut(spacing: tuple[float, ...], reference: np.ndarray, prediction: np.ndarray) -> _Cut | None:
    """Through the largest area of the reference, of the prediction if that is empty, or through the middle; None for
    what has one slice."""
    if len(reference) == 1:
        return None
    axis = int(np.argmax(spacing))
    others = tuple(other for other in range(3) if other != axis)
    for mask in (reference, prediction):
        areas = mask.sum(others)
        if areas.any():
            return _Cut(axis, int(areas.argmax()))
    return _Cut(axis, reference.shape[axis] // 2)


def _flat(array: np.ndarray, cut: _Cut | None) -> np.ndarray:
    return array[0] if cut is None else cut(array)


def _aspect(spacing: tuple[float, ...], cut: _Cut | None) -> float:
    rows, columns = (mm for axis, mm in enumerate(spacing) if axis != (0 if cut is None else cut.axis))
    return rows / columns


def _cut_text(cut: _Cut | None, shape: tuple[int, ...]) -> str | None:
    return None if cut is None else f"{PLANES[cut.axis]} slice {cut.position + 1} of {shape[cut.axis]}"
