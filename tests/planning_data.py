"""Raw data sets to plan, with the fingerprint that nnU-Net would find, and plans of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from nnunet_diffusion_ensemble.planning import plan as plan_module
from nnunet_diffusion_ensemble.planning import planner as planner_module

NUM_CASES = 20


def make_dataset(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    channels: dict[str, str],
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    labels: dict | None = None,
    num_unlabelled: int = 0,
) -> str:
    """A raw data set with one real image and a fingerprint as nnU-Net would find it; returns its name."""
    name = "Dataset001_Made"
    for module in (plan_module, planner_module):  # there is hardly an image to verify
        monkeypatch.setattr(module, "verify_dataset", lambda *arguments: None)
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(root / variable))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    raw, preprocessed = root / "raw" / name, root / "preprocessed" / name
    for folder in (raw / "imagesTr", raw / "labelsTr", raw / "imagesUn", preprocessed):
        folder.mkdir(parents=True)
    image = sitk.GetImageFromArray(np.zeros((4, 4, 4), np.float32))
    for i in range(len(channels)):
        sitk.WriteImage(image, str(raw / "imagesTr" / f"case_{i:04d}.nii.gz"))
        for u in range(num_unlabelled):
            (raw / "imagesUn" / f"other{u}_{i:04d}.nii.gz").touch()
    images = [f"imagesTr/case_{i:04d}.nii.gz" for i in range(len(channels))]
    dataset = {
        "dataset": {"case": {"images": images, "label": "labelsTr/case.nii.gz"}},  # nnU-Net lists files in 12 processes
        "channel_names": channels,
        "labels": labels or {"background": 0, "organ": 1},
        "numTraining": NUM_CASES,
        "file_ending": ".nii.gz",
    }
    if labels and any(isinstance(v, list) for v in labels.values()):
        dataset["regions_class_order"] = [1, 2]
    (raw / "dataset.json").write_text(json.dumps(dataset))
    intensities = {
        "max": 9.0,
        "mean": 3.0,
        "median": 3,
        "min": 0,
        "percentile_00_5": 0,
        "percentile_99_5": 8,
        "std": 2.0,
    }
    fingerprint = {
        "spacings": [spacing] * NUM_CASES,
        "shapes_after_crop": [shape] * NUM_CASES,
        "foreground_intensity_properties_per_channel": {str(i): intensities for i in range(len(channels))},
        "median_relative_size_after_cropping": 1.0,
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    return name


def plan(planner: ExperimentPlanner) -> dict:
    planner.plan_experiment()
    folder = Path(planner.raw_dataset_folder).parents[1] / "preprocessed" / planner.dataset_name
    return json.loads((folder / f"{planner.plans_identifier}.json").read_text())["configurations"]


def write_dataset(raw: Path, images: dict[str, np.ndarray], **dataset: object) -> Path:
    """A raw data set of NIfTI images (path below the folder to voxels) with spacing 1, and its dataset.json."""
    for name, array in images.items():
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.float32)), str(raw / name))
    (raw / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz", **dataset}))
    return raw
