"""`convert`, `sample`, `export`, `demo`, `benchmark`: each fault gives a sentence, and leaves all as it was."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mistakes import DEEP_YAML, Fault, as_folder, flip, nothing, write
from PIL import Image

from nnunet_diffusion_ensemble.denoiser.source import shipped_denoisers

SHIPPED = "chest-xray-64"


# ---- convert


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    for folder in ("raw", "images", "masks", "empty"):
        (tmp_path / folder).mkdir()
    for folder in ("images", "masks"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / folder / "a.png")


BOTH = "--images {tmp}/images --masks {tmp}/masks"


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        (f"{BOTH} --labels a=255 a=1", nothing, "--labels names a twice, as 255 and 1"),
        (f"{BOTH} --labels a=1 b=1", nothing, "1"),
        (f"{BOTH} --labels a=", nothing, "--labels takes NAME=VALUE"),
        (f"{BOTH} --resize 0 4", nothing, "must be 1 or more, got 0"),
        ("--images {tmp}/images", nothing, "Give images together with masks"),
        ("--unlabelled {tmp}/images/a.png", nothing, "{tmp}/images/a.png"),
        ("--unlabelled {tmp}/empty", nothing, "{tmp}/empty"),
        ("--unlabelled {tmp}/none", nothing, "{tmp}/none"),
        (BOTH, write("raw/Dataset001_X", "mine"), "{tmp}/raw/Dataset001_X is a file"),
        (BOTH, write("masks/a.png", "text"), "a.png cannot be read"),
        (BOTH, lambda folder: shutil.copytree(folder / "images", folder / "raw/Dataset001_X"), "already holds files"),
    ],
)
def test_convert(arguments: str, fault: Fault, message: str, pictures: None, check: Callable) -> None:
    check(f"convert Dataset001_X {arguments}", fault, message)


# ---- denoiser files


@pytest.fixture
def denoisers(tmp_path: Path) -> None:
    file = shipped_denoisers()[SHIPPED]
    shutil.copy(file, tmp_path / "flipped.pth")
    flip("flipped.pth")(tmp_path)
    (tmp_path / "half.pth").write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.pth").write_text("no denoiser")


FAULTY = [
    ("{tmp}/flipped.pth", "flipped.pth is damaged"),
    ("{tmp}/half.pth", "half.pth is not a checkpoint that nnU-Net wrote: it is truncated"),
    ("{tmp}/text.pth", "text.pth is not a checkpoint that nnU-Net wrote"),
    ("{tmp}/folder", "{tmp}/folder is a folder, not a checkpoint"),
    ("{tmp}/none.pth", "There is no file {tmp}/none.pth"),
]
OUTPUTS = [
    ("{tmp}/folder", "{tmp}/folder is a folder, but a file is needed"),
    ("{tmp}/none/x", "There is no folder {tmp}/none"),
    ("{tmp}/text.pth/x", "{tmp}/text.pth is a file, but a folder is needed"),
]


@pytest.mark.parametrize(("file", "message"), FAULTY)
@pytest.mark.parametrize("command", ["sample {file} {{tmp}}/out.png", "export {file} {{tmp}}/out.pth"])
def test_a_faulty_denoiser(command: str, file: str, message: str, denoisers: None, check: Callable) -> None:
    check(command.format(file=file), nothing, message)


@pytest.mark.parametrize(("output", "message"), OUTPUTS)
@pytest.mark.parametrize("command", ["sample", "export"])
def test_a_faulty_output(command: str, output: str, message: str, denoisers: None, check: Callable) -> None:
    check(f"{command} {SHIPPED} {output}", nothing, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sample chest-xray-64 {tmp}/out.png --steps 100000", "steps must be from 1 to 1000, got 100000"),
        ("sample chest-xray-64 {tmp}/out.png --steps 0", "must be 1 or more, got 0"),
        ("sample chest-xray-64 {tmp}/out.png --size 64", "64"),
        ("sample chest-xray-64 {tmp}/out.png --size 63 64", "63"),
        ("sample chest-xray-64 {tmp}/out.png --num-images 0", "must be 1 or more, got 0"),
        ("export chest-xray-64 {tmp}/out.pth --timestep -1", "must be 0 or more, got -1"),
        ("export chest-xray-64 {tmp}/out.pth --timestep 1000000", "1000000"),
    ],
)
def test_options_beyond_the_denoiser(arguments: str, message: str, denoisers: None, check: Callable) -> None:
    check(arguments, nothing, message)


# ---- demo and benchmark


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (write("demo", "mine"), "{tmp}/demo is there and was not made by the demo"),
        (lambda folder: (folder / "demo/mine").mkdir(parents=True), "was not made by the demo"),
        (lambda folder: ((folder / "demo").mkdir(), write("demo/demo.json", "{")(folder)), "demo.json is not JSON"),
        (lambda folder: ((folder / "demo").mkdir(), write("demo/demo.json", "[]")(folder)), "must hold an object"),
        (
            lambda folder: ((folder / "demo").mkdir(), write("demo/demo.json", "{}")(folder)),
            "made with version None",
        ),
    ],
)
def test_demo(fault: Fault, message: str, check: Callable) -> None:
    check("demo {tmp}/demo", fault, message)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (write("spec.yaml", DEEP_YAML), "spec.yaml is nested too deep"),
        (write("spec.yaml", ""), "spec.yaml has"),
        (as_folder("spec.yaml"), "spec.yaml is a folder, not a file"),
        (nothing, "There is no {tmp}/spec.yaml"),
    ],
)
def test_benchmark(fault: Fault, message: str, check: Callable) -> None:
    check("benchmark {tmp}/spec.yaml", fault, message)
