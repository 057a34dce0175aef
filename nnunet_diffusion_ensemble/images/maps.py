"""Maps of numbers beside a segmentation, such as a probability: written and read by one library in one geometry.

A map that one library writes and another reads is not the same map: ITK turns NaN into 0 and refuses shear.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk

from nnunet_diffusion_ensemble.images.reading import ImageError, check_file, finite_voxels, told

# By nnU-Net's reader of the images: the ending of maps. Not those that turn images, which would have to be undone.
ENDINGS = {"NaturalImage2DIO": ".tif", "Tiff3DIO": ".tif", "SimpleITKIO": ".nii.gz", "NibabelIO": ".nii.gz"}


def write_map(values: np.ndarray, file: Path, properties: Mapping[str, Any]) -> None:
    """Writes a float32 image.

    Args:
        values: (slices, rows, columns), the axes of nnU-Net's readers; a picture has one slice.
        file: `.nii.gz`, or `.tif` for images without geometry.
        properties: of the case, as nnU-Net's reader gave them.

    Raises:
        ValueError: there are NaN or infinite values.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"{file.name} would hold NaN or infinite values")
    values = values.astype(np.float32)
    if "nibabel_stuff" in properties:
        affine = properties["nibabel_stuff"]["original_affine"]
        nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), file)
        return
    geometry = properties.get("sitk_stuff")
    flat = len(values) == 1 if geometry is None else len(geometry["spacing"]) == 2
    image = sitk.GetImageFromArray(values[0] if flat else values)
    if geometry is not None:
        image.SetSpacing(geometry["spacing"])
        image.SetOrigin(geometry["origin"])
        image.SetDirection(geometry["direction"])
    sitk.WriteImage(image, str(file), True)


def read_map(file: Path, reader_name: str) -> np.ndarray:
    """What `write_map` wrote, (slices, rows, columns) in float32.

    Args:
        file: to read.
        reader_name: nnU-Net's reader of the images, in whose library it was written.

    Raises:
        ImageError: it is missing, not whole, or holds NaN.
    """
    check_file(file)
    with told(file):
        if reader_name == "NibabelIO":
            values = np.asarray(nibabel.nifti1.Nifti1Image.from_filename(file).dataobj, np.float32).transpose(2, 1, 0)
        else:
            values = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    if values.ndim not in (2, 3):
        raise ImageError([file], f"has {values.ndim} axes, a map has 2 or 3")
    return finite_voxels(values if values.ndim == 3 else values[None], file)
