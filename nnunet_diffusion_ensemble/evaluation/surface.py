"""Distances between the boundaries of two masks, with MONAI; empty masks follow Metrics Reloaded.

Boundary pixels are those of a mask that have a face neighbour outside it, or lie at the border of the image; distances
are between their centres.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from nnunet_diffusion_ensemble.evaluation.overlap import check_masks

SURFACE = ("HD95", "ASSD", "NSD")


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance of each boundary pixel to the nearest one of the other mask, in the unit of the spacing."""

    to_reference: np.ndarray
    to_prediction: np.ndarray

    def percentile(self, percent: float) -> float:
        """The larger of the percentiles of both directions, linearly interpolated: HD95 at 95."""
        return max(float(np.percentile(distances, percent)) for distances in (self.to_reference, self.to_prediction))

    def mean(self) -> float:
        """Over the boundary pixels of both masks together: ASSD."""
        return float(np.concatenate([self.to_reference, self.to_prediction]).mean(dtype=np.float64))

    def share_within(self, tolerance: float) -> float:
        """Of the boundary pixels of both masks, the share at most this far from the other boundary: NSD."""
        return float(np.mean(np.concatenate([self.to_reference, self.to_prediction]) <= tolerance))


def surface_metrics(
    reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], nsd_tolerance: float
) -> dict[str, float]:
    """HD95, ASSD and NSD of two boolean masks.

    Both empty: 0, 0 and 1. One empty: the diagonal of the image for the distances, and 0.

    Args:
        reference: mask (rows, columns) or (slices, rows, columns).
        prediction: mask of the same shape.
        spacing: of each axis, in that order. Distances are in its unit.
        nsd_tolerance: largest distance that counts as no error, in that unit.

    Raises:
        ValueError: masks, spacing and tolerance do not go together.
    """
    check_masks(reference, prediction)
    _check_spacing(reference.shape, spacing, nsd_tolerance)
    there = bool(reference.any()), bool(prediction.any())
    if there == (True, True):
        distances = surface_distances(reference, prediction, spacing)
        values = distances.percentile(95), distances.mean(), distances.share_within(nsd_tolerance)
    elif there == (False, False):
        values = 0.0, 0.0, 1.0
    else:
        diagonal = math.hypot(*np.multiply(reference.shape, spacing))
        values = diagonal, diagonal, 0.0
    return dict(zip(SURFACE, values, strict=True))


def surface_distances(reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances:
    """Distances between two masks, neither of them empty; arguments as in `surface_metrics`."""
    from monai.metrics.utils import get_mask_edges, get_surface_distance  # takes seconds

    # Cropping beforehand, MONAI's own way takes longer. What is beyond counts as outside, so boundaries stay.
    (box,) = find_objects((reference | prediction).view(np.uint8))
    predicted, referred = get_mask_edges(prediction[box], reference[box], crop=False)
    return SurfaceDistances(
        np.asarray(get_surface_distance(predicted, referred, spacing=list(spacing))),
        np.asarray(get_surface_distance(referred, predicted, spacing=list(spacing))),
    )


def _check_spacing(shape: tuple[int, ...], spacing: Sequence[float], nsd_tolerance: float) -> None:
    if len(shape) not in (2, 3):
        raise ValueError(f"Surfaces are those of masks with 2 or 3 axes, got the shape {shape}.")
    if len(spacing) != len(shape) or not all(0 < step < math.inf for step in spacing):
        raise ValueError(f"A mask of the shape {shape} needs a positive spacing for each axis, got {tuple(spacing)}.")
    if not nsd_tolerance >= 0:
        raise ValueError(f"The tolerance of NSD is at least 0, got {nsd_tolerance}.")
