"""`nnunet-diffusion calibrate` on tiny models: what it measures, writes and refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from held_out_data import make_raw_dataset
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from scipy.special import expit, logit

from nnunet_diffusion_ensemble.calibration.file import read_calibration
from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.held_out.calibrate import Calibrating, DiceSettings
from nnunet_diffusion_ensemble.held_out.cases import of_the_data_set
from nnunet_diffusion_ensemble.prediction.predict import predict
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer

CPU = PredictionSettings(folds=(0,), device="cpu", use_mirroring=False)
ONE_SPLIT = [{"train": ["case_0"], "val": ["case_1"]}]
REGIONS = {"background": 0, "whole": [1, 2], "part": [2]}


def calibrating(model: Path, dice: DiceSettings | None = None) -> Calibrating:
    return Calibrating(model, CPU, of_the_data_set(model, CPU), dice)


def read(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def test_what_is_measured_is_what_predict_writes(model_folder: Callable, tmp_path: Path) -> None:
    model, raw = model_folder(), make_raw_dataset(tmp_path, 3, ONE_SPLIT)
    measured = list(calibrating(model).measure_all())
    rows = {case.scores.case: case.scores for case in predict(raw / "imagesTr", tmp_path / "out", model, CPU)}
    assert [case.name for case in measured] == ["case_1", "case_2"]
    for case in measured:
        row = rows[case.name]
        assert (case.scores["entropy"], case.scores["timestep_dice"]) == (row.entropy, row.timestep_dice)
        mask, reference = (
            read(f) > 0 for f in (tmp_path / "out" / f"{case.name}.nii.gz", raw / "labelsTr" / f"{case.name}.nii.gz")
        )
        assert case.dice == pytest.approx(2 * (mask & reference).sum() / (mask.sum() + reference.sum()))
        assert np.array_equal(case.pixels.truth[1], reference.ravel())
        written = read(tmp_path / "out" / "probability" / "1_organ" / f"{case.name}.nii.gz")
        np.testing.assert_allclose(case.pixels.probabilities[1], written.ravel(), rtol=1e-6)


def test_ignored_pixels_do_not_count(model_folder: Callable, tmp_path: Path) -> None:
    model = model_folder(nnUNetTrainer, labels={"background": 0, "organ": 1, "ignore": 2})
    file = make_raw_dataset(tmp_path, 2, ONE_SPLIT) / "labelsTr" / "case_1.nii.gz"
    image = sitk.ReadImage(str(file))
    labels = sitk.GetArrayFromImage(image)
    labels[0] = 2
    ignored = sitk.GetImageFromArray(labels)
    ignored.CopyInformation(image)
    sitk.WriteImage(ignored, str(file))
    (case,) = calibrating(model).measure_all()
    assert case.pixels.truth.shape == (2, labels[1].size)


@pytest.mark.parametrize(
    ("trainer", "labels", "scores"),
    [
        (DiffusionEnsembleTrainer, None, ("expected_dice", "timestep_dice")),
        (nnUNetTrainer, REGIONS, ("expected_dice",)),
    ],
    ids=["ours", "nnU-Net's, regions"],
)
def test_the_command_writes_what_predict_then_uses(
    trainer: type,
    labels: dict | None,
    scores: tuple,
    model_folder: Callable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    model = model_folder(trainer, **({} if labels is None else {"labels": labels}))
    raw = make_raw_dataset(tmp_path, 6, ONE_SPLIT)
    options = ["-m", str(model), "-f", "0", "-device", "cpu", "--disable_tta"]
    assert main(["calibrate", *options, "--coverage", "0.8"]) == 0
    printed = capsys.readouterr().out
    assert "5 cases, jackknife+: intervals aim at 80% of cases like these, 60% is proved" in printed
    file = model / "calibration_folds_0.json"
    assert f"Wrote {file}" in printed
    calibration = read_calibration(file)
    assert calibration.dice is not None and calibration.dice.scores == scores
    assert len(calibration.temperatures) == (1 if labels is None else 2)
    assert list(calibration.cases) == [f"case_{i}" for i in range(1, 6)]

    assert main(["predict", *options, "-i", str(raw / "imagesTr"), "-o", str(tmp_path / "plain")]) == 0
    more = ["--calibrated", "--review-below", "0.999"]
    assert main(["predict", *options, "-i", str(raw / "imagesTr"), "-o", str(tmp_path / "out"), *more]) == 0
    assert "To review: 6 of 6 case(s)" in capsys.readouterr().out
    header, *rows = (tmp_path / "out" / "uncertainty.csv").read_text().splitlines()
    assert header.endswith("predicted_dice,lower,upper,review") and all(row.endswith(",yes") for row in rows)
    plain = (tmp_path / "plain" / "uncertainty.csv").read_text().splitlines()
    assert plain[0].endswith("predicted_dice,lower,upper")
    assert [row.removesuffix(",yes") for row in rows] == plain[1:]
    assert np.array_equal(*(read(tmp_path / name / "case_1.nii.gz") for name in ("plain", "out")))
    folder = sorted((tmp_path / "out" / "probability").iterdir())[-1].name
    p, tempered = (read(tmp_path / name / "probability" / folder / "case_1.nii.gz") for name in ("plain", "out"))
    inside = (p > 0) & (p < 1)
    expected = expit(logit(p[inside].astype(float)) / calibration.temperatures[-1])  # of two classes as of a region
    np.testing.assert_allclose(tempered[inside], expected, atol=1e-5)


def test_too_few_cases_are_refused_before_any_is_predicted(model_folder: Callable, tmp_path: Path) -> None:
    model = model_folder(nnUNetTrainer)
    make_raw_dataset(tmp_path, 6, ONE_SPLIT)
    with pytest.raises(ValueError, match=r"5 labelled case\(s\) .* takes 9.*at most --coverage 0.83"):
        next(calibrating(model, DiceSettings()).measure_all())


def test_one_case_is_enough_for_the_temperature_alone(model_folder: Callable, tmp_path: Path) -> None:
    model = model_folder(nnUNetTrainer)
    make_raw_dataset(tmp_path, 2, ONE_SPLIT)
    assert main(["calibrate", "-m", str(model), "-f", "0", "-device", "cpu", "--temperature-only"]) == 0
    assert read_calibration(model / "calibration_folds_0.json").dice is None


def test_a_score_that_the_model_does_not_have_is_told(model_folder: Callable, tmp_path: Path) -> None:
    model = model_folder(nnUNetTrainer)
    make_raw_dataset(tmp_path, 6, ONE_SPLIT)
    found = calibrating(model, DiceSettings(0.8, None, ("timestep_dice",)))
    list(found.measure_all())
    with pytest.raises(ValueError, match=r"no case the score timestep_dice.*--scores"):
        found.fit()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--images", "x"], "--images and --references go together"),
        (["--coverage", "1"], "--coverage is a share above 0 and below 1"),
        (["--scores", "colour"], "--scores colour: name some of expected_dice"),
        (["--images", "x", "--references", "y"], "There is no folder"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(
    options: list, words: str, model_folder: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = model_folder(nnUNetTrainer)
    make_raw_dataset(tmp_path, 2, ONE_SPLIT)
    assert main(["calibrate", "-m", str(model), "-f", "0", "-device", "cpu", *options]) == 2
    assert words in capsys.readouterr().err
    assert not (model / "calibration_folds_0.json").exists()


def test_the_file_says_what_it_was_fitted_for(model_folder: Callable, tmp_path: Path) -> None:
    model = model_folder(nnUNetTrainer)
    make_raw_dataset(tmp_path, 2, ONE_SPLIT)
    found = calibrating(model)
    list(found.measure_all())
    file = found.write(found.fit())
    content = json.loads(file.read_text())
    assert set(content["weights"]) == {"plans.json", "dataset.json", "fold_0/checkpoint_final.pth"}
    assert content["predicts_with"]["use_mirroring"] is False
    assert not list(model.glob("*.partial"))
