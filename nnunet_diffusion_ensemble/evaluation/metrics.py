"""The metrics that a benchmark knows: their names, units and directions (Metrics Reloaded, Maier-Hein et al. 2024)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A metric of one label or region of one case.

    Attributes:
        name: as in `results.csv` and in the specification.
        title: for readers.
        higher_is_better: its direction.
        kind: `overlap` (counts of pixels), `surface` (distances between boundaries) or `calibration` (needs
            probabilities).
        has_length: whether its unit is a length, mm or px; otherwise it has none.
    """

    name: str
    title: str
    higher_is_better: bool
    kind: str
    has_length: bool = False


_ALL = (
    Metric("Dice", "Dice", True, "overlap"),
    Metric("IoU", "Intersection over union", True, "overlap"),
    Metric("precision", "Precision", True, "overlap"),
    Metric("recall", "Recall", True, "overlap"),
    Metric("volume_error", "Relative volume error", False, "overlap"),
    Metric("HD95", "95th percentile of the Hausdorff distance", False, "surface", has_length=True),
    Metric("ASSD", "Average symmetric surface distance", False, "surface", has_length=True),
    Metric("NSD", "Normalised surface Dice", True, "surface"),
    Metric("ECE", "Expected calibration error", False, "calibration"),
    Metric("Brier", "Brier score", False, "calibration"),
)
METRICS = {metric.name: metric for metric in _ALL}
