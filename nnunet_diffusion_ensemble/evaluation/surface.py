"""Distances between the boundaries of two masks; empty masks follow Metrics Reloaded.

Boundary pixels are those of a mask that have a face neighbour outside it, or lie at the border of the image; distances
are between their centres.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects

from nnunet_diffusion_ensemble.evaluation.overlap import check_masks


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


@dataclass(frozen=True)
class Surfaces:
    """All that a metric of surfaces needs of two masks.

    Attributes:
        distances: None if a mask is empty.
        are_both_empty: whether both are.
        diagonal: of the image, in the unit of the spacing.
        nsd_tolerance: largest distance that counts as no error, in that unit.
    """

    distances: SurfaceDistances | None
    are_both_empty: bool
    diagonal: float
    nsd_tolerance: float

    def length(self, measure: Callable[[SurfaceDistances], float]) -> float:
        """A metric that is a length: 0 if both masks are empty, the diagonal of the image if one is."""
        if self.distances is None:
            return 0.0 if self.are_both_empty else self.diagonal
        return measure(self.distances)

    def share(self, measure: Callable[[SurfaceDistances], float]) -> float:
        """A metric that is a share of agreement: 1 if both masks are empty, 0 if one is."""
        if self.distances is None:
            return float(self.are_both_empty)
        return measure(self.distances)


def hd95(surfaces: Surfaces) -> float:
    """95th percentile of the distances, of the worse direction."""
    return surfaces.length(lambda distances: distances.percentile(95))


def assd(surfaces: Surfaces) -> float:
    """Mean distance."""
    return surfaces.length(SurfaceDistances.mean)


def nsd(surfaces: Surfaces) -> float:
    """Share of both boundaries within the tolerance."""
    return surfaces.share(lambda distances: distances.share_within(surfaces.nsd_tolerance))


def compare_surfaces(
    reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], nsd_tolerance: float
) -> Surfaces:
    """The surfaces of two boolean masks.

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
    distances = surface_distances(reference, prediction, spacing) if all(there) else None
    diagonal = math.hypot(*np.multiply(reference.shape, spacing))
    return Surfaces(distances, not any(there), diagonal, nsd_tolerance)


def surface_distances(reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances:
    """Distances between two masks, neither of them empty; arguments as in `compare_surfaces`."""
    # What is beyond the box counts as outside, so boundaries stay.
    (box,) = find_objects((reference | prediction).view(np.uint8))
    predicted, referred = (mask[box] & ~binary_erosion(mask[box]) for mask in (prediction, reference))
    return SurfaceDistances(
        distance_transform_edt(~referred, spacing)[predicted], distance_transform_edt(~predicted, spacing)[referred]
    )


def _check_spacing(shape: tuple[int, ...], spacing: Sequence[float], nsd_tolerance: float) -> None:
    if len(shape) not in (2, 3):
        raise ValueError(f"Surfaces are those of masks with 2 or 3 axes, got the shape {shape}.")
    if len(spacing) != len(shape) or not all(0 < step < math.inf for step in spacing):
        raise ValueError(f"A mask of the shape {shape} needs a positive spacing for each axis, got {tuple(spacing)}.")
    if not nsd_tolerance >= 0:
        raise ValueError(f"The tolerance of NSD is at least 0, got {nsd_tolerance}.")
