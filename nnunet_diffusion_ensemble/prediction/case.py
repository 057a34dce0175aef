"""The prediction of one preprocessed image, in arrays: what the command writes and what the Python API returns.

The largest array is that of the blended log-probabilities, (1 + timesteps) x classes in float16 at the resolution of
the plans. They are brought to the input's geometry one timestep at a time, the ensemble last.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from torch import Tensor

from nnunet_diffusion_ensemble.method import PLANS_KEY, DiffusionMethod
from nnunet_diffusion_ensemble.postprocessing.components import remove_small_components
from nnunet_diffusion_ensemble.prediction.model import TrainedModel
from nnunet_diffusion_ensemble.prediction.uncertainty import TimestepSpread, mean_pairwise_dice, predictive_entropy
from nnunet_diffusion_ensemble.system.out_of_memory import telling_what_to_lower


@dataclass(frozen=True)
class Prediction:
    """What a model says of an image. All arrays have the input's geometry, (*space); None is what there is not.

    Attributes:
        segmentation: labels, those of `nnUNetv2_predict`; without small components if the model was read so.
        probabilities: (classes or regions, *space), float32 from 0 to 1.
        entropy: predictive entropy, from 0 (certain) to 1 (all classes as likely); of regions the mean over regions.
        timesteps: each timestep's own segmentation; None for a model that makes one prediction, such as nnU-Net's own.
        mutual_information: between class and timestep, from 0 (all timesteps say the same) to 1; None as `timesteps`.
        timestep_dice: mean Dice of pairs of timesteps; None as `timesteps`, or where all segmentations are empty.
        denoising_error_at: by timestep, about 1 for a denoiser that knows nothing; empty for a model without one.
    """

    segmentation: np.ndarray
    probabilities: np.ndarray
    entropy: np.ndarray
    timesteps: Mapping[int, np.ndarray] | None = None
    mutual_information: np.ndarray | None = None
    timestep_dice: float | None = None
    denoising_error_at: Mapping[int, float] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """How unusual the image is to the denoiser: the mean of `denoising_error_at`. It has no threshold of its own:
        compare it with that of images of your own hospital. None for a model without a denoiser."""
        return fmean(self.denoising_error_at.values()) if self.denoising_error_at else None


def predict_image(
    model: TrainedModel, image: Tensor, properties: dict[str, Any], with_denoising_error: bool = True
) -> Prediction:
    """The prediction of one image.

    Args:
        model: from `read_model`.
        image: preprocessed image (channels, *space).
        properties: of its preprocessing, with which nnU-Net takes the prediction back to the input's geometry.
        with_denoising_error: measure it, which takes about as long as the prediction.
    """
    with telling_what_to_lower(_memory_settings(model)):
        errors = model.denoising_error(image) if with_denoising_error else {}
        logits = model.logits(image)
    timesteps, information, dice = _of_timesteps(model, logits[1:], properties)
    segmentation = _exported(model, logits[0], properties)  # without probabilities, by the steps of nnUNetv2_predict
    segmentation = remove_small_components(segmentation, model.removed)
    _, probabilities = _exported(model, logits[0], properties, return_probabilities=True)
    entropy = predictive_entropy(probabilities, model.labels.has_regions)
    return Prediction(segmentation, probabilities, entropy, timesteps, information, dice, errors)


def _memory_settings(model: TrainedModel) -> dict[str, Any]:
    """What the memory of a prediction depends on and can be changed after training: nothing, for stock nnU-Net."""
    configuration = model.predictor.configuration_manager.configuration
    if PLANS_KEY not in configuration:
        return {}
    name = f"{PLANS_KEY}.ensemble.images_per_pass in the model's plans.json"
    return {name: DiffusionMethod.from_plans(configuration).ensemble.images_per_pass}


def _of_timesteps(
    model: TrainedModel, logits: Tensor, properties: dict[str, Any]
) -> tuple[dict[int, np.ndarray] | None, np.ndarray | None, float | None]:
    """Each timestep's segmentation, their mutual information and their Dice."""
    if not model.timesteps:
        return None, None, None
    spread, segmentations = TimestepSpread(model.labels.has_regions), {}
    for timestep, of_timestep in zip(model.timesteps, logits, strict=True):
        segmentation, probabilities = _exported(model, of_timestep, properties, return_probabilities=True)
        segmentations[timestep] = remove_small_components(segmentation, model.removed)
        spread.add(probabilities)
    regions = [labels for labels in model.regions.values() if labels != (0,)]
    dice = mean_pairwise_dice(list(segmentations.values()), regions)
    return segmentations, spread.mutual_information(), None if math.isnan(dice) else dice


def _exported(
    model: TrainedModel, logits: Tensor, properties: dict[str, Any], return_probabilities: bool = False
) -> Any:
    """Segmentation, and probabilities (classes, *space) if asked for, in the geometry of the input."""
    predictor = model.predictor
    return convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        predictor.plans_manager,
        predictor.configuration_manager,
        model.labels,
        properties,
        return_probabilities,
        torch.get_num_threads(),
    )
