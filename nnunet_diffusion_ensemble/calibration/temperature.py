"""Temperature scaling (Guo et al. 2017, arXiv:1706.04599) of probabilities as they are written.

p^(1 / T) over its sum is the softmax of logits / T, so that what is fitted is what is applied. Classes share one
temperature; regions, each against the rest, have their own. Neither changes which class is the most probable or
whether a region is more probable than not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

LEAST, MOST = 0.05, 20.0  # temperatures
TINY = float(np.finfo(np.float32).tiny)  # keeps the logarithm of a rounded probability finite


@dataclass(frozen=True)
class PixelSample:
    """Pixels of one case.

    Attributes:
        probabilities: (classes or regions, pixels), between 0 and 1.
        truth: of the same shape, where the reference has the class or region.
    """

    probabilities: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class TemperatureFit:
    """Temperatures, one for all classes or one for each region, and the negative log-likelihood (nats a pixel and, for
    regions, a region) without and with them."""

    temperatures: tuple[float, ...]
    nll_before: float
    nll_after: float

    @property
    def is_at_limit(self) -> bool:
        """Whether the likelihood has no maximum within the limits, as where no pixel is wrong."""
        return any(t <= 1.01 * LEAST or t >= 0.99 * MOST for t in self.temperatures)


def tempered(probabilities: np.ndarray, temperatures: Sequence[float], are_regions: bool) -> np.ndarray:
    """Probabilities with these temperatures: above 1 less certain, below 1 more certain.

    Args:
        probabilities: (classes or regions, *space), between 0 and 1. Of classes they add up to 1.
        temperatures: one for all classes, or one for each region.
        are_regions: as in `predictive_entropy`.

    Returns:
        float32 of the same shape. Exactly 0 and 1, which have no finite logit, stay.

    Raises:
        ValueError: the number of temperatures does not fit.
    """
    expected = len(probabilities) if are_regions else 1
    if len(temperatures) != expected:
        raise ValueError(f"{expected} temperature(s) are needed, got {len(temperatures)}.")
    if are_regions:
        parts = [expit(logit(p.astype(np.float64)) / t) for p, t in zip(probabilities, temperatures, strict=True)]
        return np.stack(parts).astype(np.float32)
    largest = probabilities.max(0)
    powers = np.divide(probabilities, largest, where=largest > 0, out=np.zeros_like(probabilities, dtype=np.float32))
    powers **= np.float32(1 / temperatures[0])
    return powers / powers.sum(0)


def fit_temperature(samples: Sequence[PixelSample], are_regions: bool) -> TemperatureFit:
    """The temperatures of the largest likelihood; each case counts as much, whatever its number of pixels.

    Args:
        samples: one a case, all with the same classes or regions.
        are_regions: as in `tempered`.

    Raises:
        ValueError: there is no pixel.
    """
    samples = [sample for sample in samples if sample.truth.size]
    if not samples:
        raise ValueError("A temperature needs labelled pixels, and there are none that count.")
    weights = np.concatenate([np.full(s.truth.shape[1], 1 / (len(samples) * s.truth.shape[1])) for s in samples])
    probabilities = np.concatenate([sample.probabilities for sample in samples], axis=1).astype(np.float64)
    truth = np.concatenate([sample.truth for sample in samples], axis=1).astype(bool)
    if are_regions:
        nlls = [partial(_nll_of_region, p, y, weights) for p, y in zip(probabilities, truth, strict=True)]
    else:
        nlls = [partial(_nll_of_classes, probabilities, truth, weights)]
    parts = [_fit(nll) for nll in nlls]
    temperatures, before, after = zip(*parts, strict=True)
    return TemperatureFit(temperatures, float(np.mean(before)), float(np.mean(after)))


def _fit(nll: Callable[[float], float]) -> tuple[float, float, float]:
    """Temperature, and `nll` at 1 and at it. The likelihood has one maximum, as it is concave in 1 / T."""
    found = minimize_scalar(lambda log_t: nll(np.exp(log_t)), bounds=np.log((LEAST, MOST)), method="bounded")
    return float(np.exp(found.x)), float(nll(1.0)), float(found.fun)


def _nll_of_classes(probabilities: np.ndarray, truth: np.ndarray, weights: np.ndarray, temperature: float) -> float:
    logs = np.log(np.maximum(probabilities, TINY)) / temperature
    return float(weights @ (np.logaddexp.reduce(logs, axis=0) - (logs * truth).sum(0)))


def _nll_of_region(probabilities: np.ndarray, truth: np.ndarray, weights: np.ndarray, temperature: float) -> float:
    """Certain pixels are left out: no temperature changes them."""
    uncertain = (probabilities > 0) & (probabilities < 1)
    signs = np.where(truth[uncertain], -1.0, 1.0)
    return float(weights[uncertain] @ np.logaddexp(0, signs * logit(probabilities[uncertain]) / temperature))
