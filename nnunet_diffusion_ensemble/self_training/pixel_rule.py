"""Which pixels of a prediction become labels; all others get nnU-Net's ignore label.

Thresholds on the probability as FixMatch has them (Sohn et al. 2020, arXiv 2001.07685), on both sides.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager

IGNORE = "ignore"


def with_ignore_label(dataset_json: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `dataset.json` that has nnU-Net's ignore label: its own, or else one above its highest label."""
    changed = deepcopy(dict(dataset_json))
    labels = changed["labels"]
    if IGNORE not in labels:
        values = [int(value) for label in labels.values() for value in np.atleast_1d(label)]
        labels[IGNORE] = max(values) + 1
    return changed


def label_manager(dataset_json: Mapping[str, Any]) -> LabelManager:
    """nnU-Net's, of the labels or regions of a data set."""
    return LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))


def is_certain(probabilities: np.ndarray, are_regions: bool, upper: float, lower: float) -> np.ndarray:
    """Where a prediction can be trusted.

    Args:
        probabilities: (classes or regions, *space), between 0 and 1.
        are_regions: each channel is a region that may overlap with others; all of them must be certain.
        upper: inside, of two classes or of a region; of more than two classes, any.
        lower: outside, of two classes or of a region.

    Returns:
        (*space), boolean.
    """
    if are_regions:
        return np.all((probabilities >= upper) | (probabilities <= lower), axis=0)
    if len(probabilities) == 2:
        return (probabilities[1] >= upper) | (probabilities[1] <= lower)
    return np.asarray(probabilities.max(0) >= upper)


def pseudo_label(
    probabilities: np.ndarray, labels: LabelManager, upper: float, lower: float, ignore_label: int
) -> np.ndarray:
    """The label map to train on, (*space): nnU-Net's segmentation where it is certain, elsewhere `ignore_label`.

    Args:
        probabilities: (classes or regions, *space), between 0 and 1.
        labels: what the channels stand for.
        upper: as in `is_certain`.
        lower: as in `is_certain`.
        ignore_label: value of dropped pixels.
    """
    segmentation = labels.convert_probabilities_to_segmentation(probabilities)
    certain = is_certain(probabilities, labels.has_regions, upper, lower)
    return np.where(certain, segmentation, ignore_label).astype(np.int16)
