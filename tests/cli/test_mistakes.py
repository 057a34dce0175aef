"""Doors x faults: each gives a sentence that says what came and what to do, and leaves everything as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from planning_data import make_dataset as make_raw_dataset
from report_data import Made, make_results
from unlabelled_data import GREY_JSON, GREY_PLANS, NAME, make_dataset

from nnunet_diffusion_ensemble.cli.parser import main

SHIPPED = "chest-xray-64"
DEEP = "[" * 20000
Fault = Callable[[Path], Any]


def write(name: str, text: str) -> Fault:
    return lambda folder: (folder / name).write_text(text)


def remove(name: str) -> Fault:
    return lambda folder: (folder / name).unlink()


def as_folder(name: str) -> Fault:
    def fault(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return fault


def edit(name: str, change: Callable[[str], str]) -> Fault:
    return lambda folder: (folder / name).write_text(change((folder / name).read_text()))


def change_json(name: str, change: Callable[[dict], Any]) -> Fault:
    def fault(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return fault


def without(*path: str) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def nothing(folder: Path) -> None: ...


def everything_in(folder: Path) -> dict[str, bytes | None]:
    found = sorted(folder.rglob("*"))
    return {str(file.relative_to(folder)): file.read_bytes() if file.is_file() else None for file in found}


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable:
    monkeypatch.setenv("TMPDIR", str(tmp_path.parent))

    def run(arguments: str, fault: Fault, message: str) -> None:
        fault(tmp_path)
        before = everything_in(tmp_path)
        status = main([part.format(tmp=tmp_path) for part in arguments.split()])
        told = capsys.readouterr().err
        assert message.format(tmp=tmp_path) in told
        assert (status, "Traceback" in told) == (2, False), told
        assert everything_in(tmp_path) == before

    return run


# ---- report

RESULTS = "results/results.csv"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    made = Made(models=("A",), with_timesteps=(), num_cases=2, seeds=(0,), labelled_cases=(6,), has_images=False)
    make_results(tmp_path / "results", made)
    (tmp_path / "file").write_text("mine")


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ("", edit(RESULTS, lambda text: text.replace("value", "wert", 1)), "results.csv lacks the column(s) value"),
        ("", edit(RESULTS, lambda text: text[:-9]), "results.csv is truncated"),
        ("", write(RESULTS, ""), "results.csv is empty"),
        ("", edit(RESULTS, lambda text: text.split("\n")[0] + "\n"), "has no results of any case"),
        ("", edit(RESULTS, lambda text: text.replace(",0.", ",no", 1)), "results.csv cannot be read as a table"),
        ("", edit(RESULTS, lambda text: text + 'A,6,0,Home,"\n'), "results.csv cannot be read as a table"),
        (
            "",
            edit(RESULTS, lambda text: text.replace("\nA,", "\nB,", 1)),
            "results.csv has results of B, which spec.yaml",
        ),
        ("", lambda folder: (folder / RESULTS).write_bytes(b"\xff\xfe\x00" * 99), "results.csv"),
        ("", as_folder(RESULTS), "results.csv is a folder, not a file"),
        ("", remove("results/problems.csv"), "There is no {tmp}/results/problems.csv"),
        ("", write("results/problems.csv", ""), "problems.csv is empty"),
        ("", write("results/calibration.csv", "model,seed\n"), "calibration.csv lacks the column(s) labelled_cases, "),
        ("", write("results/spec.yaml", ""), "spec.yaml has"),
        ("", write("results/spec.yaml", DEEP), "spec.yaml is nested too deep"),
        ("-o {tmp}/file", nothing, "{tmp}/file is a file, but a folder is needed"),
        ("-o {tmp}/file/below", nothing, "{tmp}/file is a file, but a folder is needed"),
        ("--labels nose", nothing, "--labels nose: the results have lung"),
    ],
)
def test_report(arguments: str, fault: Fault, message: str, results: None, check: Callable) -> None:
    check(f"report {{tmp}}/results {arguments}", fault, message)


def test_report_of_a_file(results: None, check: Callable) -> None:
    check("report {tmp}/file", nothing, "{tmp}/file is a file, but a folder is needed")


# ---- predict


@pytest.fixture
def model(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    model_folder()
    images(num_cases=1)
    (tmp_path / "file").write_text("mine")


CHECKPOINT = "model/fold_0/checkpoint_final.pth"


def flip(name: str, share: float = 0.5) -> Fault:
    """Changes a bit in the middle of a file."""

    def fault(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[int(share * len(content))] ^= 1
        (folder / name).write_bytes(content)

    return fault


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ("", write("model/plans.json", "{}"), "model/plans.json lacks"),
        ("", write("model/plans.json", "[]"), "model/plans.json must hold an object"),
        ("", write("model/plans.json", '{"configurations": 3}'), "model/plans.json"),
        ("", write("model/plans.json", '{"a":'), "model/plans.json is not JSON"),
        ("", write("model/plans.json", DEEP), "model/plans.json is not JSON"),
        ("", change_json("model/plans.json", without("configurations", "2d")), "model/plans.json"),
        ("", change_json("model/plans.json", without("configurations", "2d", "patch_size")), "model/plans.json"),
        ("", change_json("model/plans.json", without("image_reader_writer")), "model/plans.json"),
        ("", write("model/dataset.json", "{}"), "model/dataset.json lacks"),
        ("", write("model/dataset.json", "7"), "model/dataset.json must hold an object"),
        ("", change_json("model/dataset.json", lambda content: content.update(labels=[1])), "model/dataset.json"),
        ("", flip(CHECKPOINT), "checkpoint_final.pth is damaged"),
        ("", as_folder(CHECKPOINT), "There is no {tmp}/model/fold_0/checkpoint_final.pth"),
        ("", lambda folder: torch.save([1], folder / CHECKPOINT), "is not a checkpoint of nnU-Net"),
        ("-step_size nan", nothing, "The step size is a share of the patch"),
        ("-f 7", nothing, "There is no {tmp}/model/fold_7"),
        ("-o {tmp}/file", nothing, "{tmp}/file is a file, but a folder is needed"),
        ("-i {tmp}/file", nothing, "{tmp}/file is a file, but a folder is needed"),
        ("-m {tmp}/file", nothing, "{tmp}/file"),
        ("--denoiser {tmp}/file", nothing, "{tmp}/file is not a checkpoint"),
        ("--denoiser {tmp}/images", nothing, "{tmp}/images is a folder, not a checkpoint"),
    ],
)
def test_predict(arguments: str, fault: Fault, message: str, model: None, check: Callable) -> None:
    given = f"predict -i {{tmp}}/images -o {{tmp}}/out -m {{tmp}}/model -f 0 -device cpu {arguments}"
    check(given, fault, message)


# ---- plan and preprocess


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_raw_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (4, 32, 32), (1.0, 1.0, 1.0))
    (tmp_path / "file").write_text("mine")


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ("", write("raw/Dataset001_Made/dataset.json", "{}"), "dataset.json lacks channel_names"),
        ("", write("raw/Dataset001_Made/dataset.json", "[1]"), "dataset.json must hold an object"),
        ("", write("raw/Dataset001_Made/dataset.json", DEEP), "dataset.json is not JSON"),
        ("", change_json("raw/Dataset001_Made/dataset.json", without("labels")), "dataset.json lacks"),
        ("", remove("raw/Dataset001_Made/dataset.json"), "There is no {tmp}/raw/Dataset001_Made/dataset.json"),
        ("", write("preprocessed/Dataset001_Made/dataset_fingerprint.json", "{}"), "dataset_fingerprint.json"),
        (
            "",
            write("preprocessed/Dataset001_Made/dataset_fingerprint.json", "{"),
            "dataset_fingerprint.json is not JSON",
        ),
        ("-d 2", nothing, "no data set with number 2"),
        ("--batch-size 0", nothing, "--batch-size"),
        ("--base-features -1", nothing, "--base-features"),
        ("--blocks-per-stage 0", nothing, "--blocks-per-stage"),
        ("--gpu-memory-target nan", nothing, "--gpu-memory-target"),
        ("--gpu-memory-target -1", nothing, "--gpu-memory-target"),
        ("--target-spacing 1 nan 1", nothing, "--target-spacing"),
        ("-np 0", nothing, "-np"),
        ("--denoiser {tmp}/file", nothing, "{tmp}/file is not a checkpoint"),
        ("--denoiser {tmp}/raw", nothing, "{tmp}/raw is a folder, not a checkpoint"),
    ],
)
def test_plan(arguments: str, fault: Fault, message: str, raw: None, check: Callable) -> None:
    check(f"plan -d 1 -np 1 {arguments}", fault, message)


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path, monkeypatch, GREY_PLANS, GREY_JSON)


PLANS = f"nnUNet_preprocessed/{NAME}/Plans.json"


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ("", write(PLANS, "{}"), "Plans.json lacks"),
        ("", write(PLANS, "[]"), "Plans.json must hold an object"),
        ("", write(PLANS, '{"configurations": []}'), "Plans.json"),
        ("", write(PLANS, '{"configurations": {"2d": 3}}'), "Plans.json"),
        (
            "",
            change_json(PLANS, without("configurations", "2d", "data_identifier")),
            "Plans.json lacks 'data_identifier'",
        ),
        ("", write(PLANS, '{"configurations": {"2d": {"inherits_from": "2d"}}}'), "Plans.json"),
        ("", write(f"nnUNet_preprocessed/{NAME}/dataset.json", "{}"), "dataset.json lacks"),
        ("", remove(f"nnUNet_preprocessed/{NAME}/dataset.json"), "dataset.json"),
        ("-c 3d_fullres", nothing, "Plans.json has no configuration 3d_fullres, only 2d"),
        ("-p Others", nothing, "There are no plans {tmp}/nnUNet_preprocessed/Dataset001_Test/Others.json"),
    ],
)
def test_preprocess(arguments: str, fault: Fault, message: str, planned: None, check: Callable) -> None:
    check(f"preprocess -d 1 -c 2d -p Plans -np 1 {arguments}", fault, message)
