"""What `nnunet-diffusion predict` refuses, before it predicts anything, and in which words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.prediction.folder import PredictionFolder, folder_name
from nnunet_diffusion_ensemble.prediction.predict import predict
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

CPU = PredictionSettings(folds=(0,), device="cpu")


def run(images: Path, output: Path, model: Path, settings: PredictionSettings = CPU, **options: Any) -> None:
    list(predict(images, output, model, settings, **options))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda images: (images / "case_1_0001.nii.gz").unlink(),
            r"case_1_0000\.nii\.gz holds 1 channel\(s\), the model was trained on 2",
        ),
        (lambda images: (images / "case_1_0000.nii.gz").unlink(), "numbered from _0000 without gaps"),
        (lambda images: [file.unlink() for file in images.iterdir()], r"no image named CASE_0000\.nii\.gz"),
        (
            lambda images: [file.unlink() for file in images.glob("*_0001*")],
            r"1 channel\(s\), the model was trained on 2",
        ),
        (lambda images: (images / "case_0_0000.nii.gz").write_bytes(b"x"), r"case_0_0000\.nii\.gz.* cannot be read"),
    ],
)
def test_images_that_do_not_fit_are_named(
    change: Callable, message: str, model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    cases, model = images(channels=2), model_folder(channels=2)
    change(cases)
    with pytest.raises(ValueError, match=message):
        run(cases, tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_of_images_is_named(model_folder: Callable, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"There is no folder {tmp_path / 'nowhere'}"):
        run(tmp_path / "nowhere", tmp_path / "out", model_folder())


@pytest.mark.parametrize("missing", ["plans.json", "dataset.json"])
def test_a_folder_without_a_model_is_named(
    missing: str, model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model = model_folder()
    (model / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"not a folder of a trained model: it has no {missing}"):
        run(images(), tmp_path / "out", model)


def test_of_a_missing_fold_those_that_are_there_are_told(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"no .*fold_3.* there is -f 0 -chk checkpoint_final\.pth"):
        run(images(), tmp_path / "out", model_folder(), PredictionSettings(folds=(0, 3), device="cpu"))


def test_a_damaged_checkpoint_is_named(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    model = model_folder()
    file = model / "fold_0" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint_final\.pth.*truncated"):
        run(images(), tmp_path / "out", model)


def test_a_pretraining_is_no_model(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    model = model_folder()
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False) | {"trainer_name": DiffusionPretrainTrainer.__name__}
    torch.save(checkpoint, file)
    with pytest.raises(ValueError, match="DiffusionPretrainTrainer trains no segmentation"):
        run(images(), tmp_path / "out", model)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_reader_writer", "NibabelIOWithReorient", "reads images with NibabelIOWithReorient"),
        ("previous_stage", "3d_lowres", "is a cascade: use nnUNetv2_predict"),
    ],
)
def test_what_only_nnunet_can_do_is_refused(
    key: str, value: str, message: str, model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model = model_folder()
    plans = json.loads((model / "plans.json").read_text())
    (plans["configurations"]["2d"] if key == "previous_stage" else plans)[key] = value
    (model / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(NotImplementedError, match=message):
        run(images(), tmp_path / "out", model)


def test_a_denoiser_of_other_channels_is_refused(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    other = model_folder(name="other", channels=2) / "fold_0" / "checkpoint_final.pth"
    with pytest.raises(ValueError, match=r"takes 2 channel\(s\), the images have 1"):
        run(images(), tmp_path / "out", model_folder(), denoiser=str(other))


@pytest.mark.parametrize("step_size", [0, -0.5, 1.1])
def test_the_step_size_is_a_share_of_the_patch(step_size: float) -> None:
    with pytest.raises(ValueError, match=f"tile_step_size must be a number above 0 and at most 1; got {step_size}"):
        PredictionSettings(tile_step_size=step_size, device="cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:0", "tpu"])
def test_an_unknown_device_is_refused_with_those_there_are(device: str) -> None:
    with pytest.raises(ValueError, match=f"device must be a device that is here: cpu.*; got '{device}'"):
        PredictionSettings(device=device)


@pytest.mark.parametrize(
    ("name", "expected"), [("lung", "1_lung"), ("left / right", "1_left_right"), ("../../etc", "1_.._.._etc")]
)
def test_no_name_of_a_class_leads_out_of_its_folder(name: str, expected: str) -> None:
    assert folder_name(1, name) == expected


def test_a_case_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    class SimpleITKIO: ...

    folder = PredictionFolder(tmp_path / "out", ".nii.gz", SimpleITKIO())
    with pytest.raises(KeyboardInterrupt), folder.new_case("a") as files:
        (files.root / "a.nii.gz").write_bytes(b"half")
        raise KeyboardInterrupt
    assert list((tmp_path / "out").iterdir()) == []


# ---- command line


def test_the_command_predicts_and_says_so(
    model_folder: Callable, images: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model, cases, output = model_folder(), images(), tmp_path / "out"
    arguments = ["predict", "-i", str(cases), "-o", str(output), "-m", str(model), "-f", "0", "-device", "cpu"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "1/2 case_0: entropy 0." in printed
    assert f"Wrote {output / 'uncertainty.csv'}" in printed
    assert main([*arguments, "--continue_prediction"]) == 0
    assert "2/2 case_1: is there" in capsys.readouterr().out


def test_a_model_is_found_by_data_set_trainer_plans_and_configuration(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    name = "results/Dataset001_Made/DiffusionEnsembleTrainer__nnUNetDiffusionEnsemblePlans__2d"
    model_folder(name=name)
    where = ["-i", str(images()), "-o", str(tmp_path / "out"), "-f", "0", "-device", "cpu", "--disable_tta"]
    assert main(["predict", "-d", "1", "-c", "2d", *where]) == 0
    assert json.loads((tmp_path / "out" / "prediction.json").read_text())["use_mirroring"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "1"], "name the configuration as well"),
        (["-m", "nowhere"], "nowhere is not a folder of a trained model"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["predict", "-i", "a", "-o", "b", "-device", "cpu", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("arguments", [[], ["-m", "a", "-d", "1"], ["-m", "a", "-f", "first"]])
def test_options_that_contradict_are_refused_at_once(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "-i", "a", "-o", "b", *arguments])
    assert "error:" in capsys.readouterr().err
