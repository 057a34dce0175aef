"""Reading uploads: what is taken, what is refused before it is unpacked, and masks in the geometry of the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from looks import write_picture, write_volume
from PIL import Image

from nnunet_diffusion_ensemble.app import upload as module
from nnunet_diffusion_ensemble.app.upload import read_upload


@pytest.mark.parametrize("name", ["chest.png", "chest.tif", "chest.tiff", "CHEST.PNG"])
def test_a_picture_has_one_slice_and_its_grey_values(name: str, tmp_path: Path) -> None:
    upload = read_upload(write_picture(tmp_path / name))
    assert upload.is_picture
    assert np.array_equal(upload.voxels[0, 0], np.asarray(Image.open(tmp_path / name)))
    assert upload.spacing_mm[1:] == (1, 1)
    assert upload.in_words == "20 x 24, 1 channel"


@pytest.mark.parametrize("name", ["head.nii.gz", "head.nii"])
def test_a_mask_lies_where_the_volume_lies(name: str, tmp_path: Path) -> None:
    upload = read_upload(write_volume(tmp_path / name))
    assert upload.spacing_mm == (2.0, 0.75, 0.5)
    mask = upload.write_mask((upload.voxels[0] > 0).astype(np.uint8), tmp_path)
    assert mask.name == f"head_mask{upload.ending}"
    volume, written = sitk.ReadImage(str(tmp_path / name)), sitk.ReadImage(str(mask))
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(written, geometry)() == pytest.approx(getattr(volume, geometry)())
    assert np.array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(volume) > 0)


def test_a_mask_of_a_picture_is_a_picture_of_its_labels(tmp_path: Path) -> None:
    upload = read_upload(write_picture(tmp_path / "chest.png"))
    labels = (upload.voxels[0] > 100).astype(np.uint8)
    assert np.array_equal(np.asarray(Image.open(upload.write_mask(labels, tmp_path))), labels[0])


def test_a_tiff_of_several_pages_is_a_volume(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 20, 24), np.uint16))
    upload = read_upload(tmp_path / "stack.tif")
    assert not upload.is_picture
    assert upload.voxels.shape == (1, 5, 20, 24)


def text(file: Path) -> None:
    file.write_text("no image")


def cut(file: Path) -> None:
    write_picture(file, (200, 200))
    file.write_bytes(file.read_bytes()[:5000])


def not_a_number(file: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.full((3, 4, 5), np.nan, np.float32)), str(file))


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("letter.docx", text, r"letter\.docx is none of \.png, \.tif, \.tiff, \.nii, \.nii\.gz, \.dcm, \.zip"),
        ("letter.png", text, r"letter\.png cannot be read"),
        ("letter.tif", text, r"letter\.tif cannot be read"),
        ("letter.nii.gz", text, r"letter\.nii\.gz cannot be read"),
        ("half.png", cut, r"half\.png cannot be read"),
        ("holes.nii.gz", not_a_number, r"holes\.nii\.gz holds NaN"),
        ("photo.jpg", write_picture, r"photo\.jpg is none of"),
    ],
)
def test_what_is_no_image_is_refused_by_its_name(name: str, write: Callable, message: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        read_upload(tmp_path / name)


@pytest.mark.parametrize("write", [("a.png", write_picture), ("a.nii.gz", write_volume)], ids=["picture", "volume"])
def test_a_small_file_that_unpacks_to_too_much_is_refused_unread(
    write: tuple[str, Callable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write[1](tmp_path / write[0])
    monkeypatch.setattr(module, "LARGEST_VOXELS", 479)
    monkeypatch.setattr(module, "read_images", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match=r"million voxels; this page takes 0 million at most. Use nnunet-diffusion"):
        read_upload(file)


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_MB", 0)
    with pytest.raises(ValueError, match=r"a\.png has 0 MB; this page takes 0 MB at most"):
        read_upload(write_picture(tmp_path / "a.png"))
