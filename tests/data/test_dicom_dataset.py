"""Folders of DICOM as an nnU-Net data set: values, spacing, masks, and no patient's name anywhere."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_data import COLUMN_MM, PATIENT, ROW_MM, STEP_MM, save, save_series, stored_values, xray
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from PIL import Image

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.data.dicom_dataset import convert_dicom
from nnunet_diffusion_ensemble.dicom.cases import find_dicom_cases

MASK = np.array([[0, 255, 0], [255, 0, 0]], np.uint8)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "Dataset001_Lungs"


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    save(xray(), tmp_path / "xrays" / "doe_jane.dcm")
    return tmp_path / "xrays"


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    (tmp_path / "masks").mkdir()
    Image.fromarray(MASK).save(tmp_path / "masks" / "doe_jane.png")
    return tmp_path / "masks"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path): gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_series_keeps_its_values_and_its_spacing_for_nnunet(tmp_path: Path, output: Path) -> None:
    report = convert_dicom(None, None, [save_series(tmp_path / "study" / "ct")], output)
    (file,) = (output / "imagesUn").iterdir()
    voxels, properties = SimpleITKIO().read_images([str(file)])
    assert np.array_equal(voxels[0], 2 * stored_values() - 1000)
    np.testing.assert_allclose(properties["spacing"], (STEP_MM, ROW_MM, COLUMN_MM), rtol=1e-5)
    assert report.channel_name == "CT" and report.num_cases == {"imagesUn": 1}


def test_an_xray_and_its_mask_pair_by_the_name_of_the_file(xrays: Path, masks: Path, output: Path) -> None:
    report = convert_dicom(xrays, masks, [], output, labels={"lung": 255})
    name = find_dicom_cases(xrays).cases[0].name
    image = sitk.ReadImage(str(output / "imagesTr" / f"{name}_0000.nii.gz"))
    label = sitk.ReadImage(str(output / "labelsTr" / f"{name}.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(label), MASK // 255)
    np.testing.assert_allclose(image.GetSpacing(), (0.1, 0.2), rtol=1e-6)
    np.testing.assert_allclose(label.GetSpacing(), image.GetSpacing())
    assert json.loads((output / "dataset.json").read_text())["labels"] == {"background": 0, "lung": 1}
    assert "at the detector" in str(report)


def test_a_mask_of_a_volume_is_named_by_the_folder_and_must_lie_on_it(tmp_path: Path, output: Path) -> None:
    images = save_series(tmp_path / "images" / "ct1").parent
    convert_dicom(None, None, [images], output)
    (file,) = (output / "imagesUn").iterdir()
    mask = sitk.Cast(sitk.ReadImage(str(file)) > -700, sitk.sitkUInt8)
    (tmp_path / "masks").mkdir()
    sitk.WriteImage(mask, str(tmp_path / "masks" / "ct1.nii.gz"))
    convert_dicom(images, tmp_path / "masks", [], output, overwrite=True)
    (label,) = (output / "labelsTr").iterdir()
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(label))), sitk.GetArrayFromImage(mask))
    mask.SetOrigin((0, 0, 0))
    sitk.WriteImage(mask, str(tmp_path / "masks" / "ct1.nii.gz"))
    with pytest.raises(ValueError, match=r"ct1\.nii\.gz has the origin .* its image .*IM"):
        convert_dicom(images, tmp_path / "masks", [], output, overwrite=True)


def test_nothing_that_is_written_names_the_patient(xrays: Path, masks: Path, output: Path) -> None:
    convert_dicom(xrays, masks, [], output)
    for file, content in contents(output).items():
        for secret in (PATIENT, "MRN-4711", "doe_jane", "Doe"):
            assert secret not in file and secret.encode() not in content


def test_a_table_of_whose_a_case_is_comes_on_request(xrays: Path, masks: Path, output: Path, tmp_path: Path) -> None:
    convert_dicom(xrays, masks, [], output, mapping=tmp_path / "whose.csv")
    with (tmp_path / "whose.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    header = find_dicom_cases(xrays).cases[0].headers[0]
    assert (row["PatientID"], row["SeriesInstanceUID"]) == ("MRN-4711", header.SeriesInstanceUID)
    assert (output / "imagesTr" / f"{row['case']}_0000.nii.gz").is_file()


def test_the_command_converts(
    xrays: Path,
    masks: Path,
    output: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(xray(), tmp_path / "archive" / "older.dcm")
    monkeypatch.setattr("nnunet_diffusion_ensemble.data.convert.dataset_folder", lambda name: output)
    given = ["convert", output.name, "--dicom", "--images", str(xrays), "--masks", str(masks)]
    given += ["--unlabelled", str(tmp_path / "archive"), "--mapping", str(tmp_path / "whose.csv")]
    assert main([*given, "--resize", "8", "8"]) == 2
    assert "leave out --resize" in capsys.readouterr().err
    assert main([*given, "--labels", "lung=255"]) == 0
    assert "1 in imagesTr, 1 in imagesUn; channel: grey" in capsys.readouterr().out
    assert len((tmp_path / "whose.csv").read_text().splitlines()) == 3  # with the names of the columns


def with_other(folder: Path, name: str, **values: Any) -> Path:
    save(xray(**values), folder / name)
    return folder


FAULTS = {
    "no mask": (lambda xrays, masks: with_other(xrays, "b.dcm"), r"b\.dcm has no mask: name it b\.nii\.gz or cr_"),
    "no image": (lambda xrays, masks: Image.fromarray(MASK).save(masks / "z.png"), r"z\.png has no image"),
    "two masks": (
        lambda xrays, masks: Image.fromarray(MASK).save(masks / "doe_jane.bmp"),
        r"doe_jane\.dcm has 2 masks",
    ),
    "size": (
        lambda xrays, masks: Image.fromarray(MASK.T).save(masks / "doe_jane.png"),
        r"doe_jane\.png is of size 3 x 2, its image .*doe_jane\.dcm of 2 x 3",
    ),
    "two kinds": (lambda xrays, masks: save_series(xrays / "ct"), r"has no mask|is an X-ray"),
    "colour": (
        lambda xrays, masks: with_other(xrays, "c.dcm", PhotometricInterpretation="RGB"),
        r"c\.dcm is in colour",
    ),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_is_told_and_nothing_is_written(fault: str, xrays: Path, masks: Path, output: Path) -> None:
    make, message = FAULTS[fault]
    make(xrays, masks)
    with pytest.raises(ValueError, match=message):
        convert_dicom(xrays, masks, [], output)
    assert not output.exists() and not list(output.parent.glob(".*partial"))
