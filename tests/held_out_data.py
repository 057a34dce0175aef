"""A raw data set with splits, for the tests of calibration on cases that a training has not seen."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmark_inputs import SHAPE, save_reference
from trained_models import save_volume

DATASET = "Dataset001_Made"
SPLITS = [{"train": ["case_0", "case_1"], "val": ["case_2"]}, {"train": ["case_2", "case_3"], "val": ["case_0"]}]


def make_raw_dataset(root: Path, num_cases: int = 6, splits: Sequence[dict] | None = SPLITS) -> Path:
    """Cases of noise in `root/raw`, the folder of `make_trainer`'s variable, and which of them the folds train on."""
    raw = root / "raw" / DATASET
    for i in range(num_cases):
        image = raw / "imagesTr" / f"case_{i}_0000.nii.gz"
        save_volume(image, i, SHAPE)
        save_reference(image, raw / "labelsTr" / f"case_{i}.nii.gz")
    if splits is not None:
        (root / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(splits))
    return raw
