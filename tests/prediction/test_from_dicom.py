"""`nnunet-diffusion predict --dicom`: the prediction of the converted image, and SEG that holds the same voxels."""

from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_data import oblique_slices, save, save_series, xray

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.dicom.cases import find_dicom_cases
from nnunet_diffusion_ensemble.prediction.from_dicom import predict_dicom
from nnunet_diffusion_ensemble.prediction.predict import LeftOut, predict
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings

CPU = PredictionSettings(folds=(0,), device="cpu", use_mirroring=False)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, shape)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return save_series(tmp_path / "dicom", oblique_slices(noise((2, 20, 18)).astype(np.int16)))


def read(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def test_a_series_is_predicted_as_its_nifti_and_its_seg_has_the_same_voxels(
    series: Path, model_folder: Callable, tmp_path: Path
) -> None:
    model, output = model_folder(), tmp_path / "out"
    (done,) = predict_dicom(series, output, model, CPU)
    name = done.scores.case
    list(predict(output / "images", tmp_path / "nifti", model, CPU))
    labels = read(output / f"{name}.nii.gz")
    assert np.array_equal(labels, read(tmp_path / "nifti" / f"{name}.nii.gz")) and len(np.unique(labels)) > 1
    case = find_dicom_cases(series).cases[0]
    segmentation = hd.seg.segread(output / "dicom_seg" / f"{name}.dcm")
    found = segmentation.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in case.headers], assert_missing_frames_are_empty=True
    )
    assert [one.SegmentLabel for one in segmentation.SegmentSequence] == ["organ"]
    assert np.array_equal(found[..., 0], labels == 1)


def test_an_xray_is_predicted_by_a_model_of_pictures(model_folder: Callable, tmp_path: Path) -> None:
    save(xray(noise((20, 18)).astype(np.uint16)), tmp_path / "x" / "x.dcm")
    model = model_folder(reader="NaturalImage2DIO", file_ending=".png")
    (done,) = predict_dicom(tmp_path / "x", tmp_path / "out", model, CPU)
    name = done.scores.case
    assert read(tmp_path / "out" / f"{name}.png").shape == (20, 18)
    assert (tmp_path / "out" / "dicom_seg" / f"{name}.dcm").is_file()


def test_going_on_predicts_nothing_again_but_what_has_changed(
    series: Path, model_folder: Callable, tmp_path: Path
) -> None:
    model, output = model_folder(), tmp_path / "out"
    list(predict_dicom(series, output, model, CPU))
    (file,) = (output / "dicom_seg").iterdir()
    before = file.read_bytes()
    (again,) = predict_dicom(series, output, model, CPU, continue_prediction=True)
    assert not again.is_new and file.read_bytes() == before
    save_series(series, oblique_slices(noise((2, 20, 18)).astype(np.int16) // 2))
    (anew,) = predict_dicom(series, output, model, CPU, continue_prediction=True)
    assert anew.is_new and file.read_bytes() != before


def test_what_cannot_be_predicted_is_refused_or_left_out(series: Path, model_folder: Callable, tmp_path: Path) -> None:
    save(xray(PhotometricInterpretation="RGB"), series / "colour.dcm")
    model = model_folder()
    with pytest.raises(ValueError, match=r"or leave them out with --on-problem skip:\s+\S*colour\.dcm is in colour"):
        list(predict_dicom(series, tmp_path / "out", model, CPU))
    assert not (tmp_path / "out").exists()
    left_out, _ = predict_dicom(series, tmp_path / "out", model, CPU, on_problem="skip")
    assert isinstance(left_out, LeftOut) and "colour.dcm" in left_out.problem
    assert "is in colour" in (tmp_path / "out" / "prediction.json").read_text()


def test_a_volume_is_no_picture_and_one_series_not_two_channels(
    series: Path, model_folder: Callable, tmp_path: Path
) -> None:
    pictures = model_folder(reader="NaturalImage2DIO", file_ending=".png")
    with pytest.raises(ValueError, match=r"IM\S+ cannot be stored as \.png: such files hold pictures"):
        list(predict_dicom(series, tmp_path / "out", pictures, CPU))
    two = model_folder(channels=2, name="two")
    with pytest.raises(ValueError, match=r"IM\S+ is one channel, the model was trained on 2\. Convert"):
        list(predict_dicom(series, tmp_path / "out", two, CPU))


def test_the_command_takes_codes_with_dicom_only(
    series: Path, model_folder: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "codes.json").write_text('{"organ": {"type": ["39607008", "SCT", "Lung structure"]}}')
    given = ["predict", "-i", str(series), "-o", str(tmp_path / "out"), "-m", str(model_folder())]
    given += ["-f", "0", "-device", "cpu", "--disable_tta", "--segment-codes", str(tmp_path / "codes.json")]
    assert main(given) == 2
    assert "add --dicom" in capsys.readouterr().err
    assert main([*given, "--dicom"]) == 0
    (file,) = (tmp_path / "out" / "dicom_seg").iterdir()
    kind = hd.seg.segread(file).SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    assert kind.CodeMeaning == "Lung structure"
