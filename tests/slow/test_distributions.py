"""What is distributed: the source is the repository, the wheel is the package, and neither holds anything else."""

import os
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from distributions import PACKAGE, Distributions
from projects import EXTRAS, PROJECT, REPOSITORY, repository_files

import nnunet_diffusion_ensemble

CODE = f"import {PACKAGE}, {PACKAGE}.trainers, {PACKAGE}.planners; print({PACKAGE}.__file__)"
MEGABYTE = 1e6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(distributions.wheel) as wheel:
        wheel.extractall(target)
    return target


@pytest.fixture(scope="module")
def metadata(installed: Path) -> Message:
    (file,) = installed.glob("*.dist-info/METADATA")
    return Parser().parsestr(file.read_text(encoding="utf-8"))


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(distributions: Distributions) -> None:
    tracked = repository_files()
    expected = {path for path in tracked if path.startswith(f"{PACKAGE}/")}
    expected |= {f"{PACKAGE}/{path}" for path in tracked if path.startswith(("trainers/", "planners/"))}
    about = f"{PACKAGE}-{nnunet_diffusion_ensemble.__version__}.dist-info"
    expected |= {f"{about}/licenses/{path}" for path in PROJECT["license-files"]}
    expected |= {f"{about}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt")}
    assert distributions.files_of_wheel() == expected


def test_the_source_holds_every_file_of_the_repository_and_nothing_else(distributions: Distributions) -> None:
    made = {"PKG-INFO", "setup.cfg"}
    made |= {path for path in distributions.files_of_source() if path.startswith(f"{PACKAGE}.egg-info/")}
    assert distributions.files_of_source() - made == repository_files()


def test_types_weights_templates_and_terms_are_in_the_wheel(distributions: Distributions) -> None:
    assert distributions.files_of_wheel() >= {
        f"{PACKAGE}/{file}"
        for file in (
            "py.typed",
            "demo/model/lungs-64.safetensors",
            "demo/sample/NOTICE.md",
            "denoiser/shipped/chest-xray-64.md",
            "denoiser/shipped/chest-xray-64.pth",
            "report/templates/report.html.j2",
        )
    }


def test_the_sample_of_x_rays_with_its_terms_is_small(installed: Path) -> None:
    sizes = [path.stat().st_size for path in (installed / PACKAGE / "demo" / "sample").rglob("*") if path.is_file()]
    assert sum(sizes) < 3 * MEGABYTE


def test_the_metadata_says_version_terms_and_pythons(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == (PROJECT["name"], nnunet_diffusion_ensemble.__version__)
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-NC-SA-4.0"
    assert metadata.get_all("License-File") == PROJECT["license-files"]
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata.get_all("Provides-Extra") == list(EXTRAS)


@pytest.mark.parametrize("start", ["checkout", "elsewhere"])
def test_trainers_are_found_where_python_starts(start: str, installed: Path, tmp_path: Path) -> None:
    folder = REPOSITORY if start == "checkout" else tmp_path
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-S", "-c", CODE]  # -S: without the editable installation
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
    assert Path(run.stdout.strip()).parents[1] == (REPOSITORY if start == "checkout" else installed)
