"""Uploads in DICOM: what becomes of a file and of a zip, what is refused, and that nothing tells the patient."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("pydicom", reason="needs pydicom, of the dicom extra")

from dicom_data import PATIENT, oblique_slices, save, save_series, stored_values, xray
from PIL import Image
from pydicom import Dataset
from pydicom.uid import generate_uid

from nnunet_diffusion_ensemble.app import dicom_upload
from nnunet_diffusion_ensemble.app import upload as module
from nnunet_diffusion_ensemble.app.upload import read_upload
from nnunet_diffusion_ensemble.app.visit import Visits
from nnunet_diffusion_ensemble.images.reading import ImageError


def zipped(folder: Path, file: Path) -> Path:
    """All files of a folder, as macOS packs them."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in sorted(folder.rglob("*")):
            archive.write(member, f"Doe Jane/{member.relative_to(folder)}")
        archive.writestr("__MACOSX/Doe Jane/._IM0", "litter")
    return file


def series(folder: Path, slices: Sequence[Dataset] | None = None) -> Path:
    return zipped(save_series(folder / "series", None if slices is None else list(slices)), folder / "Doe.zip")


@pytest.mark.parametrize("name", ["IM0001", "chest.dcm", "CHEST.DCM", "a.b.ima"])
def test_an_xray_is_a_picture_with_its_spacing(name: str, tmp_path: Path) -> None:
    upload = read_upload(save(xray(), tmp_path / name))
    assert upload.is_picture
    assert upload.spacing_mm[1:] == pytest.approx((0.2, 0.1))
    # 12 bits over the range of 16.
    expected = np.rint(np.array([[0, 1000, 2000], [3000, 4000, 4095]]) / 4095 * 65535)
    assert np.array_equal(upload.voxels[0, 0], expected)
    assert "2 x 3, 1 channel; spacing from ImagerPixelSpacing, at the detector" in upload.in_words


def test_a_zip_of_a_series_is_a_volume_where_itk_sees_it(tmp_path: Path) -> None:
    upload = read_upload(series(tmp_path))
    assert not upload.is_picture
    assert np.array_equal(upload.voxels[0], 2.0 * stored_values() - 1000)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    expected = reader.Execute()
    mask = sitk.ReadImage(str(upload.write_mask((upload.voxels[0] > -900).astype(np.uint8), tmp_path)))
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(mask, geometry)() == pytest.approx(getattr(expected, geometry)(), abs=1e-5)
    assert np.array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(expected) > -900)


def test_a_mask_of_an_xray_has_its_size_and_spacing(tmp_path: Path) -> None:
    upload = read_upload(save(xray(), tmp_path / "IM0001"))
    mask = sitk.ReadImage(str(upload.write_mask((upload.voxels[0] > 30000).astype(np.uint8), tmp_path)))
    assert (mask.GetSize(), mask.GetSpacing()) == ((3, 2), pytest.approx((0.1, 0.2)))
    assert sitk.GetArrayFromImage(mask).tolist() == [[0, 0, 1], [1, 1, 1]]


def test_one_slice_of_a_series_says_what_is_missing(tmp_path: Path) -> None:
    upload = read_upload(save(oblique_slices()[0], tmp_path / "slice.dcm"))
    assert upload.in_words.endswith("one slice alone: a zip of its series gives the volume")


@pytest.mark.parametrize("make", [lambda folder: save(xray(), folder / "Doe.dcm"), series], ids=["file", "zip"])
def test_nothing_tells_the_patient_and_nothing_stays(make: Callable[[Path], Path], tmp_path: Path) -> None:
    file = make(tmp_path)
    upload = Visits(tmp_path, None).take(file)  # type: ignore[arg-type]
    mask = upload.write_mask(np.zeros(upload.voxels.shape[1:], np.uint8), tmp_path)
    assert "Doe" not in f"{upload} {mask.name}"
    assert PATIENT.encode() not in mask.read_bytes()
    left = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert left - {"series"} == {mask.name}


def another_series(slices: list[Dataset]) -> list[Dataset]:
    slices[-1].SeriesInstanceUID = generate_uid()
    return slices


def text(folder: Path) -> Path:
    (folder / "a.dcm").write_text("no image")
    return folder / "a.dcm"


def no_zip(folder: Path) -> Path:
    (folder / "a.zip").write_text("no archive")
    return folder / "a.zip"


def picture_in_zip(folder: Path) -> Path:
    (folder / "in").mkdir()
    Image.new("L", (4, 4)).save(folder / "in" / "chest.png")
    return zipped(folder / "in", folder / "a.zip")


def locked(folder: Path) -> Path:
    """A zip whose first file says that it is encrypted."""
    file = series(folder)
    content = bytearray(file.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[6] |= 1
    content[directory + 8] |= 1
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text, r"^.*a\.dcm cannot be used: a\.dcm holds no image in DICOM: a\.dcm is not DICOM|a\.dcm holds no image"),
        (no_zip, r"a\.zip cannot be read \(.*zip file"),
        (picture_in_zip, r"a\.zip cannot be used: .* holds no image in DICOM: chest\.png is not DICOM"),
        (locked, r"Doe\.zip cannot be read \(.*encrypted"),
        (
            lambda folder: series(folder, another_series(oblique_slices())),
            r"Doe\.zip holds 2 different images or series; this page looks at one",
        ),
        (
            lambda folder: series(folder, [s for i, s in enumerate(oblique_slices()) if i != 2]),
            r"Doe\.zip cannot be used: IM\d+, IM\d+ lie 8 mm apart, most others 4 mm: slices are missing",
        ),
        (
            lambda folder: save(xray(PhotometricInterpretation="RGB"), folder / "a.dcm"),
            r"a\.dcm is in colour \(RGB\); grey images are read",
        ),
    ],
)
def test_what_is_no_one_image_is_refused_by_its_name(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    file = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ImageError, match=message):
        read_upload(file)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("LARGEST_VOXELS", 5 * 7 * 6 - 1, r"Doe\.zip has 0 million voxels; this page takes 0 million at most"),
        ("LARGEST_MB", 0.01, r"Doe\.zip holds 0 MB, unpacked; this page takes 0 MB at most"),
    ],
)
def test_too_much_is_refused_before_it_is_decoded(
    limit: str, value: float, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = oblique_slices()
    slices[0].ImageComments = "x" * 9000  # packs well
    file = series(tmp_path, slices)
    assert file.stat().st_size < 10_000 < sum(one.stat().st_size for one in (tmp_path / "series").iterdir())
    monkeypatch.setattr(module, limit, value)
    monkeypatch.setattr(module, "nifti_of_dicom", lambda *a: dicom_upload.nifti_of_dicom(*a[:2], int(a[2]), a[3]))
    monkeypatch.setattr(dicom_upload, "read_dicom_case", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match=message):
        read_upload(file)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_upload, "MOST_FILES", 4)
    with pytest.raises(ImageError, match=r"Doe\.zip holds 5 files; this page takes 4 at most"):
        read_upload(series(tmp_path))


def test_a_path_in_a_zip_leads_nowhere(tmp_path: Path) -> None:
    save_series(tmp_path / "series")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number, file in enumerate(sorted((tmp_path / "series").iterdir())):
            archive.write(file, f"../../../out{number}" if number % 2 else "C:\\same")
    assert read_upload(tmp_path / "a.zip").voxels.shape == (1, 5, 7, 6)
    assert not list(tmp_path.parent.glob("out*"))


def test_without_the_library_it_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(xray(), tmp_path / "IM0001")
    monkeypatch.setattr("nnunet_diffusion_ensemble.dicom.library.LIBRARIES", ("no_such_library",))
    with pytest.raises(RuntimeError, match=r'pip install "nnunet-diffusion-ensemble\[dicom\]"'):
        Visits(tmp_path, None).take(file)  # type: ignore[arg-type]
    assert not file.exists()
