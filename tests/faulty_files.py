"""Small images of each kind that nnU-Net reads, data sets and folders made of them, and ways to spoil a file."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from conftest import make_plans
from PIL import Image

from nnunet_diffusion_ensemble.method import DiffusionMethod

SHAPE = (6, 12, 10)  # slices, rows, columns
SPACING = (0.8, 1.1, 2.0)  # columns, rows, slices
DATASET = "Dataset001_Doors"


def volume(seed: int = 0, shape: Sequence[int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def mask(shape: Sequence[int] = SHAPE) -> np.ndarray:
    values = np.zeros(shape, np.uint8)
    values[..., 1:4, 1:4] = 1
    return values


def save(file: Path, values: np.ndarray, **geometry: Any) -> None:
    """Writes voxels in the format that the file's name says; `spacing`, `origin`, `direction` of volumes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix in (".png", ".bmp"):
        Image.fromarray(values if values.dtype == np.uint8 else values.astype(np.uint8)).save(file)
    elif file.suffix in (".tif", ".tiff"):
        tifffile.imwrite(file, values, compression="zlib", photometric="minisblack")
    else:
        image = sitk.GetImageFromArray(values)
        image.SetSpacing(geometry.get("spacing", SPACING[: image.GetDimension()]))
        image.SetOrigin(geometry.get("origin", (-20.0, 15.0, 100.0)[: image.GetDimension()]))
        if "direction" in geometry:
            image.SetDirection(geometry["direction"])
        sitk.WriteImage(image, str(file), True)


def save_with_affine(file: Path, values: np.ndarray, affine: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine), file)


def save_nifti(file: Path, values: np.ndarray) -> None:
    """Of any kind of number, with the geometry of all others here."""
    save_with_affine(file, values, AFFINE)


# ---- spoiling a file


def half(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def without_end(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def half_inside(file: Path) -> None:
    """A valid gzip of half a NIfTI."""
    content = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(content[: len(content) // 2]))


def flipped(file: Path) -> None:
    """One byte other, in the compressed voxels."""
    content = bytearray(file.read_bytes())
    content[len(content) * 3 // 4] ^= 0xFF
    file.write_bytes(bytes(content))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def text(file: Path) -> None:
    file.write_text("no image")


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def voxel(value: float) -> Callable[[Path], None]:
    """One voxel with this value."""

    def spoil(file: Path) -> None:
        values = volume(shape=SHAPE)
        values[1, 2, 3] = value
        save(file, values)

    return spoil


def stored(**geometry: Any) -> Callable[[Path], None]:
    """The same voxels with another geometry; label maps stay such."""

    def spoil(file: Path) -> None:
        image = sitk.ReadImage(str(file))
        save(file, sitk.GetArrayFromImage(image), **geometry)

    return spoil


def pixdim(value: float) -> Callable[[Path], None]:
    """Another first spacing in the header alone, which neither library would write."""

    def spoil(file: Path) -> None:
        content = bytearray(gzip.decompress(file.read_bytes()))
        content[80:84] = np.float32(value).tobytes()
        file.write_bytes(gzip.compress(bytes(content)))

    return spoil


def header(**fields: Any) -> Callable[[Path], None]:
    """Other fields of the NIfTI header, as no library would write them."""

    def spoil(file: Path) -> None:
        content = bytearray(gzip.decompress(file.read_bytes()))
        changed = nibabel.Nifti1Header(bytes(content[:348]), check=False)
        for name, value in fields.items():
            changed[name] = value
        content[:348] = changed.binaryblock
        file.write_bytes(gzip.compress(bytes(content)))

    return spoil


def filled(make: Callable[[], np.ndarray]) -> Callable[[Path], None]:
    return lambda file: save(file, make())


AFFINE = np.array([[-0.8, 0, 0, 20], [0, -1.1, 0, -15], [0, 0, 2, 100], [0, 0, 0, 1]])
SHEARED = AFFINE @ np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
FLIPPED = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

# ---- data sets


def make_dataset(
    root: Path, monkeypatch: pytest.MonkeyPatch, ending: str = ".nii.gz", cases: Sequence[str] = "abc", **changes: Any
) -> Path:
    """A raw data set of labelled cases and one unlabelled, `u`; `changes` to dataset.json, None takes a key out."""
    for variable in ("raw", "preprocessed", "results"):
        (root / variable).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(f"nnUNet_{variable}", str(root / variable))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    raw = root / "raw" / DATASET
    shape = SHAPE[1:] if ending in (".png", ".bmp") else SHAPE
    for seed, case in enumerate((*cases, "u")):
        labelled = case != "u"
        values = volume(seed, shape)
        save(raw / ("imagesTr" if labelled else "imagesUn") / f"{case}_0000{ending}", values)
        if labelled:
            save(raw / "labelsTr" / f"{case}{ending}", mask(shape))
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "organ": 1},
        "numTraining": len(cases),
        "file_ending": ending,
        **changes,
    }
    write_json(raw, {key: value for key, value in content.items() if value is not None})
    return raw


def write_json(raw: Path, content: dict[str, Any]) -> None:
    (raw / "dataset.json").write_text(json.dumps(content))


def add_plans(raw: Path) -> None:
    """Plans that `preprocess` finds; it is to refuse before it uses them."""
    preprocessed = raw.parents[1] / "preprocessed" / DATASET
    preprocessed.mkdir()
    (preprocessed / "dataset.json").write_text((raw / "dataset.json").read_text())
    plans = make_plans({"diffusion": DiffusionMethod().to_plans()})
    (preprocessed / "Plans.json").write_text(json.dumps(plans))
