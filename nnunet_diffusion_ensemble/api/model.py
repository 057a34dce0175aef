"""`load_model`: a trained segmentation model, ours or nnU-Net's own, that predicts arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_diffusion_ensemble.api.checks import AXES, float_array, spacing_of
from nnunet_diffusion_ensemble.prediction.case import Prediction, predict_image
from nnunet_diffusion_ensemble.prediction.model import TrainedModel, read_model
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.system.devices import usable_device
from nnunet_diffusion_ensemble.system.settings import Fold

SPACING_OF_ONE_SLICE = 999  # what nnU-Net's readers say of a picture's missing axis


@dataclass(frozen=True, repr=False)
class LoadedModel:
    """A trained model that is ready to predict; made by `load_model`.

    Attributes:
        folder: what it was loaded from.
        trained: the model as the command `nnunet-diffusion predict` reads it.
    """

    folder: Path
    trained: TrainedModel

    @property
    def device(self) -> torch.device:
        return self.trained.predictor.device

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.trained.num_channels

    @property
    def classes(self) -> dict[str, tuple[int, ...]]:
        """Names of the channels of `Prediction.probabilities`, in their order, with the labels that each stands for."""
        return self.trained.regions

    @property
    def timesteps(self) -> tuple[int, ...] | None:
        """Those whose predictions are averaged; None for a model that makes one prediction."""
        return self.trained.timesteps or None

    def __repr__(self) -> str:
        return (
            f"LoadedModel({str(self.folder)!r}, {self.channels} channel(s), {', '.join(self.classes)}, "
            f"timesteps {self.timesteps}, {self.device})"
        )

    def predict(
        self, image: np.ndarray | Tensor, spacing: Sequence[float], with_denoising_error: bool = True
    ) -> Prediction:
        """Segments one raw image: nnU-Net's preprocessing, and the prediction of `nnunet-diffusion predict`.

        Args:
            image: array or tensor of any real type, with a spatial axis for each number of `spacing`: (*space) of one
                channel or (channels, *space). The axes of space are those of nnU-Net's arrays: rows and columns of a
                picture, slices, rows and columns (z, y, x) of a volume, the reverse of SimpleITK's `GetSize`.
            spacing: size of a pixel along each axis of space, in that order and in the unit of the training images, mm
                as a rule; pictures that were trained on as PNG have (1, 1).
            with_denoising_error: measure it, for `Prediction.score`, which takes about as long as the prediction.

        Returns:
            arrays in the size of the image, to the last bit what the command writes for a file that its reader takes
            to these numbers.

        Raises:
            TypeError, ValueError: the image does not fit the model; the message says what does.
        """
        spacing_mm = spacing_of(spacing)
        array = self._with_channels(float_array(image, "image"), len(spacing_mm))
        if len(spacing_mm) == 2:
            prediction = self._predict_volume(array[:, None], (SPACING_OF_ONE_SLICE, *spacing_mm), with_denoising_error)
            return _without_slices(prediction)
        return self._predict_volume(array, spacing_mm, with_denoising_error)

    def _with_channels(self, array: np.ndarray, dimension: int) -> np.ndarray:
        """(channels, *space), checked."""
        space = ", ".join(AXES[dimension])
        if array.ndim not in (dimension, dimension + 1):
            raise ValueError(
                f"With {dimension} numbers of spacing, image must have the axes ({space}) or (channels, {space}), got "
                f"the shape {array.shape}. A volume needs three numbers of spacing."
            )
        array = array[None] if array.ndim == dimension else array
        if len(array) != self.channels:
            raise ValueError(
                f"image of the axes (channels, {space}) has {len(array)} channel(s), the model was trained on "
                f"{self.channels}. One image after another is predicted."
            )
        configuration = self.trained.predictor.configuration_manager
        if len(configuration.patch_size) > dimension:
            raise ValueError(
                "The model segments volumes: give an image with the axes (depth, height, width) and three numbers of "
                "spacing (slices, rows, columns)."
            )
        return array

    def _predict_volume(self, volume: np.ndarray, spacing: Sequence[float], with_denoising_error: bool) -> Prediction:
        predictor = self.trained.predictor
        data, _, properties = predictor.configuration_manager.preprocessor_class(verbose=False).run_case_npy(
            volume,
            None,
            {"spacing": list(spacing)},
            predictor.plans_manager,
            predictor.configuration_manager,
            self.trained.dataset_json,
        )
        return predict_image(self.trained, torch.as_tensor(data), properties, with_denoising_error)


def load_model(
    folder: str | Path,
    folds: Fold | Sequence[Fold] = (0, 1, 2, 3, 4),
    checkpoint_name: str = "checkpoint_final.pth",
    tile_step_size: float = 0.5,
    use_mirroring: bool = True,
    device: str | None = None,
    denoiser: str | None = None,
    timesteps: Sequence[int] | None = None,
    postprocessed: bool = False,
) -> LoadedModel:
    """Loads a trained model, ours or one of any other trainer of nnU-Net.

    Args:
        folder: in `nnUNet_results`, with plans.json, dataset.json and a folder for each fold. Checkpoints are pickles:
            load only those of people you trust.
        folds: trained folds whose predictions are averaged: numbers, or `all`.
        checkpoint_name: file in the folder of each fold.
        tile_step_size: between neighbouring tiles, as a share of the patch size.
        use_mirroring: average over mirrored copies, along the axes that the model was trained with.
        device: `cuda`, `cuda:1`, `cpu` or `mps`; None is CUDA where it is there, else the CPU.
        denoiser: checkpoint, or name of a shipped denoiser, for the denoising error instead of the network's own.
        timesteps: whose predictions are averaged, instead of those of the plans; for models that average over them.
        postprocessed: remove components that `nnunet-diffusion postprocessing` found to be too small.

    Raises:
        FileNotFoundError: the folder is missing, is no trained model or lacks a fold; those that are there are named.
            Or its postprocessing, if that is asked for.
        ValueError: a checkpoint is damaged or that of a pretraining, or denoiser, timesteps or device do not fit.
        NotImplementedError: for a cascade.
    """
    settings = PredictionSettings(
        folds=(folds,) if isinstance(folds, int | str) else tuple(folds),
        checkpoint_name=checkpoint_name,
        tile_step_size=tile_step_size,
        use_mirroring=use_mirroring,
        timesteps=None if timesteps is None else tuple(timesteps),
        postprocessed=postprocessed,
        device=str(usable_device(device)),
    )
    return LoadedModel(Path(folder), read_model(Path(folder), settings, denoiser))


def _without_slices(prediction: Prediction) -> Prediction:
    """Of one slice, with the axes of a picture."""
    timesteps, information = prediction.timesteps, prediction.mutual_information
    changes: dict[str, Any] = {
        "segmentation": prediction.segmentation[0],
        "probabilities": prediction.probabilities[:, 0],
        "entropy": prediction.entropy[0],
        "timesteps": None if timesteps is None else {t: segmentation[0] for t, segmentation in timesteps.items()},
        "mutual_information": None if information is None else information[0],
    }
    return replace(prediction, **changes)
