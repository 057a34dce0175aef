"""An uploaded file as an image: PNG, TIFF, NIfTI or DICOM, by nnU-Net's readers, after a look at how large it is."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from PIL import Image

from nnunet_diffusion_ensemble.app.dicom_upload import (
    DICOM_ENDINGS,
    NIFTI,
    ZIP_ENDINGS,
    is_dicom,
    nifti_of_dicom,
    too_many_voxels,
)
from nnunet_diffusion_ensemble.images.reading import (
    NIFTI_ENDINGS,
    ImageError,
    check_file,
    is_flat,
    read_images,
    size,
    told,
)

PICTURE_ENDINGS, TIFF_ENDINGS = (".png",), (".tif", ".tiff")
ENDINGS = (*PICTURE_ENDINGS, *TIFF_ENDINGS, *NIFTI_ENDINGS)
TAKEN = (*ENDINGS, *DICOM_ENDINGS[:1], *ZIP_ENDINGS)
LARGEST_MB, LARGEST_VOXELS = 500, 2**26  # 2**26: 400 x 400 x 400, or a picture of 8,000 x 8,000


@dataclass(frozen=True)
class Upload:
    """An image in memory, and what is needed to write a mask in its geometry.

    Attributes:
        name: of the file, without its ending; of DICOM that of the case, which tells nobody the patient.
        ending: of the file, and of the mask; of DICOM that of NIfTI, which holds its geometry.
        voxels: (channels, slices, rows, columns) in float32; a picture has one slice.
        properties: as nnU-Net's reader gave them.
        reader_writer: nnU-Net's.
        notes: what must be known about it, in words.
    """

    name: str
    ending: str
    voxels: np.ndarray
    properties: dict[str, Any]
    reader_writer: BaseReaderWriter
    notes: tuple[str, ...] = ()

    @property
    def is_picture(self) -> bool:
        """Whether it is one slice without a thickness: a picture, an X-ray."""
        return isinstance(self.reader_writer, NaturalImage2DIO) or is_flat(self.voxels, self.properties)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Slices, rows, columns; of pictures 1 is the size of a pixel."""
        return tuple(map(float, self.properties["spacing"]))

    @property
    def in_words(self) -> str:
        """Its size, and what must be known about it."""
        channels = len(self.voxels)
        return "; ".join([f"{size(self.voxels)}, {channels} channel{'s' if channels > 1 else ''}", *self.notes])

    def write_mask(self, segmentation: np.ndarray, folder: Path) -> Path:
        """Writes labels (slices, rows, columns) beside nothing else, in the format and geometry of the file."""
        file = folder / f"{self.name}_mask{self.ending}"
        self.reader_writer.write_seg(segmentation, str(file), self.properties)
        return file


def read_upload(file: Path) -> Upload:
    """Reads an uploaded file.

    Raises:
        ImageError: it is no image of these kinds, is damaged, or too large; `short` is the sentence without the folder.
        RuntimeError: it is DICOM, and the library that reads it is not installed.
    """
    _refuse_large(file)
    if is_dicom(file):
        return _read_dicom(file)
    ending = next((ending for ending in ENDINGS if file.name.lower().endswith(ending)), None)
    if ending is None:
        raise ImageError([file], f"is none of {', '.join(TAKEN)}, which this page takes")
    _refuse_many_voxels(file, ending)
    check_file(file)
    reader = _reader(file, ending)
    voxels, properties = read_images(reader, [file])
    name = file.name[: -len(ending)]
    return Upload(name, ending, voxels.astype(np.float32, copy=False), properties, reader)


def _read_dicom(file: Path) -> Upload:
    """By way of a NIfTI file beside it, which lies there no longer than this takes."""
    with TemporaryDirectory(dir=file.parent) as folder:
        converted = nifti_of_dicom(file, Path(folder), LARGEST_MB * 10**6, LARGEST_VOXELS)
        reader = SimpleITKIO()
        voxels, properties = read_images(reader, [converted.file])
    voxels = voxels.astype(np.float32, copy=False)
    return Upload(converted.name, NIFTI, voxels, properties, reader, converted.notes)


def _refuse_large(file: Path) -> None:
    size_mb = file.stat().st_size / 1e6
    if size_mb > LARGEST_MB:
        raise ImageError([file], f"has {size_mb:.0f} MB; this page takes {LARGEST_MB} MB at most")


def _refuse_many_voxels(file: Path, ending: str) -> None:
    """Before anything is unpacked: a small file may hold an image that fills the memory."""
    with told(file):
        number = _declared_voxels(file, ending)
    if number > LARGEST_VOXELS:
        raise ImageError([file], too_many_voxels(number, LARGEST_VOXELS))


def _declared_voxels(file: Path, ending: str) -> int:
    """What the header says."""
    if ending in NIFTI_ENDINGS:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
        return int(np.prod(reader.GetSize()))
    with Image.open(file) as image:
        return image.width * image.height * getattr(image, "n_frames", 1)


def _reader(file: Path, ending: str) -> BaseReaderWriter:
    if ending in NIFTI_ENDINGS:
        return SimpleITKIO()
    with told(file), Image.open(file) as image:
        return Tiff3DIO() if getattr(image, "n_frames", 1) > 1 else NaturalImage2DIO()
