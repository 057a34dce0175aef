"""How the statistics of a benchmark resample, which is part of its record."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Resampling:
    """What the intervals of a report depend on besides the results.

    Attributes:
        replicates: how often patients and seeds are drawn.
        confidence: of intervals.
        seed: of the random numbers.
    """

    replicates: int = 2000
    confidence: float = 0.95
    seed: int = 0
