"""Overlap of two masks from counts of pixels; what an empty mask gives follows Metrics Reloaded."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import numpy as np


@dataclass(frozen=True)
class Counts:
    """Pixels of one label or region of one case: true and false, positive and negative. Ignored ones are in none."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def predicted(self) -> int:
        return self.tp + self.fp

    @property
    def reference(self) -> int:
        return self.tp + self.fn

    @property
    def total(self) -> int:
        return self.tp + self.fp + self.fn + self.tn


def count_pixels(reference: np.ndarray, prediction: np.ndarray, ignored: np.ndarray | None = None) -> Counts:
    """Counts of two boolean masks of one shape, the same as those of nnU-Net's `compute_tp_fp_fn_tn`.

    Args:
        reference: mask of the reference.
        prediction: mask of the prediction.
        ignored: pixels that do not count.

    Raises:
        ValueError: the arrays are not boolean or differ in shape.
    """
    check_masks(reference, prediction, *(() if ignored is None else (ignored,)))
    if ignored is not None:
        reference, prediction = reference[~ignored], prediction[~ignored]
    in_reference, predicted = np.count_nonzero(reference), np.count_nonzero(prediction)
    tp = np.count_nonzero(reference & prediction)
    fp, fn = predicted - tp, in_reference - tp
    return Counts(int(tp), int(fp), int(fn), int(reference.size - tp - fp - fn))


def check_masks(*masks: np.ndarray) -> None:
    """Raises ValueError if the arrays are not boolean or differ in shape."""
    kinds = {mask.dtype.name for mask in masks}
    if kinds != {"bool"}:
        raise ValueError(f"Masks must be boolean, got {', '.join(sorted(kinds))}.")
    if len({mask.shape for mask in masks}) > 1:
        raise ValueError(f"Masks must have one shape, got {', '.join(str(mask.shape) for mask in masks)}.")


def dice(counts: Counts) -> float:
    """2 TP / (2 TP + FP + FN); 1 if both masks are empty."""
    return _ratio(2 * counts.tp, counts.predicted + counts.reference, if_both_empty=1.0)


def mean_dice(of_labels: Iterable[Counts]) -> float:
    """Dice of a case, mean over its labels or regions; NaN if every pixel was ignored."""
    values = [dice(counts) for counts in of_labels if counts.total]
    return fmean(values) if values else math.nan


def iou(counts: Counts) -> float:
    """TP / (TP + FP + FN); 1 if both masks are empty."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn, if_both_empty=1.0)


def precision(counts: Counts) -> float:
    """TP / (TP + FP); NaN if both masks are empty, 0 if only the prediction is."""
    if not counts.predicted and counts.reference:
        return 0.0
    return _ratio(counts.tp, counts.predicted, if_both_empty=math.nan)


def recall(counts: Counts) -> float:
    """TP / (TP + FN); NaN if the reference is empty."""
    return counts.tp / counts.reference if counts.reference else math.nan


def volume_error(counts: Counts) -> float:
    """|predicted - reference| / reference; if the reference is empty 0 for an empty prediction, otherwise 1 (100%)."""
    if not counts.reference and counts.predicted:
        return 1.0
    return _ratio(abs(counts.predicted - counts.reference), counts.reference, if_both_empty=0.0)


def _ratio(numerator: float, denominator: float, if_both_empty: float) -> float:
    return numerator / denominator if denominator else if_both_empty
