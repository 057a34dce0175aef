"""Packs what a GPU machine without a network needs, on a machine with one, into ignored folders of the repository.

    python benchmarks/gpu/prepare.py DATA [--size 128] [--python 3.12]

DATA is the folder of X-rays with montgomery/, shenzhen/ (each with images/ and masks/), unlabelled_nih/,
unlabelled_shenzhen/ and few_label_splits.json. .gpu/wheels gets the packages in the versions that are installed here,
.gpu/images one file with all X-rays of a size. benchmarks/gpu/run.py reads both.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_diffusion_ensemble.data.pixels import read_mask, read_pixels, resize_image, resize_mask

FOLDER = Path(__file__).parents[2] / ".gpu"
# What the package and nnU-Net import and a machine that is set up for torch and scientific Python usually lacks.
PACKAGES = (
    *("nnunetv2", "acvl-utils", "batchgenerators", "batchgeneratorsv2", "dynamic-network-architectures"),
    *("SimpleITK", "nibabel", "monai", "connected-components-3d", "timm"),
    *(
        "blosc2",
        "ndindex",
        "numexpr",
        "pydantic",
        "pydantic-core",
        "typing-inspection",
        "typing-extensions",
        "annotated-types",
    ),
)
GLIBC = (28, 27, 24, 17)
SPLITS = "few_label_splits.json"
IMAGE_FOLDERS = ("montgomery/images", "shenzhen/images", "unlabelled_nih", "unlabelled_shenzhen")
MASK_FOLDERS = ("montgomery/masks", "shenzhen/masks")


def wheel_of(package: str, python: str, folder: Path) -> Path:
    """The wheel of a package in the version that is installed here, for Linux on x86-64.

    A package that publishes no wheel is built here, if it is pure Python.

    Raises:
        RuntimeError: neither works; the message is pip's.
    """
    named = f"{package}=={version(package)}"
    platforms = [*(f"manylinux_2_{minor}_x86_64" for minor in GLIBC), "manylinux2014_x86_64"]
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    target += [part for platform in platforms for part in ("--platform", platform)]
    ways = (["download", *target, "-d"], ["wheel", "-w"])
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for way in ways:
            command = [sys.executable, "-m", "pip", way[0], "-q", "--no-deps", *way[1:], scratch, named]
            done = subprocess.run(command, capture_output=True, text=True)
            wheels = list(Path(scratch).glob("*.whl"))
            if done.returncode == 0 and wheels:
                return Path(shutil.move(wheels[0], folder / wheels[0].name))
    raise RuntimeError(f"No wheel of {named} for Python {python}: {done.stderr.strip()}")


def compress(wheel: Path) -> None:
    """Packs a wheel anew with LZMA, which pip reads as well: SimpleITK's becomes half as large."""
    smaller = wheel.with_suffix(".smaller")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w", zipfile.ZIP_LZMA) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    smaller.replace(wheel)


def collect_wheels(packages: tuple[str, ...], python: str, folder: Path) -> None:
    """Replaces the folder by one with a wheel of each package."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for package in packages:
        wheel = wheel_of(package, python, folder)
        compress(wheel)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)


def _resized(file: Path, is_mask: bool, size: int) -> np.ndarray:
    """An X-ray or a mask of one channel, (size, size)."""
    if is_mask:
        return resize_mask(read_mask(file), (size, size))
    pixels = read_pixels(file)[0]
    return resize_image(pixels if pixels.ndim == 2 else pixels[..., 0], (size, size))


def pack_images(data: Path, size: int, target: Path) -> None:
    """Writes one file with all X-rays and masks, resized as `nnunet-diffusion convert --resize` does, and the splits.

    For each folder of DATA there are an array (N, size, size) of uint8 under its name and the names of its files under
    its name and `/names`.
    """
    arrays: dict[str, Any] = {"splits": np.array((data / SPLITS).read_text())}
    for folder in (*IMAGE_FOLDERS, *MASK_FOLDERS):
        files = sorted((data / folder).glob("*.png"))
        arrays[folder] = np.stack([_resized(file, folder in MASK_FOLDERS, size) for file in files])
        arrays[f"{folder}/names"] = np.array([file.name for file in files])
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, nargs="+", default=[128], help="sizes of the squares, in pixels")
    parser.add_argument("--python", default="3.12", help="version on the GPU machine")
    parser.add_argument("--packages", nargs="*", default=PACKAGES, help="what it lacks")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="to write to (.gpu in the repository)")
    args = parser.parse_args()
    for size in args.size:
        file = args.folder / "images" / f"{size}.npz"
        pack_images(args.data, size, file)
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB", flush=True)
    if args.packages:
        collect_wheels(tuple(args.packages), args.python, args.folder / "wheels")


if __name__ == "__main__":
    main()
