"""References, domains and specifications for the tests of benchmarks, beside the models of `trained_models.py`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from trained_models import save_volume

from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec

SHAPE = (2, 16, 17)


def save_reference(image: Path, reference: Path) -> None:
    """What is brighter than the mean is the organ."""
    volume = sitk.ReadImage(str(image))
    values = sitk.GetArrayFromImage(volume)
    label = sitk.GetImageFromArray((values > values.mean()).astype(np.uint8))
    label.CopyInformation(volume)
    reference.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(label, str(reference))


def make_domain(folder: Path, cases: Sequence[str] = ("case_0", "case_1"), role: str = "target") -> dict[str, Any]:
    """A domain of noise, named as its folder."""
    for seed, case in enumerate(cases):
        image = folder / "images" / f"{case}_0000.nii.gz"
        save_volume(image, seed + len(folder.name), SHAPE)
        save_reference(image, folder / "references" / f"{case}.nii.gz")
    paths = {name: folder / name for name in ("images", "references")}
    return {"name": folder.name, "role": role, **paths}


def make_spec(output: Path, models: Sequence[dict], domains: Sequence[dict], **options: Any) -> BenchmarkSpec:
    """Fast: on the CPU, without mirroring, in one process."""
    fast = {"device": "cpu", "mirroring": False, "tile_step_size": 1.0, "num_processes": 1, "metrics": ("Dice",)}
    return BenchmarkSpec.model_validate({"output": output, "models": models, "domains": domains, **fast, **options})
