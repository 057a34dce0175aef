"""Images from DICOM against formulas, ITK's reader and files that pydicom ships."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_data import (
    ALONG_COLUMNS,
    ALONG_ROWS,
    COLUMN_MM,
    FIRST_MM,
    NORMAL,
    ROW_MM,
    STEP_MM,
    oblique_slices,
    save,
    save_series,
    stored_values,
    xray,
)
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from nnunet_diffusion_ensemble.dicom.cases import find_dicom_cases
from nnunet_diffusion_ensemble.dicom.pixels import read_dicom, read_dicom_case
from nnunet_diffusion_ensemble.images.reading import ImageError

HOUNSFIELD = 2 * stored_values() - 1000


def shipped(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


def test_an_oblique_series_has_its_values_and_its_place(tmp_path: Path) -> None:
    image = read_dicom(save_series(tmp_path / "series"))
    assert np.array_equal(image.voxels, HOUNSFIELD)
    np.testing.assert_allclose(image.spacing, (STEP_MM, ROW_MM, COLUMN_MM))
    np.testing.assert_allclose(image.geometry.origin_mm, FIRST_MM)
    np.testing.assert_allclose(image.geometry.directions, np.stack([ALONG_COLUMNS, ALONG_ROWS, NORMAL], axis=1))
    assert [int(header.InstanceNumber) for header in image.case.headers] == [1, 2, 3, 4, 5]


def test_a_voxel_lies_where_itk_says(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "series")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    expected = reader.Execute()
    geometry = read_dicom(folder).geometry
    for index in ((0, 0, 0), (5, 6, 4), (2, 3, 1)):
        place = geometry.origin_mm + geometry.directions @ (geometry.spacing_mm * index)
        np.testing.assert_allclose(place, expected.TransformIndexToPhysicalPoint(index), atol=1e-6)
    assert np.array_equal(read_dicom(folder).voxels, sitk.GetArrayFromImage(expected))


def test_frames_of_one_file_are_the_same_volume_as_slices_in_many(tmp_path: Path) -> None:
    slices = oblique_slices()
    for one in slices:
        one.ImageType, one.AcquisitionNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], 1
    save_series(tmp_path / "series", slices)
    enhanced = LegacyConvertedEnhancedCTImage(
        slices, series_instance_uid=generate_uid(), series_number=2, sop_instance_uid=generate_uid(), instance_number=1
    )
    enhanced.save_as(tmp_path / "enhanced.dcm")
    image = read_dicom(tmp_path / "enhanced.dcm")
    assert np.array_equal(image.voxels, HOUNSFIELD)
    assert image.geometry.difference(read_dicom(tmp_path / "series").geometry) == ""


def test_one_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    image = read_dicom(save(oblique_slices()[0], tmp_path / "one.dcm"))
    assert image.voxels.shape == (1, 7, 6)
    np.testing.assert_allclose(image.spacing, (STEP_MM, ROW_MM, COLUMN_MM))


TOP = 65535
# Of the stored values 0, 1000, 2000 in the first row of `xray`.
SHOWN: dict[str, tuple[dict[str, Any], list[float]]] = {
    "all of 12 bits": ({}, [0, 1000 / 4095, 2000 / 4095]),
    "inverted": ({"PhotometricInterpretation": "MONOCHROME1"}, [1, 1 - 1000 / 4095, 1 - 2000 / 4095]),
    # LINEAR: ((x - (centre - 0.5)) / (width - 1) + 0.5), PS3.3 C.11.2.1.2.1
    "a window": ({"WindowCenter": 1000.5, "WindowWidth": 2001}, [0, 0.5, 1]),
    "the first of two windows": ({"WindowCenter": [1000.5, 9], "WindowWidth": [2001, 3]}, [0, 0.5, 1]),
    "a window, inverted": (
        {"WindowCenter": 1000.5, "WindowWidth": 2001, "PhotometricInterpretation": "MONOCHROME1"},
        [1, 0.5, 0],
    ),
    "a window of rescaled values": (
        {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1000.5, "WindowWidth": 4001},
        [0, 0.5, 1],
    ),
    "an exact window": ({"WindowCenter": 1000, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"}, [0, 0.5, 1]),
    "a sigmoid": (
        {"WindowCenter": 1000, "WindowWidth": 2000, "VOILUTFunction": "SIGMOID"},
        [1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2))],
    ),
}


@pytest.mark.parametrize("kind", sorted(SHOWN))
def test_an_xray_is_as_a_screen_shows_it(kind: str, tmp_path: Path) -> None:
    values, shares = SHOWN[kind]
    image = read_dicom(save(xray(**values), tmp_path / "x.dcm"))
    assert image.voxels.dtype == np.uint16
    np.testing.assert_allclose(image.voxels[0, 0], np.array(shares) * TOP, atol=1)


def test_a_table_of_grey_values_is_looked_up(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [3, 0, 8]
    table.add_new("LUTData", "US", [10, 200, 255])
    pixels = np.array([[0, 1, 2, 9]], np.uint16)
    image = read_dicom(save(xray(pixels, VOILUTSequence=[table]), tmp_path / "x.dcm"))
    assert image.voxels.tolist() == [[[10, 200, 255, 255]]]


@pytest.mark.parametrize(
    ("values", "spacing", "note"),
    [
        ({}, (0.2, 0.1), "ImagerPixelSpacing, at the detector"),
        ({"PixelSpacing": [0.5, 0.4]}, (0.5, 0.4), "PixelSpacing, in the patient"),
        ({"ImagerPixelSpacing": None}, (1.0, 1.0), "no spacing"),
    ],
)
def test_the_spacing_of_an_xray_says_where_it_is_from(
    values: dict[str, Any], spacing: tuple[float, float], note: str, tmp_path: Path
) -> None:
    image = read_dicom(save(xray(**values), tmp_path / "x.dcm"))
    assert image.spacing == spacing
    assert note in image.notes[0]


def test_text_in_the_pixels_is_told_and_left_alone(tmp_path: Path) -> None:
    image = read_dicom(save(xray(BurnedInAnnotation="YES"), tmp_path / "x.dcm"))
    assert "may name the patient" in image.notes[-1]


@pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"])
def test_compressed_pixels_are_those_that_were_compressed(name: str) -> None:
    plain = pydicom.dcmread(shipped("MR_small.dcm")).pixel_array
    assert np.array_equal(read_dicom(shipped(f"{name}.dcm")).voxels[0], plain)


def test_series_of_a_shipped_study_are_cases_of_their_own() -> None:
    folder = shipped("DICOMDIR").parent
    found = find_dicom_cases(folder / "77654033")
    projections = [case for case in found.cases if case.is_projection]
    assert len(projections) == 3 and len({case.name for case in projections}) == 3
    assert all(read_dicom_case(case).voxels.shape == (1, 16, 16) for case in projections)


def test_a_name_holds_no_patient_and_stays_the_same(tmp_path: Path) -> None:
    names = {find_dicom_cases(save_series(tmp_path / f"Doe {i}")).cases[0].name for i in range(2)}
    (name,) = names
    assert name.startswith("ct_") and "doe" not in name.lower() and "4711" not in name


# ---- faults


def first_without(name: str) -> list[Dataset]:
    slices = oblique_slices()
    delattr(slices[0], name)
    return slices


def second_with(name: str, value: Any) -> list[Dataset]:
    slices = oblique_slices()
    setattr(slices[1], name, value)
    return slices


def sheared() -> list[Dataset]:
    slices = oblique_slices()
    for position, one in enumerate(slices):
        place = np.array(one.ImagePositionPatient, float) + position * 1.0 * ALONG_ROWS
        one.ImagePositionPatient = [f"{number:.8f}" for number in place]
    return slices


def twice() -> list[Dataset]:
    return [*oblique_slices(), *oblique_slices()]


FAULTS = {
    "missing slice": (lambda: [s for i, s in enumerate(oblique_slices()) if i != 2], "IM.*IM.*lie 8 mm apart"),
    "two frames of reference": (lambda: second_with("FrameOfReferenceUID", "1.2.3"), "IM.*two frames of reference"),
    "no frame of reference": (lambda: first_without("FrameOfReferenceUID"), "IM100 lacks a frame of reference"),
    "orientation": (lambda: second_with("ImageOrientationPatient", [1, 0, 0, 0, 1, 0]), "IM.*differ in orientation"),
    "spacing": (lambda: second_with("PixelSpacing", [1, 2]), "IM.*differ in pixel spacing: .*1 x 2 mm|1 x 2"),
    "two volumes": (twice, "IM.*lie at one place: several volumes"),
    "tilted gantry": (sheared, "IM.*tilted gantry"),
    "colour": (lambda: [xray(PhotometricInterpretation="RGB")], "IM.*is in colour"),
    "film": (lambda: [xray(NumberOfFrames=3)], "IM.*3 frames without a place"),
    "no UID": (lambda: first_without("SeriesInstanceUID"), "lacks the UID"),
    "no pixels": (lambda: first_without("PixelData")[:1], "IM000 holds no pixels"),
    "X-rays": (lambda: [xray(), xray()], "belong to 2 different images or series; one is needed"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_is_told_with_the_files(fault: str, tmp_path: Path) -> None:
    make, message = FAULTS[fault]
    folder = save_series(tmp_path / "series", make())
    with pytest.raises(ImageError, match=message):
        read_dicom(folder)


def test_what_is_no_dicom_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    with pytest.raises(ImageError, match=r"holds no image in DICOM: notes\.txt is not DICOM"):
        read_dicom(tmp_path)
    with pytest.raises(ImageError, match="DICOMDIR, the index of a medium: copy the folders"):
        read_dicom(shipped("DICOMDIR"))
    with pytest.raises(ImageError, match="is no image, but of the kind Segmentation Storage"):
        read_dicom(shipped("liver_1frame.dcm"))
    with pytest.raises(ImageError, match=r"MR_truncated\.dcm cannot be read"):
        read_dicom(shipped("MR_truncated.dcm"))
    with pytest.raises(FileNotFoundError, match="There is no"):
        read_dicom(tmp_path / "nowhere")
