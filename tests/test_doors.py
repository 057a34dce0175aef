"""Every door refuses what is faulty, with the file's name, and writes nothing: a table of doors and faults."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_inputs import snapshot
from faulty_files import (
    FLIPPED,
    SHAPE,
    add_plans,
    empty,
    filled,
    flipped,
    folder,
    half,
    half_inside,
    link,
    make_dataset,
    mask,
    pixdim,
    save,
    stored,
    text,
    voxel,
    without_end,
    write_json,
)
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_diffusion_ensemble.benchmark.domains import Expected, check_domain
from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec
from nnunet_diffusion_ensemble.cli.parser import main

Fault = Callable[[Path], Any]

# What is wrong with an image file, `NAME_0000.nii.gz`; at every door through which images come.
IMAGE_FAULTS: dict[str, tuple[Fault, str]] = {
    "half the file": (half, r"_0000.nii.gz cannot be read \(it is truncated or damaged"),
    "the end of the file missing": (without_end, r"_0000.nii.gz cannot be read \(it is truncated or damaged"),
    "a valid gzip of half an image": (
        half_inside,
        r"_0000.nii.gz cannot be read \(it is truncated: \d+ of 2880",
    ),
    "a damaged byte": (flipped, r"_0000.nii.gz cannot be read \(it is truncated or damaged"),
    "nothing in it": (empty, r"_0000.nii.gz cannot be read \(it has no header"),
    "a text": (text, r"_0000.nii.gz cannot be read \(it has no header"),
    "NaN": (voxel(np.nan), r"_0000.nii.gz holds NaN or infinite values in 1 voxel"),
    "infinity": (voxel(np.inf), r"_0000.nii.gz holds NaN or infinite values in 1 voxel"),
    "a spacing of zero": (pixdim(0), r"_0000.nii.gz has a spacing of 0 mm; each must be above 0"),
    "a negative spacing": (pixdim(-1), r"_0000.nii.gz has a spacing of -1 mm; each must be above 0"),
    "a spacing of NaN": (pixdim(np.nan), r"_0000.nii.gz has a spacing of nan mm; each must be above 0"),
    "a spacing of micrometres": (
        stored(spacing=(0.001, 0.001, 0.001)),
        r"_0000.nii.gz has a spacing of 0\.001 x 0\.001 x 0\.001 mm; no scanner .* below 0\.005 or above 100 mm",
    ),
    "a spacing of decimetres": (
        stored(spacing=(800, 1100, 2000)),
        r"_0000.nii.gz has a spacing of 800 x 1100 x 2000 mm",
    ),
}
# What is wrong with a label map or a reference, beside its image.
LABEL_FAULTS: dict[str, tuple[Fault, str]] = {
    "half the file": (half, r"b.nii.gz cannot be read \(it is truncated or damaged"),
    "a valid gzip of half a label map": (half_inside, r"b.nii.gz cannot be read \(it is truncated: \d+ of 720 bytes"),
    "another size": (
        filled(lambda: mask((6, 12, 11))),
        r"b.nii.gz is of size 6 x 12 x 11, .*b_0000.* 6 x 12 x 10",
    ),
    "axes the other way": (filled(lambda: mask((10, 12, 6))), r"b.nii.gz is of size 10 x 12 x 6, the image"),
    "another spacing": (stored(spacing=(0.8, 1.1, 2.5)), r"b.nii.gz has the spacing 0\.8 x 1\.1 x 2\.5, the image"),
    "another direction": (stored(direction=FLIPPED), r"b.nii.gz has the direction \[\[-1\.0, 0\.0.*the image"),
    "another origin": (
        stored(origin=(-19, 15, 100)),
        r"b.nii.gz has the origin -19 x 15 x 100, the image .*-20 x 15",
    ),
    "values of a picture": (
        filled(lambda: 255 * mask()),
        r"b.nii.gz holds the values 0, 255; allowed.*convert",
    ),
    "a value too many": (filled(lambda: 2 * mask()), r"b.nii.gz holds the values 0, 2; allowed are 0, 1"),
    "labels that resampling left": (
        filled(lambda: mask() * np.float32(1.0000001)),
        r"values 0, 1\.0000001; allowed are 0, 1: 1\.0000001 is no whole number: round the labels",
    ),
    "negative values": (filled(lambda: -mask().astype(np.int16)), r"b.nii.gz holds the values -1, 0; allowed"),
    "NaN": (filled(lambda: np.where(mask() == 1, np.nan, 0).astype(np.float32)), r"b.nii.gz holds NaN .* 54 voxel"),
    "a text": (text, r"b.nii.gz cannot be read"),
}
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


def refused(arguments: list[str], message: str, root: Path, capsys: pytest.CaptureFixture) -> None:
    """The command ends with a sentence and leaves everything as it was."""
    before = snapshot(root)
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed), printed
    assert "Traceback" not in printed
    assert snapshot(root) == before


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


# ---- prediction


@pytest.fixture
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all rows: making it takes longer than refusing."""
    if not MODELS:
        MODELS.append(tmp_path_factory.mktemp("model") / "model")
        shutil.copytree(request.getfixturevalue("model_folder")(), MODELS[0])
    return MODELS[0]


MODELS: list[Path] = []


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_a_faulty_image_to_predict(fault: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    images = tmp_path / "images"
    for case in "ab":
        save(images / f"{case}_0000.nii.gz", voxel_free())
    spoil, message = IMAGE_FAULTS[fault]
    spoil(images / "b_0000.nii.gz")
    refused(predicting(images, tmp_path, model), f"  b{message}", tmp_path, capsys)


def voxel_free() -> np.ndarray:
    return np.random.default_rng(3).normal(100, 20, SHAPE).astype(np.float32)


def predicting(images: Path, root: Path, model: Path, *more: str) -> list[str]:
    return ["predict", "-i", str(images), "-o", str(root / "out"), "-m", str(model), "-f", "0", "-device", "cpu", *more]


MISPLACED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another ending": (
        lambda folder: save(folder / "c_0000.png", mask()[0]),
        r"c_0000\.png is not named CASE",
    ),
    "no channel number": (
        lambda folder: save(folder / "c.nii.gz", mask()),
        r"c.nii.gz is not named CASE",
    ),
    "an ending in capitals": (
        lambda folder: (folder / "c_0000.NII.GZ").write_bytes(b""),
        r"c_0000\.NII\.GZ is not",
    ),
    "a broken link": (
        lambda folder: (folder / "c_0000.nii.gz").symlink_to("gone"),
        r"is a link to gone",
    ),
    "a channel too many": (
        lambda folder: save(folder / "a_0001.nii.gz", voxel_free()),
        r"a_0000.nii.gz, a_0001.nii.gz: case a has 2 channel file\(s\), expected 1|hold 2 channel",
    ),
    "colours": (
        lambda folder: save(
            folder / "a_0000.nii.gz", np.zeros((3, *SHAPE), np.float32), spacing=(1, 1, 1, 1), origin=(0,) * 4
        ),
        "a_0000.nii.gz has several values in a voxel, e.g. colours",
    ),
}


@pytest.mark.parametrize("fault", MISPLACED)
def test_a_file_that_would_not_be_predicted(
    fault: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    images = tmp_path / "images"
    for case in "ab":
        save(images / f"{case}_0000.nii.gz", voxel_free())
    change, message = MISPLACED[fault]
    change(images)
    refused(predicting(images, tmp_path, model), message, tmp_path, capsys)


def test_what_is_left_out_of_a_prediction_is_counted(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    images = tmp_path / "images"
    for case in "abc":
        save(images / f"{case}_0000.nii.gz", voxel_free())
    half(images / "b_0000.nii.gz")
    save(images / "d.nii.gz", mask())
    (images / "notes.txt").write_text("x")
    assert main(predicting(images, tmp_path, model, "--on-problem", "skip")) == 0
    printed = capsys.readouterr().out
    assert "Left out: b_0000.nii.gz cannot be read" in printed
    assert "Left out: d.nii.gz is not named" in printed
    assert "Not looked at: notes.txt" in printed
    assert "Predicted 2 case(s), left out 2" in printed
    written = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert (written["num_cases"], sorted(written["left_out"])) == (2, ["b", "d.nii.gz"])
    assert sorted(file.name for file in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz"]


# ---- benchmark: images and references


def make_domain(root: Path) -> DomainSpec:
    for seed, case in enumerate("ab"):
        save(root / "images" / f"{case}_0000.nii.gz", voxel_free() + seed)
        save(root / "references" / f"{case}.nii.gz", mask())
    return DomainSpec(name="D", role="target", images=root / "images", references=root / "references")


EXPECTED = Expected(
    {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}, SimpleITKIO()
)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [*(("image", fault) for fault in IMAGE_FAULTS), *(("reference", fault) for fault in LABEL_FAULTS)],
)
def test_a_faulty_test_case(kind: str, fault: str, tmp_path: Path) -> None:
    domain = make_domain(tmp_path)
    spoil, message = (IMAGE_FAULTS if kind == "image" else LABEL_FAULTS)[fault]
    spoil(tmp_path / ("images/b_0000.nii.gz" if kind == "image" else "references/b.nii.gz"))
    before = snapshot(tmp_path)
    checked, (problem,) = check_domain(domain, EXPECTED)
    assert list(checked.cases) == ["a"] and problem.case == "b"
    assert re.search(message, problem.problem), problem.problem
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("unit_has_lengths", [True, False])
def test_where_lengths_mean_nothing_voxels_must_lie_in_one_place_all_the_same(
    unit_has_lengths: bool, tmp_path: Path
) -> None:
    domain = make_domain(tmp_path)
    stored(direction=FLIPPED)(tmp_path / "references/b.nii.gz")
    expected = Expected(EXPECTED.dataset_json, SimpleITKIO(), with_spacing=unit_has_lengths)
    assert list(check_domain(domain, expected)[0].cases) == ["a"]


def test_rounding_of_another_tool_is_no_other_geometry(tmp_path: Path) -> None:
    domain = make_domain(tmp_path)
    stored(spacing=(0.80004, 1.1, 2.0), origin=(-20.01, 15.0, 100.02))(tmp_path / "references/b.nii.gz")
    assert check_domain(domain, EXPECTED)[1] == []
