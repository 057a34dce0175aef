"""DICOM SEG read back by highdicom, voxel by voxel, and what it says of its images and segments."""

import json
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from dicom_data import PATIENT, save, save_series, xray
from pydicom.sr.codedict import codes

from nnunet_diffusion_ensemble.dicom.codes import SegmentCode, is_snomed_code, read_segment_codes
from nnunet_diffusion_ensemble.dicom.pixels import DicomImage, read_dicom
from nnunet_diffusion_ensemble.dicom.segmentation import segments_of, write_dicom_segmentation

REGIONS = {"background": (0,), "whole": (1, 2), "part": (2,)}


def written(image: DicomImage, labels: np.ndarray, file: Path) -> hd.seg.Segmentation:
    segments = segments_of(REGIONS, read_segment_codes(None, REGIONS))
    write_dicom_segmentation(file, labels, image, segments, "model")
    return hd.seg.segread(file)


def of_images(segmentation: hd.seg.Segmentation, image: DicomImage) -> np.ndarray:
    """(slices, rows, columns, segments), by the images that the frames refer to."""
    uids = [header.SOPInstanceUID for header in image.case.headers]
    return segmentation.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )


def expected(labels: np.ndarray) -> np.ndarray:
    return np.stack([labels > 0, labels == 2], axis=-1)


@pytest.mark.parametrize("kind", ["series", "xray"])
@pytest.mark.parametrize("is_empty", [False, True])
def test_every_voxel_comes_back_with_the_image_that_it_belongs_to(kind: str, is_empty: bool, tmp_path: Path) -> None:
    pixels = np.zeros((5, 7), np.uint16)  # 35 of them: frames do not end with a byte
    place = save_series(tmp_path / "s") if kind == "series" else save(xray(pixels), tmp_path / "x.dcm")
    image = read_dicom(place)
    labels = np.random.default_rng(0).integers(0, 3, image.voxels.shape) * (not is_empty)
    segmentation = written(image, labels, tmp_path / "seg.dcm")
    assert np.array_equal(of_images(segmentation, image), expected(labels))


def test_a_volume_of_segments_lies_where_the_series_does(tmp_path: Path) -> None:
    image = read_dicom(save_series(tmp_path / "s"))
    labels = np.random.default_rng(0).integers(0, 3, image.voxels.shape)
    volume = written(image, labels, tmp_path / "seg.dcm").get_volume().ensure_handedness("LEFT_HANDED", flip_axis=0)
    assert np.array_equal(np.asarray(volume.array), expected(labels))
    np.testing.assert_allclose(volume.affine[:3, 3], image.geometry.origin_mm, atol=1e-6)
    columns = image.geometry.directions * image.geometry.spacing_mm
    np.testing.assert_allclose(volume.affine[:3, :3], columns[:, ::-1], atol=1e-6)


def test_it_belongs_to_the_study_and_says_what_it_shows(tmp_path: Path) -> None:
    image = read_dicom(save_series(tmp_path / "s"))
    header = image.case.headers[0]
    segmentation = written(image, np.ones(image.voxels.shape, int), tmp_path / "seg.dcm")
    assert segmentation.StudyInstanceUID == header.StudyInstanceUID and segmentation.PatientName == PATIENT
    assert segmentation.SeriesInstanceUID != header.SeriesInstanceUID
    referred = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {one.ReferencedSOPInstanceUID for one in referred} == {h.SOPInstanceUID for h in image.case.headers}
    names = [(one.SegmentNumber, one.SegmentLabel, one.SegmentAlgorithmType) for one in segmentation.SegmentSequence]
    assert names == [(1, "whole", "AUTOMATIC"), (2, "part", "AUTOMATIC")]
    assert segmentation.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"


def test_a_label_map_of_another_size_is_refused(tmp_path: Path) -> None:
    image = read_dicom(save(xray(), tmp_path / "x.dcm"))
    with pytest.raises(ValueError, match=r"size \(1, 3, 3\) is none of an image of size \(1, 2, 3\)"):
        written(image, np.zeros((1, 3, 3), int), tmp_path / "seg.dcm")


def test_codes_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "codes.json"
    file.write_text(json.dumps({"whole": {"type": ["39607008", "SCT", "Lung structure"]}}))
    found = read_segment_codes(file, REGIONS)
    assert found["whole"].type == SegmentCode("39607008", "SCT", "Lung structure")
    assert found["whole"].category.meaning == "Anatomical structure"
    assert found["part"].type.meaning == "Tissue"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"lung": {"type": ["1", "SCT", "x"]}}, "lung: the model has no such label; it has background, whole, part"),
        ({"part": {"category": ["1", "SCT", "x"]}}, "part: needs type"),
        ({"part": {"type": ["1", "SCT"]}}, "part: type must be a list of three texts"),
        ({"part": ["1", "SCT", "x"]}, "part: needs type"),
        ({"part": {"type": ["39607008", "SCT", " "]}}, "part: type must be a list of three texts"),
        ({"part": {"type": [39607008, "SCT", "Lung"]}}, "part: type must be a list of three texts"),
        ({"part": {"type": ["39607080", "SCT", "Lung"]}}, "39607080, which is no code of SNOMED CT"),
        ({"part": {"type": ["T-28000", "SCT", "Lung"]}}, "T-28000, which is no code of SNOMED CT"),
        ({"part": {"type": ["1", "99HOSPITAL_OF_OURS", "x"]}}, "a scheme of 16 and a meaning of 64 characters at most"),
        ({"part": {"type": ["1", "99OURS", "x" * 65]}}, "a scheme of 16 and a meaning of 64 characters at most"),
        ({"part": {"type": ["1", "99OURS", "x"], "category": ["1"], "color": "red"}}, "part: needs type"),
        ({"part": {"type": ["1"], "category": ["1"]}}, "part: type must be a list .*; category must be a list"),
    ],
)
def test_wrong_codes_are_told(table: dict, message: str, tmp_path: Path) -> None:
    (tmp_path / "codes.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match=message):
        read_segment_codes(tmp_path / "codes.json", REGIONS)


def test_codes_of_another_scheme_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "codes.json").write_text(json.dumps({"part": {"type": ["T-28000", "SRT", "Lung"]}}))
    assert read_segment_codes(tmp_path / "codes.json", REGIONS)["part"].type == SegmentCode("T-28000", "SRT", "Lung")


def test_every_code_of_snomed_that_pydicom_knows_is_one_and_with_another_digit_none() -> None:
    known = {getattr(codes.SCT, name).value for name in codes.SCT.dir()}
    assert len(known) > 1000
    assert {value for value in known if not is_snomed_code(value)} <= {"115347700"}  # a slip in pydicom 3.0
    for value in sorted(known - {"115347700"})[:50]:
        for position, digit in enumerate(value):
            assert not is_snomed_code(f"{value[:position]}{(int(digit) + 1) % 10}{value[position + 1 :]}")
