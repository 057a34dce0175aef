"""Predictions that are whole or not there, and those that are continued: from the same model, images and settings."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from predicted import CPU, read, run

from nnunet_diffusion_ensemble.prediction.folder import CaseFiles, PredictionFolder
from nnunet_diffusion_ensemble.prediction.origin import Origin
from nnunet_diffusion_ensemble.prediction.predict import predict
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings


def test_what_is_there_is_left_alone_and_the_rest_is_predicted(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model, cases = model_folder(), images(num_cases=3)
    output = run(cases, tmp_path / "out", model)
    before = (output / "uncertainty.csv").read_text()
    (output / "case_1.nii.gz").unlink()
    (output / "scores" / "case_2.json").unlink()
    (output / "uncertainty.csv").unlink()
    found = list(predict(cases, output, model, CPU, continue_prediction=True))
    assert [case.is_new for case in found] == [False, True, True]
    assert (output / "uncertainty.csv").read_text() == before
    assert [case.is_new for case in predict(cases, output, model, CPU)] == [True] * 3


def test_a_case_that_fails_leaves_no_file(
    model_folder: Callable, images: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_is_full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(CaseFiles, "write_scores", disk_is_full)
    with pytest.raises(OSError, match="No space left"):
        run(images(num_cases=1), tmp_path / "out", model_folder())
    files = {path.name for path in (tmp_path / "out").rglob("*")}
    assert files == {"prediction.json", "predicted_from.json", "plans.json", "dataset.json"}


def test_a_new_prediction_that_is_cut_short_does_not_leave_old_cases_to_be_continued_with(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model, cases = model_folder(folds=(0, 1)), images(num_cases=3)
    output = run(cases, tmp_path / "out", model)
    second = PredictionSettings(folds=(1,), device="cpu")
    next(predict(cases, output, model, second))  # and no further
    found = list(predict(cases, output, model, second, continue_prediction=True))
    assert [case.is_new for case in found] == [False, True, True]


def test_a_replaced_checkpoint_is_not_mixed_with_cases_of_the_old_one(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model, cases = model_folder(folds=(0, 1)), images(num_cases=2)
    output = run(cases, tmp_path / "out", model)
    before = {file: file.read_bytes() for file in output.rglob("*") if file.is_file()}
    checkpoint = model / "fold_0" / "checkpoint_final.pth"
    shutil.copy(model / "fold_1" / "checkpoint_final.pth", checkpoint)
    with pytest.raises(ValueError, match=r"another model \(changed: model \(fold_0/checkpoint_final\.pth\)\)"):
        run(cases, output, model, continue_prediction=True)
    assert {file: file.read_bytes() for file in output.rglob("*") if file.is_file()} == before
    assert [case.is_new for case in predict(cases, output, model, CPU)] == [True, True]
    assert [case.is_new for case in predict(cases, output, model, CPU, continue_prediction=True)] == [False, False]


def test_a_replaced_image_is_predicted_again(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    model, cases = model_folder(), images(num_cases=2)
    output = run(cases, tmp_path / "out", model)
    shutil.copy(cases / "case_0_0000.nii.gz", cases / "case_1_0000.nii.gz")
    assert [case.is_new for case in predict(cases, output, model, CPU, continue_prediction=True)] == [False, True]
    assert np.array_equal(*(read(output / f"case_{i}.nii.gz") for i in (0, 1)))


def test_cases_of_which_no_record_says_how_they_were_made_are_not_continued_with(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model, cases = model_folder(), images(num_cases=1)
    output = run(cases, tmp_path / "out", model)
    (output / "predicted_from.json").write_text("{")
    with pytest.raises(ValueError, match=r"no whole predicted_from\.json that says .* leave out --continue_prediction"):
        run(cases, output, model, continue_prediction=True)


def test_what_another_program_or_an_earlier_version_predicted_is_not_continued_with(tmp_path: Path) -> None:
    target = PredictionFolder(tmp_path, ".nii.gz", SimpleITKIO())
    origin = Origin(tmp_path / "predicted_from.json", {"model": {}, "settings": {}, "images": {}})
    target.check_continues({}, origin)  # nothing is there
    (tmp_path / "case_0.nii.gz").touch()
    with pytest.raises(ValueError, match=r"holds predictions \(case_0\.nii\.gz\).*an earlier version or"):
        target.check_continues({}, origin)


def test_cases_of_an_older_model_that_were_left_out_are_not_taken_up_later(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model, cases = model_folder(folds=(0, 1)), images(num_cases=2)
    output = run(cases, tmp_path / "out", model)
    shutil.copy(model / "fold_1" / "checkpoint_final.pth", model / "fold_0" / "checkpoint_final.pth")
    hidden = cases / "case_1_0000.nii.gz"
    hidden.rename(tmp_path / hidden.name)
    run(cases, output, model)  # only case_0
    (tmp_path / hidden.name).rename(hidden)
    assert [case.is_new for case in predict(cases, output, model, CPU, continue_prediction=True)] == [False, True]


def test_other_settings_do_not_continue_a_prediction(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    model, cases = model_folder(folds=(0, 1)), images(num_cases=1)
    output = run(cases, tmp_path / "out", model)
    settings = PredictionSettings(folds=(0, 1), device="cpu")
    with pytest.raises(ValueError, match=r"other settings \(folds \[0\], now \[0, 1\]\)"):
        run(cases, output, model, settings, continue_prediction=True)
