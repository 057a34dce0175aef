"""Volumes of reference and prediction (areas, of pictures), from counts of pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_diffusion_ensemble.evaluation.overlap import Counts


@dataclass(frozen=True)
class Volumes:
    """Of one label or region of one case.

    Attributes:
        axes: 2 for areas, 3 for volumes.
        reference: in the unit of the spacing, to the power of the axes; pixels that are ignored are in neither.
        prediction: the same.
    """

    axes: int
    reference: float
    prediction: float

    @classmethod
    def of(cls, counts: Counts, spacing: Sequence[float]) -> "Volumes":
        """From the pixels and the length of their sides."""
        size = math.prod(spacing)
        return cls(len(spacing), counts.reference * size, counts.predicted * size)

    @property
    def row(self) -> dict[str, float]:
        """As in volumes.csv."""
        return {"axes": self.axes, "reference": self.reference, "prediction": self.prediction}
