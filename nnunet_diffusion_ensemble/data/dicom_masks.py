"""Masks of images in DICOM: pictures or NIfTI, found by name and compared with the image that they belong to."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_diffusion_ensemble.data.pixels import read_mask
from nnunet_diffusion_ensemble.dicom.cases import DicomCase
from nnunet_diffusion_ensemble.dicom.pixels import DicomImage
from nnunet_diffusion_ensemble.images.geometry import Geometry
from nnunet_diffusion_ensemble.images.reading import ImageError, check_file, size, told
from nnunet_diffusion_ensemble.system.messages import raise_listing

PICTURES = (".png", ".bmp", ".tif", ".tiff")
VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha")


@dataclass(frozen=True)
class MaskedCase:
    """A case, the folder of the data set that it goes to, and its mask if it has one."""

    case: DicomCase
    folder: str
    mask: Path | None


def pair_with_masks(cases: Sequence[DicomCase], masks: Path, ending: str) -> list[MaskedCase]:
    """Labelled cases with their masks: named by the case, or by the X-ray's file or the folder of the series.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a case has no mask or several, a mask has no case or several.
    """
    if not masks.is_dir():
        raise FileNotFoundError(f"{masks} is not a folder.")
    files: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(masks.glob("[!.]*")):
        if found := next((one for one in (*VOLUMES, *PICTURES) if file.name.lower().endswith(one)), None):
            files[file.name[: -len(found)]].append(file)
    used: dict[Path, DicomCase] = {}
    paired, problems = [], []
    for case in cases:
        there = files[case.name] + files[case.source]
        if len(there) != 1:
            what = f"has {len(there)} masks" if there else "has no mask"
            problems.append(f"{case.files[0]} {what}: name it {case.source}{ending} or {case.name}{ending} in {masks}")
        elif there[0] in used:
            problems.append(f"{there[0]} would be the mask of {used[there[0]].files[0]} and of {case.files[0]}")
        else:
            used[there[0]] = case
            paired.append(MaskedCase(case, "imagesTr", there[0]))
    problems += [f"{file} has no image" for group in files.values() for file in group if file not in used]
    raise_listing("Masks and images do not pair:", problems)
    return paired


def read_case_mask(file: Path, image: DicomImage | None = None) -> np.ndarray:
    """Values (slices, rows, columns) of a mask.

    Args:
        file: picture or volume.
        image: that it belongs to, to be compared with.

    Raises:
        ValueError: it cannot be read, holds no whole numbers from 0, or does not lie on the image.
    """
    geometry: Geometry | None = None
    if file.suffix.lower() in PICTURES:
        values = read_mask(file)[None]
    else:
        values, geometry = _read_volume(file)
    if not np.array_equal(values, np.rint(values)) or values.min() < 0:
        raise ImageError([file], "holds values that are no labels: whole numbers from 0 are")
    if image is not None:
        _compare(file, values, geometry, image)
    return values.astype(np.int64)


def _read_volume(file: Path) -> tuple[np.ndarray, Geometry]:
    check_file(file)
    with told(file):
        mask = sitk.ReadImage(str(file))
        values = sitk.GetArrayFromImage(mask)
        dimension = mask.GetDimension()
        directions = np.array(mask.GetDirection()).reshape(dimension, dimension)
        flip = np.diag([-1.0, -1.0, 1.0][:dimension])
        geometry = Geometry(np.array(mask.GetSpacing()), directions, np.array(mask.GetOrigin()), flip)
    return (values if dimension == 3 else values[None]), geometry


def _compare(file: Path, values: np.ndarray, geometry: Geometry | None, image: DicomImage) -> None:
    first = image.case.files[0]
    if values.shape != image.voxels.shape:
        raise ImageError([file], f"is of size {size(values[None])}, its image {first} of {size(image.voxels[None])}")
    if geometry is not None and (differs := geometry.difference(image.geometry)):
        raise ImageError([file], f"has {differs.format(other=f'its image {first}')}")
