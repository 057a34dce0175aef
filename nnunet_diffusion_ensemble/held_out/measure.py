"""A labelled case that the training has not seen, in numbers: its scores, its Dice, and pixels for the temperature."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import region_or_label_to_mask

from nnunet_diffusion_ensemble.benchmark.domains import DomainCase
from nnunet_diffusion_ensemble.calibration.temperature import PixelSample
from nnunet_diffusion_ensemble.evaluation.labels import evaluated_labels, ignore_label
from nnunet_diffusion_ensemble.evaluation.overlap import count_pixels, mean_dice
from nnunet_diffusion_ensemble.images.reading import read_segmentation
from nnunet_diffusion_ensemble.prediction.case import Prediction, predict_image
from nnunet_diffusion_ensemble.prediction.model import TrainedModel
from nnunet_diffusion_ensemble.prediction.predict import preprocessed, uncertainty_of

MOST_PIXELS = 2**16  # of a case: enough for a temperature, and of 1,000 cases as many as fit into memory
SAMPLE_SEED = 0


@dataclass(frozen=True)
class MeasuredCase:
    """A case.

    Attributes:
        name: its name.
        scores: the numbers of its row in `uncertainty.csv`.
        dice: mean over labels or regions; NaN if all pixels are ignored.
        pixels: drawn at random from those that are not ignored.
    """

    name: str
    scores: Mapping[str, float | None]
    dice: float
    pixels: PixelSample


def measure(model: TrainedModel, case: DomainCase, with_denoising_error: bool) -> MeasuredCase:
    """Predicts a case and compares it with its reference.

    Raises:
        ValueError: a file cannot be read any more, or the model predicts NaN.
    """
    image, properties = preprocessed(model, case.images)
    prediction = predict_image(model, image, properties, with_denoising_error)
    reference, _ = read_segmentation(model.predictor.plans_manager.image_reader_writer_class(), case.reference)
    ignore = ignore_label(model.dataset_json)
    counted = np.ones(reference.shape, bool) if ignore is None else reference != ignore
    dice = _dice(model.dataset_json, prediction, reference, ~counted)
    pixels = _sample(case.name, model, prediction, reference, counted)
    return MeasuredCase(case.name, asdict(uncertainty_of(case.name, model, prediction)), dice, pixels)


def _dice(dataset_json: Mapping[str, Any], prediction: Prediction, reference: np.ndarray, ignored: np.ndarray) -> float:
    counts = []
    for label in evaluated_labels(dataset_json):
        mask, predicted = (region_or_label_to_mask(one, label.value) for one in (reference, prediction.segmentation))
        counts.append(count_pixels(mask, predicted, ignored))
    return mean_dice(counts)


def _sample(
    name: str, model: TrainedModel, prediction: Prediction, reference: np.ndarray, counted: np.ndarray
) -> PixelSample:
    at = np.flatnonzero(counted)
    if len(at) > MOST_PIXELS:
        random = np.random.default_rng([SAMPLE_SEED, *name.encode()])
        at = np.sort(random.choice(at, MOST_PIXELS, replace=False))
    labels = reference.ravel()[at]
    truth = np.stack([np.isin(labels, values) for values in model.regions.values()])
    return PixelSample(prediction.probabilities.reshape(len(truth), -1)[:, at], truth)
