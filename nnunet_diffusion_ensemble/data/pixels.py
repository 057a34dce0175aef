"""Pixels of 2D image files as nnU-Net's NaturalImage2DIO sees them, masks, and resizing both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps

from nnunet_diffusion_ensemble.images.reading import ImageError, check_file

GREY, GREY_AS_RGB, RGB = "grey", "grey stored as RGB", "RGB"
WITHOUT_PALETTE = {"1": "L", "P": "RGB", "PA": "RGBA", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA"}

SizePx = tuple[int, int]


def by(size_px: Sequence[int]) -> str:
    """A size in words, `height x width`."""
    return f"{size_px[0]} x {size_px[1]}"


def read_pixels(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read a 2D image as nnU-Net's NaturalImage2DIO sees it, but without alpha.

    Returns:
        Array of shape (height, width) or (height, width, 3), uint8 or uint16, and what was changed to get there.

    Raises:
        ValueError: unreadable, several pages, partly transparent, or pixels that PNG cannot hold.
    """
    try:
        check_file(path)
        with Image.open(path) as image:
            pages = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
            if pages > 1:
                raise ValueError(f"{path} holds {pages} pages, but only 2D images are converted: save one page a file.")
            return _decode(image, path)
    except ImageError as error:
        raise ValueError(f"{error}: replace it or take it out.") from error
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read ({error}): replace it or take it out.") from error


def _decode(image: ImageFile.ImageFile, path: Path) -> tuple[np.ndarray, list[str]]:
    notes = []
    if image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in image.tile):
        notes.append("16-bit colour cut to 8 bits, as nnU-Net reads it")
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        notes.append("turned upright as the EXIF orientation says")
    upright = ImageOps.exif_transpose(image)
    mode = _mode_without_palette(upright, path)
    if upright.mode in ("1", "P", "PA"):
        notes.append("palette or 1-bit pixels written out")
    pixels = np.asarray(upright.convert(mode))
    if mode in ("LA", "RGBA"):
        notes.append("opaque alpha channel dropped")
        if pixels[..., -1].min() < 255:
            raise ValueError(f"{path} is partly transparent: flatten it onto a background and drop its alpha channel.")
        pixels = pixels[..., 0] if mode == "LA" else pixels[..., :3]
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"{path} has values {pixels.min()} to {pixels.max()}; PNG holds 0 to 65535: rescale it.")
    return (pixels if pixels.dtype == np.uint8 else pixels.astype(np.uint16)), notes


def _mode_without_palette(image: Image.Image, path: Path) -> str:
    """Pillow's mode for the same pixels without palette, and with alpha wherever a transparent colour is declared."""
    if image.mode.startswith("I"):
        return image.mode
    if image.mode not in WITHOUT_PALETTE:
        raise ValueError(f"{path} has pixel type {image.mode}: convert it to 8- or 16-bit grey, or to RGB.")
    mode = WITHOUT_PALETTE[image.mode]
    return mode + "A" if "transparency" in image.info and not mode.endswith("A") else mode


def kind(pixels: np.ndarray) -> str:
    """`GREY` for (height, width), else `GREY_AS_RGB` where the three channels are equal throughout, or `RGB`."""
    if pixels.ndim == 2:
        return GREY
    return GREY_AS_RGB if (pixels == pixels[..., :1]).all() else RGB


def read_mask(path: Path) -> np.ndarray:
    """Read the label values of a mask.

    Returns:
        Array of shape (height, width), uint8 or uint16.

    Raises:
        ValueError: it is in colour, or `read_pixels` refuses it.
    """
    pixels, _ = read_pixels(path)
    if kind(pixels) == RGB:
        raise ValueError(f"{path} is a colour mask: save it as a grey image whose pixel values are the labels.")
    return pixels if pixels.ndim == 2 else pixels[..., 0]


def resize_image(pixels: np.ndarray, size_px: SizePx) -> np.ndarray:
    """Resize (height, width) or (height, width, 3) to `size_px`: linear, antialiased where it shrinks, same type."""
    if pixels.ndim == 3:
        return np.stack([resize_image(channel, size_px) for channel in np.moveaxis(pixels, -1, 0)], -1)
    return np.rint(resize_values(pixels, size_px)).astype(pixels.dtype)


def resize_values(values: np.ndarray, size_px: SizePx) -> np.ndarray:
    """Resize numbers (height, width) to `size_px` in float32: linear, antialiased where it shrinks."""
    resized = Image.fromarray(values.astype(np.float32)).resize(size_px[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized)


def resize_mask(mask: np.ndarray, size_px: SizePx) -> np.ndarray:
    """Resize (height, width) to `size_px`: each new pixel is the old one under its centre."""
    sizes = zip(size_px, mask.shape, strict=True)
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in sizes)
    return mask[np.ix_(rows, columns)]
