"""The container's Dockerfile and the script that it starts, without an engine."""

import argparse
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from dockerfiles import instructions, is_in_context
from projects import REPOSITORY

from nnunet_diffusion_ensemble.cli.parser import build_parser

SCRIPT = REPOSITORY / "docker" / "predict.sh"
# In place of the command: notes its arguments, and leaves what the real one leaves.
STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$NOTED"
mkdir -p "$5/entropy" && touch "$5"/{a.png,uncertainty.csv,plans.json,.hidden.lock,entropy/a.png}
exit "${STATUS:-0}"
"""


def found(keyword: str) -> list[str]:
    return [value for name, value in instructions() if name == keyword]


def test_what_is_copied_from_here_is_there_and_not_ignored() -> None:
    copied = [line.split() for line in found("COPY") if not line.startswith("--from")]
    sources = [source for *sources, _ in copied for source in sources]
    assert {"pyproject.toml", "trainers", "docker/predict.sh"} <= set(sources)
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert is_in_context(source), source


@pytest.mark.parametrize("path", [".git", ".venv", "tests", "docs", "benchmarks", "trainers/__pycache__"])
def test_what_the_image_does_not_need_is_not_sent_to_the_engine(path: str) -> None:
    assert not is_in_context(path)


def test_it_runs_without_root_and_starts_the_script_that_is_copied() -> None:
    last = found("USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last)
    order = [name for name, _ in instructions()]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name in ("RUN", "COPY"))
    assert found("ENTRYPOINT") == ['["predict.sh"]']
    assert "docker/predict.sh /usr/local/bin/predict.sh" in found("COPY")
    assert os.access(SCRIPT, os.X_OK)


def test_a_build_for_cuda_needs_no_other_dockerfile() -> None:
    assert {"TORCH=cpu", "DEVICE=cpu"} <= set(found("ARG"))
    assert any("download.pytorch.org/whl/${TORCH} torch torchvision" in line for line in found("RUN"))
    assert any("DEVICE=${DEVICE}" in line for line in found("ENV"))


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """`start("--disable_tta", STATUS="1")`: the script with two folds; arguments that reach the command are noted."""
    for folder in ("bin", "input", "output", "model/fold_0", "model/fold_all"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("plans.json", "fold_0/checkpoint_final.pth", "fold_all/checkpoint_final.pth"):
        (tmp_path / "model" / file).touch()
    (tmp_path / "bin" / "nnunet-diffusion").write_text(STAND_IN)
    (tmp_path / "bin" / "nnunet-diffusion").chmod(0o755)

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
        folders = {name.upper(): str(tmp_path / name) for name in ("input", "output", "model", "noted")}
        environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **folders, **variables}
        return subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True)

    return run


def noted(folder: Path) -> argparse.Namespace:
    """As the real command reads it."""
    return build_parser().parse_args((folder / "noted").read_text().splitlines())


def test_the_command_gets_both_folders_the_finished_folds_and_further_arguments(
    start: Callable, tmp_path: Path
) -> None:
    assert start("--disable_tta", DEVICE="cuda").returncode == 0
    args = noted(tmp_path)
    assert (args.i, args.m, args.f) == (tmp_path / "input", tmp_path / "model", [0, "all"])
    assert (args.device, args.disable_tta) == ("cuda", True)
    assert args.o.is_relative_to(tmp_path / "output")  # so that masks are renamed, not copied


def test_without_a_device_it_is_the_cpu(start: Callable, tmp_path: Path) -> None:
    start()
    assert noted(tmp_path).device == "cpu"


def test_masks_alone_are_left(start: Callable, tmp_path: Path) -> None:
    assert start().returncode == 0
    assert [path.name for path in (tmp_path / "output").rglob("*")] == ["a.png"]


def test_everything_is_left_on_request(start: Callable, tmp_path: Path) -> None:
    assert start(KEEP_ALL="1").returncode == 0
    names = {str(path.relative_to(tmp_path / "output")) for path in (tmp_path / "output").rglob("*")}
    assert names >= {"a.png", "uncertainty.csv", "plans.json", "entropy/a.png"}
    assert not any("unfinished" in name for name in names)


def test_if_the_command_fails_there_is_no_mask_and_its_status_is_told(start: Callable, tmp_path: Path) -> None:
    assert start(STATUS="2").returncode == 2
    assert list((tmp_path / "output").iterdir()) == []


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("input", r"There is no folder \S+/input\. Mount the images: -v IMAGES:\S+/input:ro$"),
        ("model/plans.json", r"\S+/model holds no plans\.json\. Mount a trained model, the folder of nnUNet_results "),
        ("model", r"\S+/model holds no plans\.json\."),
        ("model/fold_*", r"\S+/model holds no fold_\*/checkpoint_final\.pth: no training of it is finished\.$"),
        ("output", r"User \d+ cannot write to \S+/output\. Mount a folder of that user's"),
    ],
)
def test_what_is_not_mounted_is_told_in_a_sentence(removed: str, message: str, start: Callable, tmp_path: Path) -> None:
    subprocess.run(f"rm -r {tmp_path}/{removed}", shell=True, check=True)
    ended = start()
    assert ended.returncode == 2
    assert re.match(message, ended.stderr)
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "noted").exists()
