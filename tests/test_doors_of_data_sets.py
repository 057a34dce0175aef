"""Data sets refuse what is faulty, with the file's name, and write nothing: a table of doors and faults."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import IMAGE_FAULTS, LABEL_FAULTS, refused
from faulty_files import SHAPE, add_plans, folder, half, link, make_dataset, mask, save, write_json

from nnunet_diffusion_ensemble.cli.parser import main

# What is wrong with dataset.json: the change, and what is told.
JSON_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "an ending without its dot": (
        {"file_ending": "nii.gz"},
        r"file_ending begins with a dot, e\.g\. \.png; got 'nii\.gz'",
    ),
    "an ending that nobody reads": ({"file_ending": ".dcm"}, r"file_ending \.dcm is none that nnU-Net reads"),
    "channels the wrong way round": (
        {"channel_names": {"MRI": 0}},
        r"channel_names goes .* got the keys MRI",
    ),
    "channels from one": ({"channel_names": {"1": "MRI"}}, r"numbered from 0; got the keys 1"),
    "a list of channels": ({"channel_names": ["MRI"]}, r"channel_names goes from the number"),
    "labels as text": (
        {"labels": {"background": "0", "organ": "1"}},
        r"labels goes from .*background: '0', organ: '1'",
    ),
    "labels the wrong way round": ({"labels": {"0": "background", "1": "organ"}}, r"labels goes from name to value"),
    "a label that is no whole number": ({"labels": {"background": 0, "organ": 1.5}}, r"whole numbers.*got organ: 1\.5"),
    "a gap in the labels": ({"labels": {"background": 0, "organ": 2}}, r"have no gaps .* got 0, 2, where 1 is missing"),
    "no background": ({"labels": {"organ": 1, "other": 2}}, r"labels needs a background of 0; got none"),
    "a background of one": ({"labels": {"background": 1, "organ": 0}}, r"labels needs a background of 0; got 1"),
    "two labels of one value": ({"labels": {"background": 0, "a": 1, "b": 1}}, r"two labels have one value"),
    "an ignore label in between": (
        {"labels": {"background": 0, "ignore": 1, "organ": 2}},
        r"the ignore label is the highest value; got 1, and labels up to 2",
    ),
    "regions without an order": (
        {"labels": {"background": 0, "whole": [1, 2], "core": 2}},
        r"regions_class_order lists a value for each of the 2 regions \(whole, core\); got None",
    ),
    "a list of cases": ({"dataset": ["a"]}, r"dataset goes from case to files, .*; got list"),
    "a case without images": ({"dataset": {"a": {"label": "labelsTr/a.nii.gz"}}}, r"got a: \{'label': 'labelsTr"),
    "no labels": ({"labels": None}, r"labels goes from name to value.*got None"),
    "no number of cases": ({"numTraining": None}, r"numTraining is the number of labelled cases; got None"),
    "a reader that there is not": (
        {"overwrite_image_reader_writer": "DicomIO"},
        r"overwrite_image_reader_writer 'DicomIO' is no reader of nnU-Net; there are NaturalImage2DIO",
    ),
    "another number of cases": ({"numTraining": 4}, r"numTraining is 4, but there are 3 labelled cases"),
}
# What is wrong with names in a data set.
NAME_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a label map missing": (lambda raw: (raw / "labelsTr/b.nii.gz").unlink(), r"labelsTr/b.nii.gz is missing"),
    "a label map that is a broken link": (
        lambda raw: link(raw / "labelsTr/b.nii.gz"),
        r"labelsTr/b.nii.gz is a link to nowhere, which is not there",
    ),
    "an image missing": (
        lambda raw: (raw / "imagesTr/b_0000.nii.gz").unlink(),
        r"labelsTr/b.nii.gz has no image imagesTr/b_0000.nii.gz",
    ),
    "an ending in capitals": (
        lambda raw: (raw / "imagesTr/b_0000.nii.gz").rename(raw / "imagesTr/b_0000.NII.GZ"),
        r"imagesTr/b_0000\.NII\.GZ is not named CASE_0000.nii.gz, so nnU-Net does not see it",
    ),
    "another ending": (
        lambda raw: save(raw / "imagesTr/d_0000.nrrd", mask()),
        r"imagesTr/d_0000\.nrrd is not named CASE_0000.nii.gz",
    ),
    "a hidden file that macOS left": (
        lambda raw: (raw / "imagesTr/._b_0000.nii.gz").write_bytes(b"Mac"),
        r"imagesTr/\._b_0000\.nii\.gz is hidden, but nnU-Net takes it for a case: delete it",
    ),
    "no channel number": (
        lambda raw: save(raw / "imagesTr/d.nii.gz", mask()),
        r"imagesTr/d.nii.gz is not named CASE",
    ),
    "a channel too many": (
        lambda raw: save(raw / "imagesTr/b_0001.nii.gz", mask()),
        r"b_0000.nii.gz, b_0001.nii.gz: case b has 2 channel file\(s\)",
    ),
    "the first channel missing": (
        lambda raw: (raw / "imagesTr/b_0000.nii.gz").rename(raw / "imagesTr/b_0001.nii.gz"),
        r"imagesTr/b_0001.nii.gz: the channels of a case are numbered from _0000 without gaps",
    ),
    "an image that is a broken link": (
        lambda raw: link(raw / "imagesTr/b_0000.nii.gz"),
        "imagesTr/b_0000.nii.gz is a link to nowhere, which is not there",
    ),
    "an image that is a folder": (
        lambda raw: folder(raw / "imagesTr/b_0000.nii.gz"),
        "imagesTr/b_0000.nii.gz is a folder",
    ),
    "a label map that is a folder": (lambda raw: folder(raw / "labelsTr/b.nii.gz"), "labelsTr/b.nii.gz is a folder"),
    "no labelsTr": (lambda raw: (raw / "labelsTr").rename(raw / "labels"), r"there is no folder labelsTr"),
    "all label maps empty": (
        lambda raw: [save(raw / f"labelsTr/{case}.nii.gz", 0 * mask()) for case in "abc"],
        r"all label maps are empty: none holds anything but background",
    ),
    "a slice among volumes": (
        lambda raw: [save(raw / name, mask()[0]) for name in ("imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz")],
        r"imagesTr/b_0000.nii.gz has 2 dimensions, most images have 3; .*999 slices",
    ),
    "an unlabelled image named as a labelled one": (
        lambda raw: save(raw / "imagesUn/b_0000.nii.gz", mask()),
        r"unlabelled case b also is in imagesTr",
    ),
    "an unlabelled image of another kind": (
        lambda raw: save(raw / "imagesUn/x_0000.nrrd", mask()),
        r"imagesUn/x_0000\.nrrd: expected a file named CASE_0000.nii.gz",
    ),
    "half an unlabelled image": (
        lambda raw: half(raw / "imagesUn/u_0000.nii.gz"),
        "imagesUn/u_0000.nii.gz cannot",
    ),
}


PLAN, PREPROCESS = ["plan", "-d", "1", "-np", "1"], ["preprocess", "-d", "1", "-np", "1", "-p", "Plans", "-c", "2d"]
DOORS = {"plan": PLAN, "preprocess": PREPROCESS}


def rows(door: str, faults: dict[str, Any], number: int | None = None) -> list[tuple[str, str]]:
    """A door with all faults or the first ones, where it is the same check behind the door."""
    return [(door, fault) for fault in [*faults][:number]]


@pytest.mark.parametrize(("door", "fault"), [*rows("plan", IMAGE_FAULTS), *rows("preprocess", IMAGE_FAULTS, 5)])
def test_a_faulty_labelled_image(
    door: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    raw = make_dataset(tmp_path, monkeypatch)
    add_plans(raw)
    spoil, message = IMAGE_FAULTS[fault]
    spoil(raw / "imagesTr" / "b_0000.nii.gz")
    refused(DOORS[door], f"imagesTr/b{message}", tmp_path, capsys)


@pytest.mark.parametrize(("door", "fault"), [*rows("plan", LABEL_FAULTS), *rows("preprocess", LABEL_FAULTS, 5)])
def test_a_faulty_label_map(
    door: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    raw = make_dataset(tmp_path, monkeypatch)
    add_plans(raw)
    spoil, message = LABEL_FAULTS[fault]
    spoil(raw / "labelsTr" / "b.nii.gz")
    refused(DOORS[door], message, tmp_path, capsys)


@pytest.mark.parametrize("fault", JSON_FAULTS)
def test_a_faulty_dataset_json(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    changes, message = JSON_FAULTS[fault]
    raw = make_dataset(tmp_path, monkeypatch)
    content = json.loads((raw / "dataset.json").read_text()) | changes
    write_json(raw, {key: value for key, value in content.items() if value is not None})
    refused(PLAN, message, tmp_path, capsys)


WRITTEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "with a byte order mark": (lambda content: b"\xef\xbb\xbf" + content, r"begins with a byte order mark: save it"),
    "in another encoding": (lambda content: content.decode().encode("utf-16"), r"is not UTF-8 .* save it as that"),
    "with a label twice": (
        lambda content: content.replace(b'"organ": 1', b'"organ": 1, "organ": 1'),
        r"is not JSON \(organ is there twice: leave one of them out\)",
    ),
}


@pytest.mark.parametrize("fault", WRITTEN)
def test_a_dataset_json_as_other_programs_write_it(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    change, message = WRITTEN[fault]
    file = make_dataset(tmp_path, monkeypatch) / "dataset.json"
    file.write_bytes(change(file.read_bytes()))
    refused(PLAN, rf"dataset\.json {message}", tmp_path, capsys)


@pytest.mark.parametrize("fault", NAME_FAULTS)
def test_faulty_names(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    raw = make_dataset(tmp_path, monkeypatch)
    change, message = NAME_FAULTS[fault]
    change(raw)
    refused(PLAN, message, tmp_path, capsys)


@pytest.mark.parametrize("fault", ["an ending without its dot", "channels the wrong way round"])
def test_a_faulty_dataset_json_of_unlabelled_images(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    changes, message = JSON_FAULTS[fault]
    raw = make_dataset(tmp_path, monkeypatch)
    shutil.rmtree(raw / "imagesTr")
    write_json(raw, {"channel_names": {"0": "MRI"}, "file_ending": ".nii.gz"} | changes)
    refused([*PLAN, "--unlabelled"], message, tmp_path, capsys)


def test_an_image_in_colours_among_grey_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    raw = make_dataset(tmp_path, monkeypatch, ending=".png")
    save(raw / "imagesTr/b_0000.png", np.zeros((*SHAPE[1:], 3), np.uint8))
    refused(PLAN, r"imagesTr/b_0000\.png holds 3 channel\(s\), dataset.json has 1 in channel_names", tmp_path, capsys)


def test_all_faults_are_listed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    raw = make_dataset(tmp_path, monkeypatch)
    half(raw / "imagesTr/a_0000.nii.gz")
    half(raw / "labelsTr/a.nii.gz")
    save(raw / "labelsTr/b.nii.gz", 255 * mask())
    (raw / "labelsTr/c.nii.gz").unlink()
    assert main(PLAN) == 2
    lines = capsys.readouterr().err.splitlines()[1:]
    files = ["labelsTr/c.nii.gz", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "labelsTr/b.nii.gz"]
    assert [line.split()[0] for line in lines] == files
