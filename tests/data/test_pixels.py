"""Reading and resizing pixels: tiny images with worked results, and every file that is refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnunet_diffusion_ensemble.data.pixels import (
    GREY,
    GREY_AS_RGB,
    RGB,
    kind,
    read_mask,
    read_pixels,
    resize_image,
    resize_mask,
)

PIXELS = np.array([[0, 10, 20], [30, 40, 50]], np.uint8)
COLOUR = np.stack([PIXELS, PIXELS + 1, PIXELS + 2], -1)
THREE_EQUAL = np.stack([PIXELS] * 3, -1)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bit_images_keep_every_value(tmp_path, ending):
    deep = np.array([[0, 300], [40000, 65535]], np.uint16)
    pixels, notes = read_pixels(save(tmp_path / f"a.{ending}", deep))
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, deep)
    assert notes == []


def test_an_opaque_alpha_channel_is_dropped(tmp_path):
    opaque = np.concatenate([COLOUR, np.full((2, 3, 1), 255, np.uint8)], -1)
    pixels, notes = read_pixels(save(tmp_path / "a.png", opaque))
    assert np.array_equal(pixels, COLOUR)
    assert notes == ["opaque alpha channel dropped"]


def test_a_grey_palette_is_read_by_its_colours_and_not_by_its_indices(tmp_path):
    image = Image.fromarray(np.array([[1, 0]], np.uint8), mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "p.png")
    pixels, notes = read_pixels(tmp_path / "p.png")
    assert pixels[..., 0].tolist() == [[0, 255]]
    assert notes == ["palette or 1-bit pixels written out"]


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # rotated by 180 degrees
    pixels, notes = read_pixels(save(tmp_path / "a.png", PIXELS, exif=exif))
    assert pixels.tolist() == [[50, 40, 30], [20, 10, 0]]
    assert notes == ["turned upright as the EXIF orientation says"]


def test_sixteen_bit_colour_is_cut_with_a_note(tmp_path):
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = zlib.compress(bytes([0, 1, 2, 3, 4, 5, 6]))
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b""))
    pixels, notes = read_pixels(path)
    assert pixels.tolist() == [[[1, 3, 5]]]
    assert notes == ["16-bit colour cut to 8 bits, as nnU-Net reads it"]


def test_several_pages_are_refused(tmp_path):
    page = Image.fromarray(PIXELS)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(ValueError, match=r"a.tif holds 2 pages"):
        read_pixels(tmp_path / "a.tif")


def test_a_damaged_image_is_refused(tmp_path):
    path = save(tmp_path / "b.png", np.zeros((90, 90), np.uint8))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"b.png cannot be read .*replace it"):
        read_pixels(path)


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ValueError, match=r"a.png cannot be read .*replace it"):
        read_pixels(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "pixels", "pattern"),
    [
        ("a.png", np.zeros((2, 3, 4), np.uint8), "a.png is partly transparent: flatten it"),
        ("a.tif", PIXELS.astype(np.float32), "a.tif has pixel type F: convert it"),
        ("a.tif", PIXELS.astype(np.int32) + 70000, "a.tif has values 70000 to 70050"),
    ],
)
def test_pixels_that_png_cannot_hold_are_refused(tmp_path, name, pixels, pattern):
    with pytest.raises(ValueError, match=pattern):
        read_pixels(save(tmp_path / name, pixels))


@pytest.mark.parametrize(("pixels", "expected"), [(PIXELS, GREY), (THREE_EQUAL, GREY_AS_RGB), (COLOUR, RGB)])
def test_an_image_is_grey_grey_stored_as_rgb_or_rgb(pixels, expected):
    assert kind(pixels) == expected


@pytest.mark.parametrize("pixels", [PIXELS, THREE_EQUAL])
def test_a_mask_is_read_as_one_channel(tmp_path, pixels):
    assert np.array_equal(read_mask(save(tmp_path / "a.png", pixels)), PIXELS)


def test_a_one_bit_mask_holds_0_and_255(tmp_path):
    assert read_mask(save(tmp_path / "a.png", PIXELS > 20)).tolist() == [[0, 0, 0], [255, 255, 255]]


def test_a_colour_mask_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a.png is a colour mask: save it as a grey image"):
        read_mask(save(tmp_path / "a.png", COLOUR))


def test_resizing_an_image_averages_its_pixels():
    image = np.kron(np.array([[10, 20], [30, 40]]), np.ones((8, 8))).astype(np.uint8)
    assert resize_image(image, (1, 1)).tolist() == [[25]]
    assert resize_image(image, (2, 4)).shape == (2, 4)


@pytest.mark.parametrize("pixels", [np.full((6, 4), 60000, np.uint16), np.full((6, 4, 3), (1, 2, 3), np.uint8)])
def test_resizing_keeps_a_constant_image_and_its_type(pixels):
    resized = resize_image(pixels, (3, 3))
    assert resized.dtype == pixels.dtype
    assert np.array_equal(resized, np.broadcast_to(pixels[0, 0], (3, 3, *pixels.shape[2:])))


def test_resizing_a_mask_picks_its_pixels():
    mask = np.kron([[0, 1], [2, 0]], np.ones((8, 8))).astype(np.uint8)
    assert resize_mask(mask, (2, 4)).tolist() == [[0, 0, 1, 1], [2, 2, 0, 0]]
