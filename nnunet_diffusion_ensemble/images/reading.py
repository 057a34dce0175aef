"""Images and segmentations as nnU-Net's reader of the plans gives them, and nothing that is not whole and finite.

The one way in: planning, preprocessing, prediction, evaluation and report read through these functions.
"""

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from nnunet_diffusion_ensemble.images.containers import PROBLEMS
from nnunet_diffusion_ensemble.images.geometry import LARGEST_MM, Geometry, difference, numbers_in_words
from nnunet_diffusion_ensemble.images.nifti import NOT_FINITE, nifti_problem
from nnunet_diffusion_ensemble.nnunet.raw_shards import name_in_folder
from nnunet_diffusion_ensemble.system.messages import in_one_line

# imageio asks for it at every image, and what is not there Python looks for in every folder each time, which takes as
# long as to read a small image.
if find_spec("pillow_heif") is None:
    sys.modules["pillow_heif"] = None  # type: ignore[assignment]

NIFTI_ENDINGS = (".nii", ".nii.gz")
MOST_EXAMPLES = 5
COLOURS = (
    " (3 are colours, 4 colours and transparency: nnunet-diffusion convert stores grey pictures with one channel, and "
    "drops the transparency)"
)
FLAT_IN_3D = "has 2 dimensions, and this is a configuration for volumes: nnU-Net would make 999 slices of it"
Properties = dict[str, Any]


class ImageError(ValueError):
    """Files that cannot be used, and why.

    Attributes:
        files: all of them.
        reason: a predicate, such as `cannot be read (...)`.
    """

    def __init__(self, files: Sequence[Path], reason: str):
        super().__init__(f"{', '.join(map(str, files))} {reason}")
        self.files, self.reason = tuple(files), reason

    def __reduce__(self) -> tuple:
        return ImageError, (self.files, self.reason)

    @property
    def short(self) -> str:
        """With the names of the files alone, or of shard and member, for lists whose headline names the folder."""
        return f"{', '.join(map(name_in_folder, self.files))} {self.reason}"


def check_file(file: Path) -> None:
    """Raises ImageError for a file that is not there, or not whole, or (NIfTI) holds NaN or has no possible spacing."""
    if not file.is_file():
        raise ImageError([file], _why_no_file(file))
    name = file.name.lower()
    check = nifti_problem if name.endswith(NIFTI_ENDINGS) else PROBLEMS.get(file.suffix.lower(), lambda file: "")
    with told(file):
        problem = check(file)
    if problem:
        raise ImageError([file], problem)


def _why_no_file(file: Path) -> str:
    if file.is_symlink():
        return f"is a link to {file.readlink()}, which is not there"
    return "is a folder" if file.is_dir() else "is missing"


def read_images(reader: BaseReaderWriter, files: Sequence[Path]) -> tuple[np.ndarray, Properties]:
    """The channels of a case: what nnU-Net's reader returns for all files together.

    Args:
        reader: of the plans.
        files: one for each channel, or one that holds them all.

    Returns:
        Voxels (channels, slices, rows, columns) in float32, all finite; properties of the first file.

    Raises:
        ImageError: a file is missing, cut short or damaged; holds NaN or infinity; has a spacing that cannot be; or the
            files do not lie on one grid. The message names the file.
    """
    read = [_read(reader.read_images, file, ([str(file)],)) for file in files]
    first, properties = read[0]
    for file, (other, other_properties) in zip(files[1:], read[1:], strict=True):
        if other.shape[1:] != first.shape[1:]:
            raise ImageError([file], f"is of size {size(other)}, {files[0].name} of {size(first)}")
        if differs := difference(other_properties, properties):
            raise ImageError([file], f"has {differs.format(other=files[0].name)}")
    return (first if len(read) == 1 else np.vstack([voxels for voxels, _ in read])), properties


def refuse_other_channels(image: np.ndarray, files: Sequence[Path], expected: int, source: str) -> None:
    """Raises ImageError unless an image (channels, ...) has as many channels as `source` says, which is told."""
    if len(image) != expected:
        colours = COLOURS if len(files) == 1 and len(image) in (3, 4) else ""
        raise ImageError(files, f"{'holds' if len(files) == 1 else 'hold'} {len(image)} channel(s), {source}{colours}")


def read_segmentation(reader: BaseReaderWriter, file: Path) -> tuple[np.ndarray, Properties]:
    """A label map (slices, rows, columns) and its properties.

    Raises:
        ImageError: as `read_images`; or it has several channels, as a picture in colours.
    """
    channels, properties = _read(reader.read_seg, file, (str(file),))
    if len(channels) != 1:
        raise ImageError([file], f"has {len(channels)} channels, e.g. colours; a label map has one")
    return channels[0], properties


def _read(read: Any, file: Path, arguments: tuple) -> tuple[np.ndarray, Properties]:
    check_file(file)
    with told(file), without_prints():
        voxels, properties = read(*arguments)
    if voxels.size == 0:
        raise ImageError([file], "holds no voxels")
    finite_voxels(voxels, file)
    if problem := _grid_problem(voxels, properties):
        raise ImageError([file], problem)
    return voxels, properties


def finite_voxels(voxels: np.ndarray, file: Path) -> np.ndarray:
    """The same, or ImageError if a voxel is NaN or infinite."""
    if not np.isfinite(voxels).all():
        raise ImageError([file], NOT_FINITE.format(count=int(np.count_nonzero(~np.isfinite(voxels)))))
    return voxels


def _grid_problem(voxels: np.ndarray, properties: Mapping[str, Any]) -> str:
    geometry = Geometry.of(properties)
    if geometry is None:
        return _spacing_problem(properties)
    if len(properties["spacing"]) != 3 or (len(geometry.spacing_mm) == 2 and voxels.shape[1] != 1):
        return "has several values in a voxel, e.g. colours; store each channel in a file of its own"
    return geometry.problem(voxels.shape[1:])


def _spacing_problem(properties: Mapping[str, Any]) -> str:
    """Of a picture, whose spacing may have come from a JSON file and any unit."""
    spacing = np.asarray(properties["spacing"], np.float64)
    is_possible = np.isfinite(spacing).all() and (spacing > 0).all()
    return "" if is_possible else f"has a spacing of {numbers_in_words(spacing)}; each must be above 0"


def size(voxels: np.ndarray) -> str:
    """Of an image (channels, slices, rows, columns) in words; a single slice is left out."""
    shape = voxels.shape[-2:] if voxels.shape[-3] == 1 else voxels.shape[-3:]
    return " x ".join(map(str, shape))


def is_flat(voxels: np.ndarray, properties: Mapping[str, Any]) -> bool:
    """Whether an image (channels, slices, rows, columns) is one slice without a thickness.

    A file of two dimensions is, for which nnU-Net's reader makes one up, 999 times the width of a pixel; and one whose
    writer did the same.
    """
    geometry = Geometry.of(properties)
    return geometry is not None and bool(
        len(geometry.spacing_mm) == 2 or (voxels.shape[1] == 1 and geometry.spacing_mm[2] > LARGEST_MM)
    )


@contextlib.contextmanager
def told(file: Path) -> Iterator[None]:
    """Names the file if it cannot be read; the libraries that read files raise errors of any kind."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        raise ImageError([file], f"cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """An error in words, without the places in ITK's source."""
    text = in_one_line(error)
    if "orthonormal" in text:
        return "SimpleITK reads no images with shear; name NibabelIO as overwrite_image_reader_writer in dataset.json"
    return re.sub(r"^Exception thrown in SimpleITK.*?ERROR: (\w+\(0x[0-9a-f]+\): )?", "", text)


@contextlib.contextmanager
def without_prints() -> Iterator[None]:
    """Keeps what readers print and log to themselves: what matters of it is raised."""
    logger = logging.getLogger("tifffile")
    before = logger.disabled
    logger.disabled = True
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.disabled = before


def choose_reader(dataset_json: Mapping[str, Any], examples: Sequence[Path]) -> BaseReaderWriter:
    """nnU-Net's reader for a data set without plans, by dataset.json and, where several could be, by the first example.

    Raises:
        ValueError: there is none.
    """
    content = dict(dataset_json)
    for example in (*map(str, examples[:MOST_EXAMPLES]), None):  # the first may be one that cannot be read
        with without_prints(), contextlib.suppress(RuntimeError):
            return determine_reader_writer_from_dataset_json(content, example, verbose=False)()
    raise ValueError(
        f"nnU-Net has no reader for files that end in {content['file_ending']}; correct file_ending in dataset.json"
    )
