"""Planning a data set that has no label at all."""

import json
import re
from collections.abc import Callable, Iterator
from itertools import starmap
from pathlib import Path

import numpy as np
import pytest
from planning_data import make_dataset, write_dataset
from shards_data import move_into_shard

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.data import fingerprint
from nnunet_diffusion_ensemble.planning.planner import DiffusionEnsemblePlanner

NAME = "Dataset007_Unlabelled"
IMAGES = {f"imagesUn/scan{i}_0000.nii.gz": np.random.default_rng(i).normal(10, 3, (12, 36, 40)) for i in range(3)}


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a data set yet to be written; the fingerprint is extracted in this process."""
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
        (tmp_path / variable).mkdir()
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    monkeypatch.setattr(fingerprint, "as_they_come", lambda function, cases, num: starmap(function, cases))
    monkeypatch.setattr(fingerprint, "NUM_SAMPLES", 10_000)
    folder = tmp_path / "raw" / NAME
    folder.mkdir()
    return folder


def plan(*options: str) -> int:
    return main(["plan", "-d", "7", "--base-features", "4", *options])


def preprocessed(raw: Path, file: str) -> dict:
    return json.loads((raw.parents[1] / "preprocessed" / NAME / file).read_text())


def test_the_least_data_set_can_be_planned(raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_dataset(raw, IMAGES, channel_names={"0": "CT"})
    before = sorted(raw.rglob("*"))
    assert plan("--unlabelled") == 0
    assert "CT is clipped and scaled by all voxels of the nonzero region" in caplog.text
    plans = preprocessed(raw, "nnUNetDiffusionEnsemblePlans.json")
    assert set(plans["configurations"]) == {"2d", "3d_fullres"}
    assert plans["configurations"]["3d_fullres"]["spacing"] == [1.0, 1.0, 1.0]
    assert plans["configurations"]["2d"]["diffusion"]["pretraining"]["batch_size"] == 2
    found = plans["foreground_intensity_properties_per_channel"]["0"]
    assert found["mean"] == pytest.approx(10, abs=0.2)
    assert found["std"] == pytest.approx(3, abs=0.2)
    assert sorted(raw.rglob("*")) == before  # raw data are only read


@pytest.mark.parametrize("labels", [{"background": 0}, {"background": 0, "lung": 1}])
def test_labels_that_no_image_has_are_not_in_the_planned_data_set(labels: dict, raw: Path) -> None:
    write_dataset(raw, IMAGES, channel_names={"0": "MRI"}, labels=labels, numTraining=0, name="mine")
    assert plan("--unlabelled") == 0
    assert preprocessed(raw, "dataset.json") == {
        "file_ending": ".nii.gz",
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0},
        "numTraining": 0,
        "name": "mine",
    }


def test_images_in_shards_are_planned_as_files_are(raw: Path) -> None:
    write_dataset(raw, IMAGES, channel_names={"0": "MRI"})
    assert plan("--unlabelled", "-np", "1") == 0
    names = ("nnUNetDiffusionEnsemblePlans.json", "dataset_fingerprint.json")
    loose, fingerprint = (preprocessed(raw, name) for name in names)
    move_into_shard(raw / "imagesUn" / "all.tar", (raw / "imagesUn").iterdir())
    assert plan("--unlabelled", "-np", "1", "--clean") == 0
    found = preprocessed(raw, names[1])
    assert (found["spacings"], found["shapes_after_crop"]) == (
        fingerprint["spacings"],
        fingerprint["shapes_after_crop"],
    )
    shards = preprocessed(raw, names[0])
    key = "foreground_intensity_properties_per_channel"  # sampled at random
    assert shards.pop(key)["0"]["mean"] == pytest.approx(loose.pop(key)["0"]["mean"], rel=0.01)
    assert shards == loose


def test_an_image_in_a_shard_that_cannot_be_planned_with_is_told_with_it(
    raw: Path, capsys: pytest.CaptureFixture
) -> None:
    write_dataset(raw, {**IMAGES, "imagesUn/zero_0000.nii.gz": np.zeros((4, 4, 4))}, channel_names={"0": "MRI"})
    move_into_shard(raw / "imagesUn" / "all.tar", (raw / "imagesUn").iterdir())
    assert plan("--unlabelled") == 2
    assert "all.tar/zero_0000.nii.gz is a blank image" in capsys.readouterr().err


def test_the_fingerprint_is_made_once_and_anew_for_other_images(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(raw, IMAGES, channel_names={"0": "MRI"})
    runs: list[int] = []
    extract: Callable = fingerprint.as_they_come

    def counted(function: Callable, cases: Iterator, num: int) -> Iterator:
        listed = [*cases]
        runs.append(len(listed))
        return extract(function, listed, num)

    monkeypatch.setattr(fingerprint, "as_they_come", counted)
    for _ in range(2):
        assert plan("--unlabelled") == 0
    assert runs == [3]
    assert plan("--unlabelled", "--clean") == 0
    (raw / "imagesUn" / "scan0_0000.nii.gz").unlink()
    assert plan("--unlabelled") == 0
    assert runs == [3, 3, 2]


@pytest.mark.parametrize(
    ("images", "dataset", "options", "message"),
    [
        (IMAGES, {}, ["--unlabelled"], "lacks channel_names"),
        ({}, {"channel_names": {"0": "MRI"}}, ["--unlabelled"], "no images in .*imagesUn"),
        (
            {"imagesTr/a_0000.nii.gz": np.ones((3, 4, 5))},
            {"channel_names": {"0": "MRI"}},
            ["--unlabelled"],
            "1 labelled case.*without --unlabelled",
        ),
        (IMAGES, {"channel_names": {"0": "MRI"}}, [], "no labelled image in imagesTr.*--unlabelled"),
        (IMAGES, {"channel_names": {"0": "MRI"}}, ["--unlabelled", "--denoiser", "x"], "give one of the two"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    images: dict, dataset: dict, options: list[str], message: str, raw: Path, capsys: pytest.CaptureFixture
) -> None:
    write_dataset(raw, images, **dataset)
    assert plan(*options) == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert re.search(message, printed), printed


def test_a_missing_dataset_json_is_told_with_an_example(raw: Path, capsys: pytest.CaptureFixture) -> None:
    assert plan("--unlabelled") == 2
    assert '{"channel_names": {"0": "X-ray"}, "file_ending": ".png"}' in capsys.readouterr().err


def test_a_fingerprint_without_labels_does_not_serve_a_data_set_that_got_some(tmp_path, monkeypatch) -> None:
    name = make_dataset(tmp_path, monkeypatch, {"0": "CT"}, (1, 64, 64), (999.0, 1.0, 1.0))
    file = tmp_path / "preprocessed" / name / "dataset_fingerprint.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"from_unlabelled_images": True}))
    with pytest.raises(ValueError, match=r"made from unlabelled images.*--clean"):
        DiffusionEnsemblePlanner(name)
