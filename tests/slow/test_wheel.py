"""What `pip install .` installs: the wheel's content, and its package beside a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = "nnunet_diffusion_ensemble"
CODE = f"import {PACKAGE}, {PACKAGE}.trainers, {PACKAGE}.planners; print({PACKAGE}.__file__)"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds. It is built from a copy, since building writes beside the sources."""
    pytest.importorskip("setuptools", "77", reason="builds the wheel with the setuptools that is installed")
    copy, wheels, target = (tmp_path_factory.mktemp(name) for name in ("copy", "wheels", "installed"))
    hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "tests")
    shutil.copytree(REPOSITORY, copy, ignore=hidden, dirs_exist_ok=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(wheels), str(copy)], check=True)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(target)
    return target


def test_types_weights_and_templates_are_in_it(installed: Path) -> None:
    for file in ("py.typed", "denoiser/shipped/chest-xray-64.pth", "report/templates", "demo/sample/NOTICE.md"):
        assert (installed / PACKAGE / file).exists(), file


def test_every_module_is_in_it_and_nothing_else(installed: Path) -> None:
    def modules(folder: Path) -> set[Path]:
        return {path.relative_to(folder) for path in folder.rglob("*.py")}

    expected = modules(REPOSITORY / PACKAGE)
    expected |= {Path(folder) / name for folder in ("trainers", "planners") for name in modules(REPOSITORY / folder)}
    assert modules(installed / PACKAGE) == expected
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {PACKAGE}


@pytest.mark.parametrize("start", ["checkout", "elsewhere"])
def test_trainers_are_found_where_python_starts(start: str, installed: Path, tmp_path: Path) -> None:
    folder = REPOSITORY if start == "checkout" else tmp_path
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-S", "-c", CODE]  # -S: without the editable installation
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
    assert Path(run.stdout.strip()).parents[1] == (REPOSITORY if start == "checkout" else installed)
