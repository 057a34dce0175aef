"""Uploads and looks made by hand for the tests of the page."""

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from dice_fits import unit_line
from PIL import Image

from nnunet_diffusion_ensemble.app.look import Inspection
from nnunet_diffusion_ensemble.app.upload import Upload, read_upload
from nnunet_diffusion_ensemble.calibration.file import Calibration, calibration_file, write_calibration
from nnunet_diffusion_ensemble.prediction.calibrated import settings_of_fit
from nnunet_diffusion_ensemble.prediction.case import Prediction
from nnunet_diffusion_ensemble.prediction.model_folder import model_files
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.system.records import as_written, checksums


def write_picture(file: Path, size: tuple[int, int] = (20, 24), seed: int = 0) -> Path:
    """A grey picture of (height, width)."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, size, np.uint8)).save(file)
    return file


def write_volume(file: Path, size: tuple[int, int, int] = (3, 20, 24), seed: int = 0) -> Path:
    """A NIfTI volume of (slices, rows, columns) that lies askew, with a spacing of its own along each axis."""
    image = sitk.GetImageFromArray(np.random.default_rng(seed).normal(size=size).astype(np.float32))
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((-3.0, 4.0, 5.5))
    image.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file))
    return file


def make_look(folder: Path, training_scores: tuple[float, ...] = (0.2, 0.3, 0.4), **changes: Any) -> Inspection:
    """A picture of 8 x 8, its left half black and its right half white; the upper half is segmented.

    Args:
        folder: for the file.
        training_scores: of the look.
        changes: of the prediction, whose score is 0.25 and whose timesteps agree with a Dice of 0.97.
    """
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:, 4:] = 200
    Image.fromarray(pixels).save(folder / "half.png")
    upload: Upload = read_upload(folder / "half.png")
    segmentation = np.zeros((1, 8, 8), np.int8)
    segmentation[:, :4] = 1
    prediction: dict[str, Any] = {
        "segmentation": segmentation,
        "probabilities": np.stack([1 - segmentation, segmentation]).astype(np.float32),
        "entropy": np.zeros((1, 8, 8), np.float32),
        "timesteps": {1: segmentation, 50: segmentation},
        "timestep_dice": 0.97,
        "denoising_error_at": {50: 0.2, 200: 0.3},
    }
    return Inspection(upload, "model", {"lung": (1,)}, Prediction(**(prediction | changes)), training_scores)


def calibrate(folder: Path, folds: tuple[int, ...] = (0,), dice: bool = True) -> None:
    """A calibration of the model as it lies there: Dice is the expected Dice, exactly."""
    settings = PredictionSettings(folds=folds, device="cpu")
    calibration = Calibration(
        weights=checksums(model_files(folder, settings), folder),
        predicts_with=as_written(settings_of_fit(settings)),
        temperatures=(1.0,),
        nll_before=1.0,
        nll_after=1.0,
        dice=unit_line(factor=1) if dice else None,
        cases={"a": 0.5},
        num_pixels=1,
    )
    write_calibration(calibration, calibration_file(folder, folds))
