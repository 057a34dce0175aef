"""The benchmark for a GPU machine without a network, dry-run on the CPU from packing to the denoiser."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scripts import load_script

FOLDER = Path(__file__).parents[1] / "benchmarks" / "gpu"
SIZE, NAMES = 32, [f"P{i}" for i in range(6)]
MEASURED = ("data", "speed", "compiled", "memory", "pretrain", "export", "study")


def load(name: str) -> ModuleType:
    return load_script(FOLDER / f"{name}.py")


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    return load("prepare")


@pytest.fixture(scope="module")
def run() -> ModuleType:
    sys.path.append(str(FOLDER))
    try:
        return load("run")
    finally:
        sys.path.remove(str(FOLDER))


def write_xrays(data: Path) -> None:
    """Noise of 40 x 40 pixels in the folders that prepare.py reads."""
    random = np.random.RandomState(0)
    square = np.zeros((40, 40), np.uint8)
    square[10:30, 12:28] = 255
    folders = ["unlabelled_nih", "unlabelled_shenzhen"]
    folders += [f"{hospital}/{kind}" for hospital in ("montgomery", "shenzhen") for kind in ("images", "masks")]
    for folder in folders:
        (data / folder).mkdir(parents=True)
        for name in NAMES[:3] if folder.startswith("unlabelled") else NAMES:
            pixels = square if folder.endswith("masks") else random.randint(0, 255, (40, 40)).astype(np.uint8)
            Image.fromarray(pixels).save(data / folder / f"{folder.split('/')[0]}_{name}.png")
    splits = {"in_domain_test": ["montgomery_P5"], "seeds": {"0": {"train_order": ["montgomery_P0"]}}}
    (data / "few_label_splits.json").write_text(json.dumps(splits))


def write_wheel(file: Path, module: str) -> None:
    """The smallest wheel that pip takes."""
    described = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{module}.py", "VALUE = 7\n")
        wheel.writestr(f"{described}/METADATA", f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        wheel.writestr(f"{described}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{described}/RECORD", "")


def command(output: Path, work: Path, packed: Path, *arguments: str) -> subprocess.CompletedProcess:
    """benchmarks/gpu/run.py on the CPU."""
    options = ["--work", work, "--wheels", packed / "wheels", "--images", packed / "images", "--size", SIZE]
    whole = [sys.executable, FOLDER / "run.py", output, *options, "--device", "cpu", "--dry-run", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(part) for part in whole], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def packed(prepare: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    write_xrays(folder / "data")
    prepare.pack_images(folder / "data", SIZE, folder / "images" / f"{SIZE}.npz")
    (folder / "wheels").mkdir()
    write_wheel(folder / "wheels" / "carried-1.0-py3-none-any.whl", "carried")
    prepare.compress(folder / "wheels" / "carried-1.0-py3-none-any.whl")
    return folder


def results(output: Path) -> dict[str, list[dict[str, Any]]]:
    return json.loads((output / "results.json").read_text())


def test_images_are_packed_by_folder_with_their_names(packed: Path) -> None:
    with np.load(packed / "images" / f"{SIZE}.npz") as arrays:
        assert arrays["montgomery/images"].shape == (6, SIZE, SIZE)
        assert arrays["unlabelled_nih/names"].tolist() == [f"unlabelled_nih_P{i}.png" for i in range(3)]
        assert np.unique(arrays["shenzhen/masks"]).tolist() == [0, 255]
        assert json.loads(str(arrays["splits"]))["in_domain_test"] == ["montgomery_P5"]


def test_a_package_without_a_wheel_is_built_and_one_that_is_nowhere_named(prepare, tmp_path, monkeypatch) -> None:
    tried = []

    def pip(arguments: list[str], **_: Any) -> subprocess.CompletedProcess:
        tried.append(arguments[3])
        if arguments[3] == "wheel" and arguments[-1] == "built==2.0":
            write_wheel(Path(arguments[-2]) / "built-2.0-py3-none-any.whl", "built")
            return subprocess.CompletedProcess(arguments, 0, "", "")
        return subprocess.CompletedProcess(arguments, 1, "", "No matching distribution")

    monkeypatch.setattr(prepare, "version", lambda package: "2.0")
    monkeypatch.setattr(prepare.subprocess, "run", pip)
    assert prepare.wheel_of("built", "3.12", tmp_path) == tmp_path / "built-2.0-py3-none-any.whl"
    assert tried == ["download", "wheel"]
    with pytest.raises(RuntimeError, match=r"No wheel of nowhere==2\.0 for Python 3\.12: No matching distribution"):
        prepare.wheel_of("nowhere", "3.12", tmp_path)


def test_the_last_step_without_a_limit_gets_what_those_after_it_leave(run: ModuleType) -> None:
    assert run.seconds_for("pretrain", ["export"], 300.0) == 300 - run.STEPS["export"].seconds
    assert run.seconds_for("speed", ["pretrain"], 300.0) == run.STEPS["speed"].seconds
    assert run.seconds_for("speed", ["pretrain"], 20.0) == 20.0


def test_install_unpacks_the_wheels_and_lays_the_package_out_as_its_build_does(packed: Path, tmp_path: Path) -> None:
    done = command(tmp_path / "out", tmp_path / "work", packed, "--steps", "install")
    assert done.returncode == 0, done.stdout + done.stderr
    check = "import carried, nnunet_diffusion_ensemble.trainers as t; print(carried.VALUE, t.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "work" / "site")}
    shown = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert shown.stdout.split()[0] == "7"
    assert Path(shown.stdout.split()[1]).is_relative_to(tmp_path / "work" / "site"), shown.stderr


@pytest.mark.slow
def test_a_step_that_fails_or_is_too_late_is_told_and_the_others_are_run(packed: Path, tmp_path: Path) -> None:
    done = command(tmp_path / "out", tmp_path / "work", packed, "--steps", "install", "export", "tests")
    assert done.returncode == 1
    states = {row["step"]: row["state"] for row in results(tmp_path / "out")["steps"]}
    assert states == {"install": "done", "export": "exit status 1", "tests": "done"}
    assert "There is no checkpoint in" in done.stdout
    late = command(tmp_path / "late", tmp_path / "work", packed, "--steps", "install", "--minutes", "0.01")
    assert results(tmp_path / "late")["steps"][0]["state"] == "no time left"
    assert late.returncode == 1


@pytest.mark.slow
def test_every_step_runs_and_the_denoiser_comes_back(packed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = command(output, tmp_path / "work", packed, "--steps", "install", *MEASURED)
    found = results(output)
    assert {row["step"]: row["state"] for row in found["steps"]} == dict.fromkeys(("install", *MEASURED), "done"), (
        done.stdout + done.stderr
    )
    speeds = [row["what"] for row in found["speed"]]
    assert len(speeds) == 2 * 4 + 1
    assert all(value > 0 for row in found["speed"] for name, value in row.items() if "stock" in name)
    assert [row["what"] for row in found["memory target"]] == [
        "nnUNetTrainer",
        "DiffusionPretrainTrainer",
        "DiffusionEnsembleTrainer, head",
        "DiffusionEnsembleTrainer, head and denoiser",
    ]
    assert found["pretraining"][0]["iterations"] == 2
    weights = torch.load(output / f"denoiser-{SIZE}.pth", weights_only=False)["network_weights"]
    assert weights["denoiser.trained_iterations"] == 2
    assert [(row["model"], row["labelled_cases"]) for row in found["study"]] == [("DiffusionEnsembleTrainer", 1)]
    assert all(0 <= row[hospital] <= 1 for row in found["study"] for hospital in ("Montgomery", "Shenzhen"))
    written = {file.name for file in output.iterdir()}
    assert written == {
        *("results.json", "results.md", "log.txt", "training_log.txt"),
        *("progress.png", "samples.png", f"denoiser-{SIZE}.pth", f"study_{SIZE}_n1.csv"),
    }
