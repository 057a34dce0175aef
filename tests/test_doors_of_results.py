"""The doors behind training: models that predict nothing finite, maps, evaluation, gallery, convert; and one bad case
never takes others with it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from benchmark_inputs import SHAPE as BENCHMARK_SHAPE
from benchmark_inputs import snapshot
from evaluation_data import write_evaluation_data
from faulty_files import (
    FLIPPED,
    SHEARED,
    half,
    half_inside,
    link,
    save,
    save_with_affine,
    stored,
    volume,
    voxel,
    without_end,
)
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from unlabelled_data import GREY_PLANS, write_plans
from unlabelled_data import NAME as UNLABELLED

from nnunet_diffusion_ensemble.benchmark.runner import run_benchmark
from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec
from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.data.convert import convert
from nnunet_diffusion_ensemble.data.unlabelled import preprocess_unlabelled
from nnunet_diffusion_ensemble.evaluation.cases import FailedCase, evaluate_folder
from nnunet_diffusion_ensemble.evaluation.settings import EvaluationSettings
from nnunet_diffusion_ensemble.images.maps import read_map, write_map
from nnunet_diffusion_ensemble.images.reading import ImageError
from nnunet_diffusion_ensemble.prediction.model import TrainedModel
from nnunet_diffusion_ensemble.prediction.predict import predict
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.report.figures.case_images import read_case

ONE_PROCESS = EvaluationSettings(num_processes=1)
CPU = PredictionSettings(folds=(0,), device="cpu", use_mirroring=False)


# ---- models


def test_a_model_with_weights_that_are_not_finite_is_named(
    model_folder: Callable, images: Callable, tmp_path: Path
) -> None:
    model = model_folder()
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    name = next(iter(checkpoint["network_weights"]))
    checkpoint["network_weights"][name].view(-1)[0] = torch.nan
    torch.save(checkpoint, file)
    with pytest.raises(ValueError, match=rf"{file} holds NaN or infinite weights \({re.escape(name)}\)"):
        list(predict(images(), tmp_path / "out", model, CPU))
    assert not (tmp_path / "out").exists()


def test_a_model_that_predicts_nan_is_named_and_no_case_is_written(
    model_folder: Callable, images: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, image: torch.Tensor) -> torch.Tensor:
        return torch.full((2, *image.shape[1:]), torch.nan)

    monkeypatch.setattr(nnUNetPredictor, "predict_logits_from_preprocessed_data", broken)
    model = model_folder()
    with pytest.raises(ValueError, match=rf"The model in {model} predicts NaN or infinite values"):
        list(predict(images(), tmp_path / "out", model, CPU))
    assert not list((tmp_path / "out").glob("*.nii.gz")) and not (tmp_path / "out" / "uncertainty.csv").exists()


# ---- maps


def nibabel_properties(affine: np.ndarray) -> dict[str, Any]:
    return {"nibabel_stuff": {"original_affine": affine}, "spacing": [2.0, 1.1, 0.8]}


def test_a_map_with_shear_is_read_by_the_library_that_wrote_it(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((3, 4, 5), np.float32)
    write_map(values, tmp_path / "a.nii.gz", nibabel_properties(SHEARED))
    np.testing.assert_array_equal(read_map(tmp_path / "a.nii.gz", "NibabelIO"), values)
    np.testing.assert_allclose(nibabel.load(tmp_path / "a.nii.gz").affine, SHEARED, rtol=1e-6)


@pytest.mark.parametrize("reader", ["NibabelIO", "SimpleITKIO"])
def test_a_map_that_holds_nan_is_neither_written_nor_read(reader: str, tmp_path: Path) -> None:
    values = np.zeros((3, 4, 5), np.float32)
    values[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"a\.nii\.gz would hold NaN"):
        write_map(values, tmp_path / "a.nii.gz", nibabel_properties(np.eye(4)))
    save_with_affine(tmp_path / "a.nii.gz", values, np.eye(4))
    with pytest.raises(ImageError, match=r"a\.nii\.gz holds NaN or infinite values in 1 voxel"):
        read_map(tmp_path / "a.nii.gz", reader)


def test_a_sheared_image_is_predicted_and_evaluated(model_folder: Callable, tmp_path: Path) -> None:
    model = model_folder(reader="NibabelIO")
    save_with_affine(tmp_path / "images" / "a_0000.nii.gz", volume(shape=(3, 22, 19)), SHEARED)
    list(predict(tmp_path / "images", tmp_path / "out", model, CPU))
    reference = tmp_path / "a.nii.gz"
    reference.write_bytes((tmp_path / "out" / "a.nii.gz").read_bytes())
    dataset_json = json.loads((model / "dataset.json").read_text())
    settings = EvaluationSettings(metrics=("Dice", "ECE"), num_processes=1)
    (case,) = evaluate_folder(tmp_path / "out", {"a": reference}, dataset_json, NibabelIO(), settings)
    assert {score.value for score in case.scores if score.timestep is None and score.metric == "Dice"} == {1.0}


# ---- evaluation


def test_a_prediction_that_lies_elsewhere_than_its_reference_is_refused(tmp_path: Path) -> None:
    data = write_evaluation_data(tmp_path, shape=(3, 8, 8), spacing=(2.0, 1.0, 1.0), num_cases=1)
    image = sitk.ReadImage(str(data.references["case_0"]))
    image.SetDirection(FLIPPED)
    sitk.WriteImage(image, str(data.references["case_0"]))
    with pytest.raises(ValueError, match=r"prediction/case_0\.nii\.gz has the direction .*, its reference"):
        list(evaluate_folder(*data.arguments, ONE_PROCESS))


def test_a_case_that_cannot_be_evaluated_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    data = write_evaluation_data(tmp_path, num_cases=3)
    half(data.prediction / "case_1.png")
    found = list(evaluate_folder(*data.arguments, ONE_PROCESS, "skip"))
    assert [case.case for case in found] == ["case_0", "case_1", "case_2"]
    assert isinstance(found[1], FailedCase) and "case_1.png cannot be read" in found[1].problem
    assert not any(isinstance(case, FailedCase) for case in (found[0], found[2]))


# ---- benchmark


@pytest.mark.parametrize("where", ["the image", "the prediction"])
def test_one_bad_case_of_a_domain_is_left_out_by_its_name(
    where: str, make_benchmark: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_benchmark(on_problem="skip")
    if where == "the image":
        values = volume(shape=BENCHMARK_SHAPE)
        values[0, 0, 0] = np.nan
        save(tmp_path / "north" / "images" / "case_1_0000.nii.gz", values)
    else:
        original = TrainedModel.logits

        def fails_on_the_second(self: Any, image: torch.Tensor) -> torch.Tensor:
            calls.append(image)
            if len(calls) == 2:
                raise RuntimeError("out of memory")
            return original(self, image)

        calls: list[torch.Tensor] = []
        monkeypatch.setattr(TrainedModel, "logits", fails_on_the_second)
    output = run_benchmark(spec)
    results, problems = pd.read_csv(output.results_file), pd.read_csv(output.problems_file)
    assert results["case"].unique().tolist() == ["case_0"]
    assert problems["case"].tolist() == ["case_1"]
    assert problems["domain"].tolist() == ["north"]
    assert "NaN" in problems["problem"][0] if where == "the image" else "out of memory" in problems["problem"][0]


def test_a_case_that_failed_is_tried_again_and_then_the_tables_are_whole(
    make_benchmark: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_benchmark(on_problem="skip")
    original = TrainedModel.logits
    with monkeypatch.context() as broken:
        calls: list[int] = []

        def fails_first(self: Any, image: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            if len(calls) == 1:
                raise RuntimeError("out of memory")
            return original(self, image)

        broken.setattr(TrainedModel, "logits", fails_first)
        output = run_benchmark(spec)
    assert pd.read_csv(output.problems_file)["case"].tolist() == ["case_0"]
    output = run_benchmark(spec)
    assert pd.read_csv(output.results_file)["case"].unique().tolist() == ["case_0", "case_1"]
    assert pd.read_csv(output.problems_file).empty


def test_where_all_cases_fail_that_is_told_of_the_model(
    make_benchmark: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Any, image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(TrainedModel, "logits", fails)
    with pytest.raises(ValueError, match=r"none of 2 case\(s\) could be predicted: .*out of memory"):
        run_benchmark(make_benchmark(on_problem="skip"))


# ---- gallery


def write_case(root: Path, direction: tuple[float, ...]) -> DomainSpec:
    """A reference that equals the prediction voxel by voxel, stored with an image of some direction."""
    labels = np.zeros((4, 6, 5), np.uint8)
    labels[1, 4, 0] = 1
    for name, values in (("images/a_0000", volume(shape=(4, 6, 5))), ("labels/a", labels), ("prediction/a", labels)):
        save(root / f"{name}.nii.gz", values, spacing=(1, 1, 3), direction=direction)
    described = {"labels": {"background": 0, "lung": 1}, "file_ending": ".nii.gz"}
    (root / "prediction/dataset.json").write_text(json.dumps(described))
    return DomainSpec(name="D", role="source", images=root / "images", references=root / "labels")


def test_the_gallery_turns_all_arrays_as_the_image_lies(tmp_path: Path) -> None:
    straight = read_case(
        write_case(tmp_path / "a", (1, 0, 0, 0, 1, 0, 0, 0, 1)), tmp_path / "a/prediction", "a", ("lung",)
    )
    turned = read_case(write_case(tmp_path / "b", FLIPPED), tmp_path / "b/prediction", "a", ("lung",))
    np.testing.assert_array_equal(turned.image, straight.image[:, ::-1])
    np.testing.assert_array_equal(turned.reference["lung"], straight.reference["lung"][:, ::-1])


def test_the_gallery_shows_what_was_compared_whatever_a_reference_says_of_itself(tmp_path: Path) -> None:
    domain = write_case(tmp_path, (1, 0, 0, 0, 1, 0, 0, 0, 1))
    stored(spacing=(1, 1, 3), direction=FLIPPED)(tmp_path / "labels/a.nii.gz")
    images = read_case(domain, tmp_path / "prediction", "a", ("lung",))
    np.testing.assert_array_equal(images.reference["lung"], images.prediction["lung"])


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("images/a_0000.nii.gz", half, r"images/a_0000\.nii\.gz cannot be read"),
        ("images/a_0000.nii.gz", half_inside, r"images/a_0000\.nii\.gz cannot be read"),
        ("labels/a.nii.gz", without_end, r"labels/a\.nii\.gz cannot be read"),
        ("prediction/a.nii.gz", half, r"prediction/a\.nii\.gz cannot be read"),
        ("labels/a.nii.gz", link, r"labels/a\.nii\.gz is a link to nowhere"),
    ],
)
def test_the_gallery_names_a_faulty_file(file: str, spoil: Callable, message: str, tmp_path: Path) -> None:
    domain = write_case(tmp_path, (1, 0, 0, 0, 1, 0, 0, 0, 1))
    spoil(tmp_path / file)
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_case(domain, tmp_path / "prediction", "a", ("lung",))
    assert snapshot(tmp_path) == before


# ---- convert, unlabelled images


@pytest.mark.parametrize("spoil", [half, without_end])
@pytest.mark.parametrize("name", ["images/b.png", "masks/b.png", "images/b.tif", "images/b.bmp"])
def test_convert_names_a_file_that_is_not_whole_and_writes_nothing(name: str, spoil: Callable, tmp_path: Path) -> None:
    for case in "ab":
        save(tmp_path / "images" / f"{case}.png", volume(shape=(40, 50)).clip(0, 255).astype(np.uint8))
        save(tmp_path / "masks" / f"{case}.png", np.eye(40, 50, dtype=np.uint8))
    (tmp_path / "images/b.png").unlink(missing_ok=not name.startswith("images"))
    save(tmp_path / name, volume(shape=(40, 50)).clip(0, 1).astype(np.uint8))
    if name.startswith("masks"):
        save(tmp_path / "images/b.png", volume(shape=(40, 50)).clip(0, 255).astype(np.uint8))
    spoil(tmp_path / name)
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=rf"{name} cannot be read"):
        convert(tmp_path / "images", tmp_path / "masks", [], tmp_path / "Dataset001_X")
    assert snapshot(tmp_path) == before


def test_convert_names_pixels_that_are_not_finite(tmp_path: Path) -> None:
    voxel(np.nan)(tmp_path / "images" / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif"):
        convert(None, None, [tmp_path / "images"], tmp_path / "Dataset001_X")
    assert not (tmp_path / "Dataset001_X").exists()


@pytest.mark.parametrize("spoil", [half, without_end, half_inside, voxel(np.nan), voxel(np.inf)])
def test_a_faulty_unlabelled_image_is_named_and_not_preprocessed(spoil: Callable, volumes: Path) -> None:
    file = volumes / "nnUNet_raw" / UNLABELLED / "imagesUn" / "b_0001.nii.gz"
    spoil(file)
    with pytest.raises(ValueError, match=r"b_0001\.nii\.gz (cannot be read|holds NaN)"):
        preprocess_unlabelled(1, "3d_fullres", "Plans", num_processes=0, show_progress_bar=False)
    folder = volumes / "nnUNet_preprocessed" / UNLABELLED / "Plans_3d_fullres_unlabelled"
    assert [file.name for file in folder.glob("b*")] == []
    assert (folder / "a.pkl").is_file()


def test_a_slice_is_no_unlabelled_image_for_a_configuration_of_volumes(volumes: Path) -> None:
    folder = volumes / "nnUNet_raw" / UNLABELLED / "imagesUn"
    for channel in (0, 1):
        save(folder / f"b_000{channel}.nii.gz", volume(shape=(30, 36)))
    with pytest.raises(ValueError, match=r"b_0000\.nii\.gz, b_0001\.nii\.gz has 2 dimensions, .*999 slices"):
        preprocess_unlabelled(1, "3d_fullres", "Plans", num_processes=0, show_progress_bar=False)


def test_a_slice_is_not_predicted_by_a_model_of_volumes(
    model_folder: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = model_folder()
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"]["spacing"] = [1.0, 1.0, 1.0]
    (model / "plans.json").write_text(json.dumps(plans))
    save(tmp_path / "images" / "a_0000.nii.gz", volume(shape=(30, 36)))
    arguments = ["-i", str(tmp_path / "images"), "-o", str(tmp_path / "out"), "-m", str(model), "-f", "0"]
    assert main(["predict", *arguments, "-device", "cpu"]) == 2
    assert "a_0000.nii.gz has 2 dimensions, and this is a configuration for volumes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_plans_of_pictures_are_not_asked_about_slices(grey: Path) -> None:
    write_plans(grey, GREY_PLANS)
    assert preprocess_unlabelled(1, "2d", "Plans", num_processes=0, show_progress_bar=False).is_dir()
