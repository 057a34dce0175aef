"""The metrics that a benchmark knows (Metrics Reloaded, Maier-Hein et al. 2024). A further one is an entry here."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from nnunet_diffusion_ensemble.evaluation.calibration import brier_score, ece
from nnunet_diffusion_ensemble.evaluation.instances import (
    detection_precision,
    detection_recall,
    num_false_positives,
    panoptic_quality,
    recognition_quality,
    segmentation_quality,
)
from nnunet_diffusion_ensemble.evaluation.overlap import Counts, dice, iou, precision, recall, volume_error
from nnunet_diffusion_ensemble.evaluation.surface import assd, hd95, nsd


@dataclass(frozen=True)
class Metric:
    """A metric of one label or region of one case.

    Attributes:
        name: as in `results.csv` and in the specification.
        title: for readers.
        higher_is_better: its direction.
        kind: what `compute` gets: `overlap` (`Counts`), `surface` (`Surfaces`), `calibration` (`Probabilities`, which
            must have been predicted) or `instances` (`Instances`, of the labels that are declared as such).
        compute: the value; NaN where it is undefined.
        values: what they are: a share lies between 0 and 1, a length is in mm or px, a ratio has no upper end.
    """

    name: str
    title: str
    higher_is_better: bool
    kind: Literal["overlap", "surface", "calibration", "instances"]
    compute: Callable[[Any], float]
    values: Literal["share", "length", "ratio"] = "share"

    @property
    def has_length(self) -> bool:
        """Whether its unit is a length, mm or px; otherwise it has none."""
        return self.values == "length"


_ALL = (
    Metric("Dice", "Dice", True, "overlap", dice),
    Metric("IoU", "Intersection over union", True, "overlap", iou),
    Metric("precision", "Precision", True, "overlap", precision),
    Metric("recall", "Recall", True, "overlap", recall),
    Metric("volume_error", "Relative volume error", False, "overlap", volume_error, "ratio"),
    Metric("HD95", "95th percentile of the Hausdorff distance", False, "surface", hd95, "length"),
    Metric("ASSD", "Average symmetric surface distance", False, "surface", assd, "length"),
    Metric("NSD", "Normalised surface Dice", True, "surface", nsd),
    Metric("ECE", "Expected calibration error", False, "calibration", ece),
    Metric("Brier", "Brier score", False, "calibration", brier_score),
    Metric("lesion_precision", "Precision of detection", True, "instances", detection_precision),
    Metric("lesion_recall", "Recall of detection", True, "instances", detection_recall),
    Metric("RQ", "Recognition quality (F1 of detection)", True, "instances", recognition_quality),
    Metric("SQ", "Segmentation quality", True, "instances", segmentation_quality),
    Metric("PQ", "Panoptic quality", True, "instances", panoptic_quality),
    Metric("false_positives", "False positives a case", False, "instances", num_false_positives, "ratio"),
)
METRICS = {metric.name: metric for metric in _ALL}


def overlap(metric: str, counts: Counts) -> float:
    """A metric of overlap by name; NaN if every pixel was ignored."""
    return METRICS[metric].compute(counts) if counts.total else math.nan
