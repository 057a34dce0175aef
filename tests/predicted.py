"""Predictions of `nnunet-diffusion predict` for tests, and their files."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_diffusion_ensemble.prediction.predict import predict
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings

CPU = PredictionSettings(folds=(0,), device="cpu")


def read(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def run(images: Path, output: Path, model: Path, settings: PredictionSettings = CPU, **options: Any) -> Path:
    list(predict(images, output, model, settings, **options))
    return output


def table(output: Path) -> dict[str, dict[str, str]]:
    with (output / "uncertainty.csv").open() as stream:
        return {row.pop("case"): row for row in csv.DictReader(stream)}
