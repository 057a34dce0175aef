"""An uploaded file as an image: PNG, TIFF or NIfTI, by nnU-Net's readers, after a look at how large it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from PIL import Image

from nnunet_diffusion_ensemble.images.reading import NIFTI_ENDINGS, ImageError, check_file, read_images, size, told

PICTURE_ENDINGS, TIFF_ENDINGS = (".png",), (".tif", ".tiff")
ENDINGS = (*PICTURE_ENDINGS, *TIFF_ENDINGS, *NIFTI_ENDINGS)
LARGEST_MB, LARGEST_VOXELS = 500, 2**26  # 2**26: 400 x 400 x 400, or a picture of 8,000 x 8,000


@dataclass(frozen=True)
class Upload:
    """An image in memory, and what is needed to write a mask in its geometry.

    Attributes:
        name: of the file, without its ending.
        ending: of the file.
        voxels: (channels, slices, rows, columns) in float32; a picture has one slice.
        properties: as nnU-Net's reader gave them.
        reader_writer: nnU-Net's.
    """

    name: str
    ending: str
    voxels: np.ndarray
    properties: dict[str, Any]
    reader_writer: BaseReaderWriter

    @property
    def is_picture(self) -> bool:
        return isinstance(self.reader_writer, NaturalImage2DIO)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Slices, rows, columns; of pictures 1 is the size of a pixel."""
        return tuple(map(float, self.properties["spacing"]))

    @property
    def size_in_words(self) -> str:
        return f"{size(self.voxels)}, {len(self.voxels)} channel(s)"

    def write_mask(self, segmentation: np.ndarray, folder: Path) -> Path:
        """Writes labels (slices, rows, columns) beside nothing else, in the format and geometry of the file."""
        file = folder / f"{self.name}_mask{self.ending}"
        self.reader_writer.write_seg(segmentation, str(file), self.properties)
        return file


def read_upload(file: Path) -> Upload:
    """Reads an uploaded file.

    Raises:
        ImageError: it is no image of these kinds, is damaged, or too large; `short` is the sentence without the folder.
    """
    ending = next((ending for ending in ENDINGS if file.name.lower().endswith(ending)), None)
    if ending is None:
        raise ImageError([file], f"is none of {', '.join(ENDINGS)}, which this page takes")
    _refuse_large(file, ending)
    check_file(file)
    reader = _reader(file, ending)
    voxels, properties = read_images(reader, [file])
    name = file.name[: -len(ending)]
    return Upload(name, ending, voxels.astype(np.float32, copy=False), properties, reader)


def _refuse_large(file: Path, ending: str) -> None:
    """Before anything is unpacked: a small file may hold an image that fills the memory."""
    size_mb = file.stat().st_size / 1e6
    if size_mb > LARGEST_MB:
        raise ImageError([file], f"has {size_mb:.0f} MB; this page takes {LARGEST_MB} MB at most")
    with told(file):
        number = _declared_voxels(file, ending)
    if number > LARGEST_VOXELS:
        raise ImageError(
            [file],
            f"has {number / 1e6:.0f} million voxels; this page takes {LARGEST_VOXELS / 1e6:.0f} million at most. Use "
            "nnunet-diffusion predict",
        )


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
