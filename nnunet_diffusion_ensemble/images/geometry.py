"""Where the voxels of an image lie in the patient, as nnU-Net's readers tell it, and whether two images agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SPACING_TOLERANCE = 1e-3  # relative; half a voxel in 500
DIRECTION_TOLERANCE = 1e-3  # of a unit vector; as much
ORIGIN_TOLERANCE = 0.1  # of the smallest side of a voxel; other tools round to float32 or to micrometres
# Finer than any scanner of a body, and thicker than any slice: a wrong unit, or a header that was never filled in.
SMALLEST_MM, LARGEST_MM = 0.005, 100.0
SMALLEST_CELL = 1e-6  # relative to that of right angles; below, the axes of voxels lie in one plane


@dataclass(frozen=True)
class Geometry:
    """Spacing in mm and directions (columns) of the axes as they are stored, and the place of the first voxel in mm.

    An image of two dimensions has two of each. Both libraries' coordinates are kept as they are: two images can be
    compared if one library read them.
    """

    spacing_mm: np.ndarray
    directions: np.ndarray
    origin_mm: np.ndarray
    to_right_anterior_superior: np.ndarray

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> "Geometry | None":
        """From the properties that a reader returns; None for pictures, which lie nowhere."""
        if stuff := properties.get("nibabel_stuff"):
            affine = np.asarray(stuff.get("reoriented_affine", stuff["original_affine"]), np.float64)
            lengths = np.linalg.norm(affine[:3, :3], axis=0)
            spacing = np.asarray(properties["spacing"], np.float64)[::-1]
            return cls(spacing, affine[:3, :3] / np.where(lengths > 0, lengths, 1), affine[:3, 3], np.eye(3))
        if stuff := properties.get("sitk_stuff"):
            stored = len(stuff["spacing"])
            dimension = min(3, stored)  # channels may be a fourth
            directions = np.asarray(stuff["direction"], np.float64).reshape(stored, stored)[:dimension, :dimension]
            flip = np.diag([-1.0, -1.0, 1.0][:dimension])  # ITK's axes point to the left and to the back
            spacing, origin = (np.asarray(stuff[name], np.float64)[:dimension] for name in ("spacing", "origin"))
            return cls(spacing, directions, origin, flip)
        return None

    @property
    def affine(self) -> np.ndarray:
        """From indices (columns, rows, slices) to mm towards right, front and head, (4, 4)."""
        matrix = np.eye(len(self.spacing_mm) + 1)
        matrix[:-1, :-1] = self.to_right_anterior_superior @ self.directions * self.spacing_mm
        matrix[:-1, -1] = self.to_right_anterior_superior @ self.origin_mm
        return matrix

    def problem(self, shape: Sequence[int]) -> str:
        """Whether there can be such a voxel; empty if there can. An axis of one voxel may have any spacing above 0.

        Args:
            shape: of the voxels, (slices, rows, columns).
        """
        if not all(np.isfinite(part).all() for part in (self.spacing_mm, self.directions, self.origin_mm)):
            return "has NaN or infinite numbers in its geometry"
        if (self.spacing_mm <= 0).any():
            return f"has a spacing of {numbers_in_words(self.spacing_mm)} mm; each must be above 0"
        lengths = self.spacing_mm[np.array(shape)[::-1][: len(self.spacing_mm)] > 1]
        if not ((lengths >= SMALLEST_MM) & (lengths <= LARGEST_MM)).all():
            return (
                f"has a spacing of {numbers_in_words(self.spacing_mm)} mm; no scanner of a body goes below "
                f"{SMALLEST_MM:g} or above {LARGEST_MM:g} mm, so the unit is wrong. For small specimens store all "
                "images of the data set in another unit: nnU-Net needs only their proportions"
            )
        if abs(np.linalg.det(self.directions)) < SMALLEST_CELL:
            return "has axes that lie in one plane"
        return ""

    def difference(self, other: "Geometry", with_lengths: bool = True) -> str:
        """In what this one differs from another, in words; empty if in nothing that matters.

        Args:
            other: of an image of as many dimensions.
            with_lengths: compare the spacing, too; without, axes and origin alone, which say what voxel lies where.
        """
        if len(self.spacing_mm) != len(other.spacing_mm):
            return f"{len(self.spacing_mm)} dimensions, {{other}} {len(other.spacing_mm)}"
        if with_lengths and not np.allclose(self.spacing_mm, other.spacing_mm, rtol=SPACING_TOLERANCE, atol=0):
            return f"the spacing {numbers_in_words(self.spacing_mm)}, {{other}} {numbers_in_words(other.spacing_mm)}"
        if not np.allclose(self.directions, other.directions, rtol=0, atol=DIRECTION_TOLERANCE):
            return f"the direction {numbers_in_words(self.directions)}, {{other}} {numbers_in_words(other.directions)}"
        tolerance = ORIGIN_TOLERANCE * min(self.spacing_mm.min(), other.spacing_mm.min())
        if not np.allclose(self.origin_mm, other.origin_mm, rtol=0, atol=tolerance):
            return f"the origin {numbers_in_words(self.origin_mm)}, {{other}} {numbers_in_words(other.origin_mm)}"
        return ""


def numbers_in_words(values: Sequence[float] | np.ndarray) -> str:
    """Numbers of a geometry in words, in the order of the axes of files: columns, rows, slices."""
    array = np.round(np.asarray(values, np.float64), 6) + 0.0
    return " x ".join(f"{value:g}" for value in array) if array.ndim == 1 else str(array.tolist())


def difference(one: Mapping[str, Any], other: Mapping[str, Any], with_lengths: bool = True) -> str:
    """`Geometry.difference` of the properties of two images, or of the spacings of pictures.

    Returns:
        What the first has, with `{other}` in the place of the other's name; empty if they agree.
    """
    geometries = Geometry.of(one), Geometry.of(other)
    if geometries[0] is not None and geometries[1] is not None:
        return geometries[0].difference(geometries[1], with_lengths)
    spacing, others = (np.asarray(properties["spacing"], np.float64) for properties in (one, other))
    if with_lengths and not np.allclose(spacing, others, rtol=SPACING_TOLERANCE, atol=0):
        return f"the spacing {numbers_in_words(spacing)}, {{other}} {numbers_in_words(others)}"
    return ""
