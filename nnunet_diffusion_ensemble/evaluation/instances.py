"""Detection of instances: connected components of reference and prediction, matched one to one by their overlap.

Panoptic quality of Kirillov et al. 2019 (arXiv:1801.00868), of a single label; matched by linear assignment, which is
unique where `match_iou` is at least 0.5.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from nnunet_diffusion_ensemble.evaluation.overlap import check_masks
from nnunet_diffusion_ensemble.images.components import components

LOWEST_PROBABILITY = 0.1  # of a pixel of a candidate
REFERENCE, FALSE_POSITIVE, CANDIDATE = "reference", "false positive", "candidate"


@dataclass(frozen=True)
class Instances:
    """All that a metric of instances needs of a label of one case; sizes are numbers of pixels.

    Attributes:
        reference_sizes: of the reference's instances.
        predicted_sizes: of the predicted ones.
        ious: intersection over union of each reference with its match; 0 if it was missed.
        false_positives: sizes of the predicted ones without a match.
    """

    reference_sizes: np.ndarray
    predicted_sizes: np.ndarray
    ious: np.ndarray
    false_positives: np.ndarray

    @property
    def found(self) -> int:
        return int(np.count_nonzero(self.ious))


@dataclass(frozen=True)
class Candidates:
    """What the probabilities point at.

    Attributes:
        of_references: of each reference the highest probability of a candidate that lies in it; 0 without.
        elsewhere: probabilities of the candidates that lie in no reference.
    """

    of_references: np.ndarray = field(default_factory=lambda: np.empty(0))
    elsewhere: np.ndarray = field(default_factory=lambda: np.empty(0))


def match_instances(reference: np.ndarray, prediction: np.ndarray, match_iou: float) -> Instances:
    """Matches the components of two boolean masks of one shape.

    Args:
        reference: mask.
        prediction: mask.
        match_iou: two instances match only if their intersection over union is larger.

    Raises:
        ValueError: the arrays are not boolean or differ in shape.
    """
    check_masks(reference, prediction)
    references, predictions = components(reference), components(prediction)
    reference_sizes, predicted_sizes = (np.bincount(numbers.ravel())[1:] for numbers in (references, predictions))
    both = reference & prediction
    pairs, shared = np.unique(np.stack([references[both], predictions[both]]) - 1, axis=1, return_counts=True)
    ious = np.zeros((len(reference_sizes), len(predicted_sizes)))
    ious[pairs[0], pairs[1]] = shared / (reference_sizes[pairs[0]] + predicted_sizes[pairs[1]] - shared)
    ious[ious <= match_iou] = 0
    rows, columns = linear_sum_assignment(ious, maximize=True)
    is_match = ious[rows, columns] > 0
    of_references = np.zeros(len(reference_sizes))
    of_references[rows[is_match]] = ious[rows, columns][is_match]
    return Instances(reference_sizes, predicted_sizes, of_references, np.delete(predicted_sizes, columns[is_match]))


def find_candidates(reference: np.ndarray, probability: np.ndarray) -> Candidates:
    """Components of the pixels with a probability of at least 0.1; each has the place and the value of its maximum.

    Args:
        reference: boolean mask.
        probability: of the same shape.
    """
    numbers = components(probability >= LOWEST_PROBABILITY)
    inside = np.nonzero(numbers)
    of = numbers[inside]
    largest_first = np.lexsort((-probability[inside], of))  # component by component
    peaks = largest_first[np.unique(of[largest_first], return_index=True)[1]]
    places = tuple(axis[peaks] for axis in inside)
    values, references = probability[places].astype(float), components(reference)
    hit = references[places]
    best = np.zeros(int(references.max(initial=0)) + 1)
    np.maximum.at(best, hit, values)
    return Candidates(best[1:], values[hit == 0])


def instance_rows(instances: Instances, candidates: Candidates | None, size: float, axes: int) -> Iterator[dict]:
    """As in instances.csv: a row a reference, a false positive, and a candidate that lies in no reference.

    Args:
        instances: of a label of one case.
        candidates: None without probabilities.
        size: of a pixel.
        axes: of the image.
    """

    def row(kind: str, pixels: Any = None, iou: Any = None, probability: Any = None) -> dict:
        measured = None if pixels is None else float(pixels) * size
        return {"kind": kind, "axes": axes, "size": measured, "iou": iou, "probability": probability}

    for position, (pixels, iou) in enumerate(zip(instances.reference_sizes, instances.ious, strict=True)):
        yield row(REFERENCE, pixels, float(iou), None if candidates is None else candidates.of_references[position])
    for pixels in instances.false_positives:
        yield row(FALSE_POSITIVE, pixels)
    for probability in () if candidates is None else candidates.elsewhere:
        yield row(CANDIDATE, probability=probability)


# Metrics of one case


def detection_precision(instances: Instances) -> float:
    """TP / (TP + FP); NaN if there is no instance at all, 0 if only none is predicted."""
    if not len(instances.predicted_sizes):
        return 0.0 if len(instances.reference_sizes) else math.nan
    return instances.found / len(instances.predicted_sizes)


def detection_recall(instances: Instances) -> float:
    """TP / (TP + FN); NaN without a reference."""
    return instances.found / len(instances.reference_sizes) if len(instances.reference_sizes) else math.nan


def recognition_quality(instances: Instances) -> float:
    """F1 of detection, TP / (TP + FP / 2 + FN / 2); 1 if there is no instance at all."""
    total = len(instances.reference_sizes) + len(instances.predicted_sizes)
    return 2 * instances.found / total if total else 1.0


def segmentation_quality(instances: Instances) -> float:
    """Mean IoU of the matches; NaN without."""
    return float(instances.ious.sum()) / instances.found if instances.found else math.nan


def panoptic_quality(instances: Instances) -> float:
    """Recognition quality x segmentation quality; 1 if there is no instance at all, 0 if none is matched."""
    total = len(instances.reference_sizes) + len(instances.predicted_sizes)
    return 2 * float(instances.ious.sum()) / total if total else 1.0


def num_false_positives(instances: Instances) -> float:
    """Predicted instances without a match."""
    return float(len(instances.false_positives))
