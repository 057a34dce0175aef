"""Verification of a raw data set: no false alarm, nothing read twice, and facts about all cases together."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty_files import DATASET, SHAPE, half, make_dataset, mask, save, volume
from shards_data import write_shard

from nnunet_diffusion_ensemble.data import verify
from nnunet_diffusion_ensemble.data.verify import verify_dataset
from nnunet_diffusion_ensemble.nnunet.dataset_json import read_dataset_json


def check(raw: Path, num_processes: int = 1) -> None:
    verify_dataset(raw, raw.parents[1] / "preprocessed" / DATASET, read_dataset_json(raw), num_processes)


def regions(raw: Path) -> None:
    for case in "abc":
        save(raw / f"labelsTr/{case}.nii.gz", mask() + np.roll(mask(), 2, -1) * 2)  # 0 to 3


def colours(raw: Path) -> None:
    for case in ("imagesTr/a", "imagesTr/b", "imagesTr/c", "imagesUn/u"):
        save(raw / f"{case}_0000.png", np.zeros((*SHAPE[1:], 3), np.uint8) + 7)


def two_files(raw: Path) -> None:
    for case in ("imagesTr/a", "imagesTr/b", "imagesTr/c", "imagesUn/u"):
        save(raw / f"{case}_0001.nii.gz", volume(9))


def float_labels(raw: Path) -> None:
    save(raw / "labelsTr/a.nii.gz", mask().astype(np.float32))
    save(raw / "labelsTr/b.nii.gz", mask().astype(np.int16))


def with_spacing_file(raw: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder / "a.json").write_text('{"spacing": [2, 1, 1]}')


def beside(raw: Path) -> None:
    (raw / "labelsTr" / "._a.nii.gz").write_bytes(b"x")
    (raw / "imagesTr" / "notes.txt").write_text("x")
    (raw / "labelsTr" / ".DS_Store").write_bytes(b"x")


def nothing(raw: Path) -> None:
    """As it is."""


REGIONS = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
GOOD: dict[str, tuple[dict[str, Any], Callable[[Path], Any]]] = {
    "volumes": ({}, nothing),
    "pictures": ({"ending": ".png"}, nothing),
    "pictures in colours": ({"ending": ".png", "channel_names": {"0": "R", "1": "G", "2": "B"}}, colours),
    "BMP": ({"ending": ".bmp"}, nothing),
    "NRRD": ({"ending": ".nrrd"}, nothing),
    "MetaImage": ({"ending": ".mha"}, nothing),
    "TIFF of three dimensions": ({"ending": ".tif"}, nothing),
    "TIFF with a spacing file": ({"ending": ".tif"}, with_spacing_file),
    "regions and an ignore label": ({"labels": REGIONS, "regions_class_order": [1, 2]}, regions),
    "two channels": ({"channel_names": {"0": "CT", "1": "PET"}}, two_files),
    "the old key modality": ({"channel_names": None, "modality": {"0": "CT"}}, nothing),
    "labels stored as float": ({}, float_labels),
    "a reader by name": ({"overwrite_image_reader_writer": "NibabelIO"}, nothing),
    "files of other kinds": ({}, beside),
}


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_data_set_raises_no_alarm(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, adapt = GOOD[kind]
    raw = make_dataset(tmp_path, monkeypatch, **changes)
    adapt(raw)
    check(raw)


def test_cases_that_dataset_json_lists_are_read_from_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    save(tmp_path / "elsewhere" / "x.nii.gz", volume())
    listed = {"x": {"images": ["$ELSEWHERE/x.nii.gz"], "label": "labelsTr/a.nii.gz"}}
    raw = make_dataset(tmp_path, monkeypatch, dataset=listed, numTraining=1)
    check(raw)
    half(tmp_path / "elsewhere" / "x.nii.gz")
    with pytest.raises(ValueError, match=r"elsewhere/x\.nii\.gz cannot be read"):
        check(raw)


def test_what_was_right_is_not_read_again_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    original = verify.look_at_case
    monkeypatch.setattr(verify, "look_at_case", lambda *a: seen.append(a[-1].name) or original(*a))
    raw = make_dataset(tmp_path, monkeypatch)
    check(raw)
    check(raw)
    assert seen == ["a", "b", "c", "u"]
    save(raw / "labelsTr/b.nii.gz", 255 * mask())
    with pytest.raises(ValueError, match="holds the values 0, 255"):
        check(raw)
    assert seen[4:] == ["b"]


def test_of_shards_names_are_verified_and_images_left_to_preprocessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = make_dataset(tmp_path, monkeypatch)
    write_shard(raw / "imagesUn" / "s.tar", {"x_0000.nii.gz": b"no image"})
    check(raw)
    write_shard(raw / "imagesUn" / "s.tar", {"x_0000.png": b"", "a_0000.nii.gz": b""})
    with pytest.raises(ValueError, match=r"imagesUn/s\.tar: x_0000\.png: expected a file named CASE_0000\.nii\.gz"):
        check(raw)
    write_shard(raw / "imagesUn" / "s.tar", {"a_0000.nii.gz": b""})
    with pytest.raises(ValueError, match="unlabelled case a also is in imagesTr"):
        check(raw)


def test_other_labels_in_dataset_json_have_all_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = make_dataset(tmp_path, monkeypatch, labels={"background": 0, "organ": 1, "other": 2})
    check(raw)
    make_dataset(tmp_path, monkeypatch, labels={"background": 0})
    with pytest.raises(ValueError, match="holds the values 0, 1; allowed are 0"):
        check(raw)


def test_a_label_that_no_case_has_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raw = make_dataset(tmp_path, monkeypatch, labels={"background": 0, "organ": 1, "other": 2})
    with caplog.at_level(logging.WARNING):
        check(raw)
    assert "No label map holds the value(s) 2 of dataset.json" in caplog.text


@pytest.mark.slow  # starts processes
def test_two_processes_find_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "SECONDS_ALONE", 0)
    raw = make_dataset(tmp_path, monkeypatch, cases=[f"case{number:03d}" for number in range(20)])
    half(raw / "imagesTr/case004_0000.nii.gz")
    half(raw / "labelsTr/case017.nii.gz")
    told = []
    for number in (1, 2):
        with pytest.raises(ValueError, match="case004") as error:
            check(raw, number)
        told.append(str(error.value))
    assert told[0] == told[1]
