"""`nnunet-diffusion doctor`: what it says of a machine and of data sets, and its exit status."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shards_data import write_shard

from nnunet_diffusion_ensemble.cli import main
from nnunet_diffusion_ensemble.doctor.finding import NOTE, OK, PROBLEM, Finding, is_well

NAME = "Dataset007_Lungs"


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two labelled images in nnUNet_raw, whose variables are set."""
    for kind in ("raw", "preprocessed", "results"):
        (tmp_path / kind).mkdir()
        monkeypatch.setenv(f"nnUNet_{kind}", str(tmp_path / kind))
    folder = tmp_path / "raw" / NAME
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in range(2):
        pixels = np.random.RandomState(case).randint(0, 255, (16, 16)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "imagesTr" / f"c{case}_0000.png")
        Image.fromarray((pixels > 99).astype(np.uint8)).save(folder / "labelsTr" / f"c{case}.png")
    described = {
        "channel_names": {"0": "xray"},
        "labels": {"background": 0, "lung": 1},
        "numTraining": 2,
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def findings_of(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, list[dict]]]:
    def call(*options: str) -> tuple[int, list[dict]]:
        capsys.readouterr()
        status = main(["doctor", "--json", "-np", "1", *options])
        report = json.loads(capsys.readouterr().out)
        assert report["well"] == (status == 0)
        return status, report["findings"]

    return call


def test_cases_in_shards_are_counted(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    write_shard(dataset / "imagesUn" / "s.tar", {f"u{i}_0000.png": b"" for i in range(3)})
    _, findings = findings_of(capsys)("-d", "7")
    assert "2 labelled case(s), 3 unlabelled" in [finding["text"] for finding in findings]


def test_a_good_data_set_is_well_and_nothing_is_written(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    before = sorted(dataset.parents[1].rglob("*"))
    status, findings = findings_of(capsys)("-d", "7")
    assert status == 0
    about = {finding["about"]: finding for finding in findings}
    assert about[f"{NAME}, images"]["verdict"] == OK
    assert about[NAME]["text"] == "has no fingerprint yet"
    assert sorted(dataset.parents[1].rglob("*")) == before


def test_a_truncated_image_is_a_problem_named_with_its_file(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    image = dataset / "imagesTr" / "c1_0000.png"
    image.write_bytes(image.read_bytes()[:60])
    status, findings = findings_of(capsys)("-d", "7")
    assert status == 1
    problems = [finding for finding in findings if finding["verdict"] == PROBLEM]
    assert [finding["about"] for finding in problems] == [f"{NAME}, images"]
    assert "c1_0000.png" in problems[0]["text"] and problems[0]["remedy"]


def test_a_number_that_no_data_set_has_is_told_with_those_that_are_there(
    dataset: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["doctor", "-d", "8"]) == 2
    assert NAME in capsys.readouterr().err


def test_the_machine_is_looked_at_without_a_data_set(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    _, findings = findings_of(capsys)()
    text = " ".join(f"{finding['about']} {finding['text']}" for finding in findings)
    assert all(word in text for word in ("torch", "nnunetv2", "nnUNet_raw", NAME))
    assert {finding["verdict"] for finding in findings} <= {OK, NOTE, PROBLEM}


def test_a_variable_that_is_not_set_is_a_problem(
    dataset: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_results")
    status, findings = findings_of(capsys)()
    assert status == 1
    assert any(f["verdict"] == PROBLEM and "nnUNet_results" in f["about"] + f["text"] for f in findings)


def test_a_note_leaves_all_well_and_a_problem_does_not() -> None:
    assert is_well([Finding("a", OK, ""), Finding("b", NOTE, "")])
    assert not is_well([Finding("a", OK, ""), Finding("b", PROBLEM, "")])


def test_a_remedy_stands_below_its_finding() -> None:
    assert str(Finding("disk", PROBLEM, "full", "make room")) == "problem disk: full\n        -> make room"
