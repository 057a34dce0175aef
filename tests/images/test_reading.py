"""Files of each format: good ones are read as nnU-Net reads them, faulty ones are refused by name."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from faulty_files import AFFINE, SHAPE, SHEARED, empty, flipped, half, save, save_with_affine, text, volume, without_end
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from PIL import Image

from nnunet_diffusion_ensemble.images.reading import (
    ImageError,
    check_file,
    choose_reader,
    is_flat,
    read_images,
    read_segmentation,
)


def save_nifti(file: Path, values: np.ndarray) -> None:
    save_with_affine(file, values, AFFINE)


def pages(file: Path, values: np.ndarray, **options: Any) -> None:
    """One page after the other, as other programs write them."""
    with tifffile.TiffWriter(file, **options) as tiff:
        for page in values:
            tiff.write(page, contiguous=False, metadata=None)


GREY = (volume(shape=(40, 50))).clip(0, 255).astype(np.uint8)
SOLID = volume().astype(np.int16)
# Reader, name, what is stored and how.
KINDS: dict[str, tuple[type, str, np.ndarray, Callable[..., None]]] = {
    "NIfTI, compressed": (SimpleITKIO, "a.nii.gz", SOLID, save),
    "NIfTI of float64": (SimpleITKIO, "a.nii.gz", SOLID.astype(np.float64), save_nifti),
    "NIfTI, plain": (SimpleITKIO, "a.nii", SOLID, save_nifti),
    "NIfTI for nibabel": (NibabelIO, "a.nii.gz", SOLID, save_nifti),
    "NIfTI of two dimensions": (SimpleITKIO, "a.nii.gz", SOLID[0], save),
    "MetaImage": (SimpleITKIO, "a.mha", SOLID, save),
    "NRRD": (SimpleITKIO, "a.nrrd", SOLID, save),
    "GIPL": (SimpleITKIO, "a.gipl", SOLID, save),
    "PNG": (NaturalImage2DIO, "a.png", GREY, save),
    "PNG in colours": (NaturalImage2DIO, "a.png", np.stack([GREY] * 3, -1), save),
    "BMP": (NaturalImage2DIO, "a.bmp", GREY, save),
    "TIFF": (NaturalImage2DIO, "a.tif", GREY, save),
    "TIFF of 16 bits": (NaturalImage2DIO, "a.tif", GREY.astype(np.uint16) * 200, save),
    "TIFF of three dimensions": (Tiff3DIO, "a.tif", SOLID.astype(np.uint8), save),
    "TIFF of pages": (Tiff3DIO, "a.tif", SOLID.astype(np.uint8), pages),
    "large TIFF": (Tiff3DIO, "a.tif", SOLID.astype(np.uint8), lambda file, values: pages(file, values, bigtiff=True)),
    "TIFF of ImageJ": (
        Tiff3DIO,
        "a.tif",
        SOLID.astype(np.uint8),
        lambda file, values: tifffile.imwrite(file, values, imagej=True),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_file_is_read_as_nnunet_reads_it(kind: str, tmp_path: Path) -> None:
    reader, name, values, write = KINDS[kind]
    write(tmp_path / name, values)
    image, properties = read_images(reader(), [tmp_path / name])
    expected, expected_properties = reader().read_images([str(tmp_path / name)])
    np.testing.assert_array_equal(image, expected)
    assert image.dtype == np.float32 and properties["spacing"] == expected_properties["spacing"]


WITH_CHECKSUM = ("NIfTI, compressed", "NIfTI for nibabel", "MetaImage", "NRRD", "PNG")


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        *((kind, spoil) for kind in KINDS for spoil in (half, empty, text)),
        *((kind, without_end) for kind in KINDS if kind != "TIFF of ImageJ"),  # ends in a resolution that nobody reads
        *((kind, flipped) for kind in WITH_CHECKSUM),
    ],
)
def test_a_file_that_is_not_whole_is_refused_by_name(kind: str, spoil: Callable, tmp_path: Path) -> None:
    reader, name, values, write = KINDS[kind]
    file = tmp_path / name
    write(file, values)
    spoil(file)
    with pytest.raises(ImageError, match=rf"^{re.escape(str(file))} cannot be read \("):
        read_images(reader(), [file])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("reader", "name"),
    [
        (SimpleITKIO, "a.nii.gz"),
        (SimpleITKIO, "a.nii"),
        (NibabelIO, "a.nii.gz"),
        (SimpleITKIO, "a.mha"),
        (SimpleITKIO, "a.nrrd"),
        (NaturalImage2DIO, "a.tif"),
        (Tiff3DIO, "a.tif"),
    ],
)
def test_values_that_are_not_finite_are_counted(reader: type, name: str, value: float, tmp_path: Path) -> None:
    values = volume(shape=SHAPE if reader is not NaturalImage2DIO else SHAPE[1:])
    values[..., 3, 4:6] = value
    count = values[..., 3, 4:6].size
    save(tmp_path / name, values)
    with pytest.raises(ImageError, match=rf"{name} holds NaN or infinite values in {count} voxel"):
        read_images(reader(), [tmp_path / name])


def test_a_number_too_large_for_float32_is_not_finite(tmp_path: Path) -> None:
    values = volume().astype(np.float64)
    values[0, 0, 0] = 1e39
    save(tmp_path / "a.mha", values)
    with pytest.raises(ImageError, match=r"a\.mha holds NaN or infinite values in 1 voxel"):
        read_images(SimpleITKIO(), [tmp_path / "a.mha"])


# ---- what goes together


def test_channels_are_what_nnunet_stacks(tmp_path: Path) -> None:
    files = [tmp_path / f"a_000{channel}.nii.gz" for channel in (0, 1)]
    for channel, file in enumerate(files):
        save(file, volume(channel))
    expected, _ = SimpleITKIO().read_images([str(file) for file in files])
    np.testing.assert_array_equal(read_images(SimpleITKIO(), files)[0], expected)


@pytest.mark.parametrize(
    ("shape", "geometry", "message"),
    [
        ((7, 12, 10), {}, r"a_0001\.nii\.gz is of size 7 x 12 x 10, a_0000\.nii\.gz of 6 x 12 x 10"),
        (SHAPE, {"spacing": (1, 1, 2)}, r"a_0001\.nii\.gz has the spacing 1 x 1 x 2, a_0000\.nii\.gz 0\.8 x 1\.1 x 2"),
        (SHAPE, {"origin": (0, 0, 0)}, r"a_0001\.nii\.gz has the origin 0 x 0 x 0, a_0000\.nii\.gz -20 x 15 x 100"),
        (SHAPE, {"direction": (0, 1, 0, 1, 0, 0, 0, 0, 1)}, r"a_0001\.nii\.gz has the direction \[\["),
    ],
)
def test_channels_on_other_grids_are_refused(shape: tuple, geometry: dict, message: str, tmp_path: Path) -> None:
    files = [tmp_path / f"a_000{channel}.nii.gz" for channel in (0, 1)]
    save(files[0], volume())
    save(files[1], volume(1, shape), **geometry)
    with pytest.raises(ImageError, match=message):
        read_images(SimpleITKIO(), files)


def test_a_picture_with_several_values_in_a_pixel_is_no_volume(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 9, 3), np.uint8), isVector=True), str(tmp_path / "a.mha"))
    with pytest.raises(ImageError, match=r"a\.mha has several values in a voxel, e\.g\. colours"):
        read_images(SimpleITKIO(), [tmp_path / "a.mha"])


def test_a_label_map_in_colours_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.stack([GREY] * 3, -1))
    with pytest.raises(ImageError, match=r"a\.png has 3 channels, e\.g\. colours; a label map has one"):
        read_segmentation(NaturalImage2DIO(), tmp_path / "a.png")


def test_of_several_images_in_a_tiff_none_is_dropped_silently(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for page in SOLID.astype(np.uint8):
            tiff.write(page, contiguous=False)  # tifffile takes each for an image of its own
    with pytest.raises(ImageError, match=r"a\.tif holds 6 images, of which nnU-Net reads the first"):
        read_images(NaturalImage2DIO(), [tmp_path / "a.tif"])


# ---- geometry


def test_shear_is_for_nibabel_alone_and_itk_says_so(tmp_path: Path) -> None:
    save_with_affine(tmp_path / "a.nii.gz", volume(), SHEARED)
    image, properties = read_images(NibabelIO(), [tmp_path / "a.nii.gz"])
    np.testing.assert_array_equal(image[0], volume())
    np.testing.assert_allclose(properties["nibabel_stuff"]["original_affine"], SHEARED)
    with pytest.raises(ImageError, match=r"no images with shear; name NibabelIO as overwrite_image_reader_writer"):
        read_images(SimpleITKIO(), [tmp_path / "a.nii.gz"])


def test_axes_in_one_plane_are_refused(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[:3, 1] = affine[:3, 0]
    image = nibabel.Nifti1Image(volume().transpose(2, 1, 0), None)
    image.header.set_sform(affine, code=1)
    image.header.set_zooms((0.8, 0.8, 2))
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(ImageError, match=r"a\.nii\.gz has axes that lie in one plane"):
        read_images(NibabelIO(), [tmp_path / "a.nii.gz"])


@pytest.mark.parametrize(
    ("spacing", "is_good"), [([2, 1, 1], True), ([2e-4, 1e-4, 1e-4], True), ([0, 1, 1], False), ([-1, 1, 1], False)]
)
def test_a_tiff_has_its_spacing_from_a_file_in_any_unit(spacing: list[float], is_good: bool, tmp_path: Path) -> None:
    save(tmp_path / "a_0000.tif", SOLID.astype(np.uint8))
    (tmp_path / "a.json").write_text(json.dumps({"spacing": spacing}))
    if is_good:
        assert read_images(Tiff3DIO(), [tmp_path / "a_0000.tif"])[1]["spacing"] == spacing
    else:
        with pytest.raises(ImageError, match=r"a_0000\.tif has a spacing of .*; each must be above 0"):
            read_images(Tiff3DIO(), [tmp_path / "a_0000.tif"])


def test_a_spacing_file_without_spacing_is_told(tmp_path: Path) -> None:
    save(tmp_path / "a_0000.tif", SOLID.astype(np.uint8))
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ImageError, match=r"a_0000\.tif cannot be read \(KeyError: 'spacing'\)"):
        read_images(Tiff3DIO(), [tmp_path / "a_0000.tif"])


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((12, 10), (1, 1), True),
        ((1, 12, 10), (1, 1, 999), True),  # as nnU-Net's first version had pictures
        ((1, 12, 10), (1, 1, 5), False),
        ((2, 12, 10), (1, 1, 5), False),
    ],
)
def test_a_slice_without_thickness_is_flat(shape: tuple, spacing: tuple, expected: bool, tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", volume(shape=shape), spacing=spacing)
    assert is_flat(*read_images(SimpleITKIO(), [tmp_path / "a.nii.gz"])) is expected


# ---- files, readers


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: None, r"a\.png is missing"),
        (lambda file: file.mkdir(), r"a\.png is a folder"),
        (lambda file: file.symlink_to("gone.png"), r"a\.png is a link to gone\.png, which is not there"),
    ],
)
def test_what_is_no_file_is_told(make: Callable, message: str, tmp_path: Path) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(ImageError, match=message):
        check_file(tmp_path / "a.png")


def test_the_reader_is_nnunets_choice_even_if_the_first_image_is_broken(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / f"{name}.tif", SOLID.astype(np.uint8))
    text(tmp_path / "a.tif")
    files = [tmp_path / "a.tif", tmp_path / "b.tif"]
    assert isinstance(choose_reader({"file_ending": ".tif"}, files), Tiff3DIO)
    with pytest.raises(ValueError, match=r"no reader for files that end in \.xyz; correct file_ending"):
        choose_reader({"file_ending": ".xyz"}, files)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    save(tmp_path / "a_0000.tif", SOLID.astype(np.uint8))
    read_images(Tiff3DIO(), [tmp_path / "a_0000.tif"])  # warns that there is no spacing
    Image.fromarray(GREY).save(tmp_path / "b.tif")
    half(tmp_path / "b.tif")
    with pytest.raises(ImageError):
        read_images(NaturalImage2DIO(), [tmp_path / "b.tif"])
    assert capfd.readouterr() == ("", "")


def test_python_searches_no_folder_for_what_imageio_asks_for_at_every_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []

    class Listener:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            searched.append(name)

    Image.fromarray(GREY).save(tmp_path / "a.png")
    read_images(NaturalImage2DIO(), [tmp_path / "a.png"])  # what is there is imported once
    monkeypatch.setattr(sys, "meta_path", [Listener, *sys.meta_path])
    read_images(NaturalImage2DIO(), [tmp_path / "a.png"])
    assert searched == []
