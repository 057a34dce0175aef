"""Outlines of masks on an image."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def _padded_extent(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Where the centres of the outermost pixels lie after one more pixel on each side, so that contours close."""
    height, width = mask.shape
    return (-1, width, -1, height)


def draw_contour(axis: Any, mask: np.ndarray, style: Mapping[str, Any]) -> None:
    """Draws the border of a mask (height, width), nonzero inside, in a style of matplotlib's `contour`."""
    inside = mask != 0
    if inside.any() and not inside.all():  # else there is no contour, and matplotlib warns
        axis.contour(np.pad(inside, 1).astype(float), [0.5], extent=_padded_extent(mask), **style)
