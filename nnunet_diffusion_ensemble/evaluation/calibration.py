"""Is what is called 80% probable there in 80% of the pixels? One label or region against the rest.

Expected calibration error as in Guo et al. 2017 (arXiv:1706.04599), of the probability of the label instead of the
confidence in the winner (classwise); Brier 1950.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

NUM_BINS = 15
PART = 2**22  # pixels at a time


@dataclass(frozen=True)
class Reliability:
    """Sums over the pixels whose probability lies in each of 15 equal bins of [0, 1]; they add up over cases.

    Attributes:
        pixels: how many there are.
        probability_sums: of their probabilities.
        positives: how many of them have the label.
    """

    pixels: tuple[int, ...] = (0,) * NUM_BINS
    probability_sums: tuple[float, ...] = (0.0,) * NUM_BINS
    positives: tuple[int, ...] = (0,) * NUM_BINS

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(
            tuple(map(sum, zip(self.pixels, other.pixels, strict=True))),
            tuple(map(sum, zip(self.probability_sums, other.probability_sums, strict=True))),
            tuple(map(sum, zip(self.positives, other.positives, strict=True))),
        )

    @property
    def expected_calibration_error(self) -> float:
        """Sum over bins of (pixels in the bin / all) |mean probability - share with the label|; NaN without pixels."""
        if not sum(self.pixels):
            return math.nan
        gaps = (abs(p - y) for p, y in zip(self.probability_sums, self.positives, strict=True))
        return sum(gaps) / sum(self.pixels)

    def rows(self) -> list[dict[str, float]]:
        """For each bin `bin_lower`, `bin_upper`, `pixels`, `probability_sum` and `positives`; empty bins as well."""
        return [
            {
                "bin_lower": position / NUM_BINS,
                "bin_upper": (position + 1) / NUM_BINS,
                "pixels": self.pixels[position],
                "probability_sum": self.probability_sums[position],
                "positives": self.positives[position],
            }
            for position in range(NUM_BINS)
        ]


@dataclass(frozen=True)
class Probabilities:
    """All that a metric of calibration needs of a label; `probability` and `reference` as in `reliability`."""

    probability: np.ndarray
    reference: np.ndarray
    reliability: Reliability

    @classmethod
    def of(cls, probability: np.ndarray, reference: np.ndarray) -> "Probabilities":
        return cls(probability, reference, reliability(probability, reference))


def ece(label: Probabilities) -> float:
    """That of its reliability."""
    return label.reliability.expected_calibration_error


def brier_score(label: Probabilities) -> float:
    """`brier` of its pixels."""
    return brier(label.probability, label.reference)


def reliability(probability: np.ndarray, reference: np.ndarray) -> Reliability:
    """The sums of one case.

    MONAI has the same (`calibration_binning`, since 1.6), but counts in float32, which stops at 2^24 pixels.

    Args:
        probability: of the label at each pixel, between 0 and 1.
        reference: where the label is, a mask of the same shape.

    Raises:
        ValueError: these are no probabilities, or the shapes differ.
    """
    return sum((_sums(*part) for part in _parts(probability, reference)), Reliability())


def brier(probability: np.ndarray, reference: np.ndarray) -> float:
    """Mean of (probability - 1 where the label is, 0 elsewhere)^2; NaN without pixels. Arguments as above."""
    squares = [float(np.sum((p - y) ** 2)) for p, y in _parts(probability, reference)]
    return sum(squares) / probability.size if squares else math.nan


def _sums(probability: np.ndarray, reference: np.ndarray) -> Reliability:
    bins = np.minimum((probability * NUM_BINS).astype(np.intp), NUM_BINS - 1)  # 1 belongs to the last
    return Reliability(
        tuple(np.bincount(bins, minlength=NUM_BINS).tolist()),
        tuple(np.bincount(bins, probability, NUM_BINS).tolist()),
        tuple(np.bincount(bins[reference], minlength=NUM_BINS).tolist()),
    )


def _parts(probability: np.ndarray, reference: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both in float64 and flat, in parts: a whole CT in float64 would take more memory than all else."""
    if probability.shape != reference.shape:
        raise ValueError(f"Probabilities have the shape {probability.shape}, the reference {reference.shape}.")
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
        raise ValueError(f"Probabilities lie between 0 and 1, got {probability.min():g} to {probability.max():g}.")
    probability, reference = probability.ravel(), reference.ravel()
    for start in range(0, probability.size, PART):
        part = slice(start, start + PART)
        yield probability[part].astype(np.float64), reference[part].astype(bool)
