"""An image that came as DICOM as a file that nnU-Net reads; nothing about the patient goes with it."""

from pathlib import Path

import SimpleITK as sitk
from PIL import Image

from nnunet_diffusion_ensemble.dicom.pixels import DicomImage
from nnunet_diffusion_ensemble.images.reading import ImageError

PICTURES = (".png", ".bmp")
WITH_GEOMETRY = (".nii.gz", ".nii", ".nrrd", ".mha")


def write_dicom_image(image: DicomImage, file: Path, ending: str) -> None:
    """Writes it with its spacing and place, or as a picture, which has none.

    Args:
        image: an X-ray becomes an image of two dimensions.
        file: where.
        ending: of the kind of file.

    Raises:
        ImageError: files of this kind cannot hold it.
    """
    flat = image.case.is_projection
    if ending in PICTURES and flat:
        Image.fromarray(image.voxels[0]).save(file)
        return
    if ending not in WITH_GEOMETRY:
        holds = "pictures, this is a volume" if ending in PICTURES else "no place in the patient"
        raise ImageError(image.case.files[:1], f"cannot be stored as {ending}: such files hold {holds}")
    written = sitk.GetImageFromArray(image.voxels[0] if flat else image.voxels)
    written.SetSpacing(image.geometry.spacing_mm.tolist())
    written.SetOrigin(image.geometry.origin_mm.tolist())
    written.SetDirection(image.geometry.directions.ravel().tolist())
    sitk.WriteImage(written, str(file), True)
