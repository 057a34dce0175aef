"""Distributions built from what git knows: the source, from it the wheel; and an environment that has the wheel."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from projects import REPOSITORY, repository_files

import nnunet_diffusion_ensemble
from nnunet_diffusion_ensemble.nnunet.register import EXTERNAL_FOLDER

PACKAGE = "nnunet_diffusion_ensemble"
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


@dataclass(frozen=True)
class Distributions:
    """Files of both."""

    source: Path
    wheel: Path

    def files_of_source(self) -> set[str]:
        """Without the folder that all of them lie in."""
        with tarfile.open(self.source) as archive:
            return {member.name.partition("/")[2] for member in archive if member.isfile()}

    def files_of_wheel(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as wheel:
            return set(wheel.namelist())


def copy_of_repository(target: Path) -> Path:
    """Since building writes beside the sources."""
    for path in repository_files():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, target / path)
    return target


def build(folder: Path) -> Distributions:
    """Into an empty folder, in the order of `python -m build`, with the setuptools that is installed."""
    pytest.importorskip("setuptools", "77", reason="builds with the setuptools that is installed")
    copy, target = copy_of_repository(folder / "copy"), folder / "dist"
    _run_hook("build_sdist", copy, target)
    (source,) = target.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return Distributions(source, build_wheel(unpacked, target))


def build_wheel(sources: Path, target: Path) -> Path:
    _run_hook("build_wheel", sources, target)
    (wheel,) = target.glob("*.whl")
    return wheel


def _run_hook(name: str, sources: Path, target: Path) -> None:
    command = [sys.executable, "-c", BUILD, name, str(target)]
    subprocess.run(command, cwd=sources, check=True, capture_output=True)


@dataclass(frozen=True)
class Receiver:
    """Somebody who has our dependencies and a wheel of ours: an environment, a home, and folders of nnU-Net."""

    root: Path

    @property
    def scripts(self) -> Path:
        return self.root / "environment" / "bin"

    @property
    def external_folder(self) -> Path:
        """Where nnU-Net is told to find our trainers, in place of a registration."""
        (packages,) = (self.root / "environment" / "lib").glob("python*/site-packages")
        return packages / EXTERNAL_FOLDER.relative_to(Path(nnunet_diffusion_ensemble.__file__).parents[1])

    def install(self, wheel: Path) -> None:
        """The dependencies are those of the environment that runs the tests; our package there is not seen."""
        venv.create(self.root / "environment", with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(self.scripts / "python"), "install"]
        subprocess.run([*pip, "--no-deps", "--no-index", "--no-compile", str(wheel)], check=True)
        (packages,) = (self.root / "environment" / "lib").glob("python*/site-packages")
        # A line adds a folder, not what .pth files in it would add, such as an editable installation.
        shared = [path for path in sys.path if path.endswith("-packages") and Path(path).is_dir()]
        (packages / "dependencies.pth").write_text("\n".join(shared))

    def environment(self, **variables: str) -> dict[str, str]:
        """Nothing of the sender's variables, but how many threads and where programs are."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("OMP_") or name == "LANG"}
        folders = {f"nnUNet_{name}": str(self.root / name) for name in ("raw", "preprocessed", "results")}
        path = f"{self.scripts}{os.pathsep}{os.environ['PATH']}"
        return kept | folders | {"PATH": path, "HOME": str(self.root / "home"), **variables}

    def run(self, *command: object, **variables: str) -> str:
        """What a command printed; nnU-Net's scripts are run by the receiver's Python."""
        program, *arguments = map(str, command)
        script = Path(sys.executable).parent / Path(program).name
        if script.exists() and not (self.scripts / program).exists():
            program, arguments = "python", [str(script), *arguments]
        (self.root / "home").mkdir(exist_ok=True)
        run = subprocess.run(
            [program, *arguments],
            cwd=self.root / "home",
            env=self.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert run.returncode == 0, run.stdout
        return run.stdout
