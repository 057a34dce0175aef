"""Data sets with unlabelled images: grey pictures that must be cropped, and volumes with two channels."""

import json
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import SimpleITK

NAME = "Dataset001_Test"
RESAMPLING = {
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "resampling_fn_seg": "resample_data_or_seg_to_shape",
    "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
}
INTENSITIES = {"mean": 90.0, "std": 40.0, "percentile_00_5": 20.0, "percentile_99_5": 230.0}
GREY_PLANS = {
    "transpose_forward": [0, 1, 2],
    "image_reader_writer": "NaturalImage2DIO",
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
    "configurations": {
        "2d": {
            "data_identifier": "Plans_2d",
            "preprocessor_name": "DefaultPreprocessor",
            "patch_size": [16, 16],
            "spacing": [0.8, 1.3],
            "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [True],
            "architecture": {},
            **RESAMPLING,
        }
    },
}
VOLUME_PLANS = {
    **GREY_PLANS,
    "transpose_forward": [1, 0, 2],
    "image_reader_writer": "SimpleITKIO",
    "foreground_intensity_properties_per_channel": {"0": INTENSITIES, "1": INTENSITIES},
    "configurations": {
        "3d_fullres": {
            **GREY_PLANS["configurations"]["2d"],
            "data_identifier": "Plans_3d_fullres",
            "patch_size": [16, 8, 16],
            "spacing": [1.5, 5.0, 1.0],
            "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
            "use_mask_for_norm": [False, True],
        }
    },
}
DATASET_JSON = {"labels": {"background": 0, "organ": 1}, "numTraining": 1}
GREY_JSON = {**DATASET_JSON, "channel_names": {"0": "X-ray"}, "file_ending": ".png"}
VOLUME_JSON = {**DATASET_JSON, "channel_names": {"0": "CT", "1": "PET"}, "file_ending": ".nii.gz"}


def grey_image(seed: int) -> np.ndarray:
    """A body that does not fill the picture: cropping and the nonzero mask matter."""
    rows, columns = np.mgrid[:30, :36]
    is_body = ((rows - 14) / 11) ** 2 + ((columns - 17) / 14) ** 2 < 1
    return np.where(is_body, np.random.default_rng(seed).integers(1, 255, (30, 36)), 0).astype(np.uint8)


def write_volume(path: Path, seed: int, values: np.ndarray | None = None) -> None:
    """A volume of thick slices; `values` instead of random ones where given."""
    volume = np.stack([grey_image(seed + slice_) for slice_ in range(6)]) if values is None else values
    image = SimpleITK.GetImageFromArray(volume.astype(np.float32))
    image.SetSpacing((1.2, 1.0, 6.0))
    SimpleITK.WriteImage(image, str(path))


def make_dataset(root: Path, monkeypatch: pytest.MonkeyPatch, plans: dict, dataset_json: dict) -> Path:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (root / variable / NAME).mkdir(parents=True)
        monkeypatch.setenv(variable, str(root / variable))
    for folder in ("imagesTr", "labelsTr", "imagesUn"):
        (root / "nnUNet_raw" / NAME / folder).mkdir()
    write_plans(root, plans)
    (root / "nnUNet_preprocessed" / NAME / "dataset.json").write_text(json.dumps(dataset_json))
    return root


def write_plans(root: Path, plans: dict) -> None:
    (root / "nnUNet_preprocessed" / NAME / "Plans.json").write_text(json.dumps(plans))


@pytest.fixture
def grey(tmp_path, monkeypatch) -> Path:
    """A grey PNG data set with the unlabelled cases a, b and c, and a labelled twin of a."""
    root = make_dataset(tmp_path, monkeypatch, GREY_PLANS, GREY_JSON)
    raw = root / "nnUNet_raw" / NAME
    for seed, case in enumerate("abc"):
        imageio.imwrite(raw / f"imagesUn/{case}_0000.png", grey_image(seed))
    imageio.imwrite(raw / "imagesTr/twin_0000.png", grey_image(0))
    label = np.zeros((30, 36), dtype=np.uint8)
    label[12:17, 14:21] = 1
    imageio.imwrite(raw / "labelsTr/twin.png", label)
    return root


@pytest.fixture
def volumes(tmp_path, monkeypatch) -> Path:
    """A two-channel NIfTI data set with the unlabelled cases a and b, and a labelled twin of a."""
    root = make_dataset(tmp_path, monkeypatch, VOLUME_PLANS, VOLUME_JSON)
    raw = root / "nnUNet_raw" / NAME
    for folder, case, seed in (("imagesUn", "a", 0), ("imagesUn", "b", 50), ("imagesTr", "twin", 0)):
        for channel in (0, 1):
            write_volume(raw / f"{folder}/{case}_000{channel}.nii.gz", seed + 20 * channel)
    label = np.zeros((6, 30, 36))
    label[2:4, 12:17, 14:21] = 1
    write_volume(raw / "labelsTr/twin.nii.gz", 0, label)
    return root
