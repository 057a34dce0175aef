"""`nnunet-diffusion postprocessing` on tiny models: what it learns from which labels, and what nnU-Net makes of it."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from held_out_data import make_raw_dataset
from nnunetv2.postprocessing.remove_connected_components import apply_postprocessing_to_folder
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.held_out.postprocessing import learn_postprocessing, write_postprocessing

SIZES = {"case_0": 12, "case_1": 6, "case_2": 3}  # of the smaller component; the larger one has 24 voxels


def write_labels(file: Path, smaller: int, value: int = 1, other: int = 0) -> None:
    """Two boxes, and one voxel of another label that touches the larger one."""
    old = sitk.ReadImage(str(file))
    labels = np.zeros_like(sitk.GetArrayFromImage(old))
    labels[0, :4, :6] = value
    labels[0, 6 : 6 + smaller // 3, :3] = value
    if other:
        labels[0, 3, 5] = other
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(old)
    sitk.WriteImage(image, str(file))


@pytest.fixture
def raw(tmp_path: Path) -> Callable[..., Path]:
    """Makes the raw data set, with components of known sizes."""

    def made(**options: int) -> Path:
        folder = make_raw_dataset(tmp_path, 3)
        for case, smaller in SIZES.items():
            write_labels(folder / "labelsTr" / f"{case}.nii.gz", smaller, **options)
        return folder

    return made


@pytest.mark.parametrize(("folds", "least"), [((0,), 6 / 24), ((1,), 3 / 24), ((0, 1), 3 / 24), (("all",), 3 / 24)])
def test_it_learns_from_the_labels_that_the_folds_were_trained_on(
    folds: tuple, least: float, model_folder: Callable, raw: Callable
) -> None:
    model = model_folder(nnUNetTrainer, folds=folds)
    raw()
    assert learn_postprocessing(model, folds, 1.0) == {"organ": least}
    assert learn_postprocessing(model, folds) == {"organ": 0.25 * least}


def test_a_region_within_another_is_left_alone(model_folder: Callable, raw: Callable) -> None:
    regions = {"background": 0, "all": [1, 2], "core": [2]}
    model = model_folder(nnUNetTrainer, labels=regions)
    raw(other=2)
    assert learn_postprocessing(model, (0,), 1.0) == {"all": 6 / 24}


def test_nnunet_applies_what_the_command_writes(
    model_folder: Callable, raw: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = model_folder(nnUNetTrainer)
    folder = raw()
    assert main(["postprocessing", "-m", str(model), "-f", "0", "--share", "0.6"]) == 0
    file = model / "postprocessing_folds_0.pkl"
    printed = capsys.readouterr().out
    assert "organ: components below 15.0% of the largest are removed" in printed  # 0.6 * 6 / 24
    assert f"nnUNetv2_apply_postprocessing -i PREDICTIONS -o OUTPUT -pp_pkl_file {file}" in printed
    assert json.loads(file.with_suffix(".json").read_text()) == {"smallest_share_of_largest_component": {"organ": 0.15}}
    functions, arguments = pickle.loads(file.read_bytes())
    apply_postprocessing_to_folder(
        str(folder / "labelsTr"), str(tmp_path / "clean"), functions, arguments,
        str(model / "plans.json"), str(model / "dataset.json"), 1,
    )  # fmt: skip
    counts = {}
    for case in SIZES:
        cleaned = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "clean" / f"{case}.nii.gz")))
        counts[case] = int((cleaned == 1).sum())
    assert counts == {"case_0": 36, "case_1": 30, "case_2": 24}  # 3 of 24 is 12.5%


def test_labels_that_are_gone_are_told(model_folder: Callable, raw: Callable, capsys: pytest.CaptureFixture) -> None:
    model = model_folder(nnUNetTrainer)
    shutil.rmtree(raw() / "labelsTr")
    assert main(["postprocessing", "-m", str(model), "-f", "0"]) == 2
    assert "holds no label of a case that the model was trained on" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0", "1.5", "nan"])
def test_a_share_that_is_none_is_told(share: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["postprocessing", "-m", "nowhere", "--share", share]) == 2
    assert "--share is above 0 and at most 1" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["postprocessing", "-m", str(tmp_path / "none")]) == 2
    assert "is not a folder of a trained model" in capsys.readouterr().err


def test_without_the_labels_nothing_is_written(
    model_folder: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = model_folder(nnUNetTrainer)
    assert main(["postprocessing", "-m", str(model), "-f", "0"]) == 2
    assert "splits_final.json" in capsys.readouterr().err
    assert not list(model.glob("*.pkl"))


def test_a_file_that_is_written_twice_is_the_newer_one(model_folder: Callable, raw: Callable) -> None:
    model = model_folder(nnUNetTrainer)
    raw()
    write_postprocessing(model, (0,), {"organ": 0.5})
    file = write_postprocessing(model, (0,), {"organ": 0.25})
    assert pickle.loads(file.read_bytes())[1] == [{"smallest": [(1, 0.25)]}]
