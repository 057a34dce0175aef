"""Uncertainty of a prediction: predictive entropy, mutual information between timesteps, agreement of segmentations.

Entropy of a mean and mutual information as in Gal et al. 2017 (arXiv 1703.02910), with timesteps as the members. Both
are in one unit, the largest entropy there can be, so that they lie between 0 and 1 whatever the number of classes.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

import numpy as np
from scipy.special import entr


def predictive_entropy(probabilities: np.ndarray, are_regions: bool) -> np.ndarray:
    """Entropy of each voxel's prediction: 0 is certain, 1 is that all classes are as likely.

    Args:
        probabilities: (classes, *space), between 0 and 1.
        are_regions: each channel is a region that may overlap with others, inside against outside; their entropies are
            averaged. Otherwise the channels are classes whose probabilities add up to 1.

    Returns:
        (*space), between 0 and 1.

    Raises:
        ValueError: there is only one class, about which nothing can be uncertain.
    """
    if are_regions:
        entropy = (entr(probabilities) + entr(1 - probabilities)).mean(0) / math.log(2)
    elif len(probabilities) < 2:
        raise ValueError(f"Entropy needs 2 or more classes, got {len(probabilities)}.")
    else:
        entropy = entr(probabilities).sum(0) / math.log(len(probabilities))
    return entropy.clip(0, 1)  # rounding goes a little beyond


class TimestepSpread:
    """Mutual information between a voxel's class and the timestep that predicts it, from timesteps one after another.

    It holds one volume of probabilities and one of entropies, however many timesteps there are.

    Args:
        are_regions: as in `predictive_entropy`.
    """

    def __init__(self, are_regions: bool):
        self.are_regions = are_regions
        self.num_timesteps = 0
        self._probabilities: np.ndarray | float = 0.0
        self._entropies: np.ndarray | float = 0.0

    def add(self, probabilities: np.ndarray) -> None:
        """Takes in the probabilities (classes, *space) of one more timestep."""
        self._probabilities = self._probabilities + probabilities
        self._entropies = self._entropies + predictive_entropy(probabilities, self.are_regions)
        self.num_timesteps += 1

    def mutual_information(self) -> np.ndarray:
        """Entropy of the mean less the mean of the entropies, (*space).

        Between 0, where all timesteps predict the same (or there is only one), and 1, where each is certain and all
        classes are named as often.

        Raises:
            ValueError: no timestep was added.
        """
        if not self.num_timesteps:
            raise ValueError("There is no timestep to compare: add the probabilities of one or more.")
        mean = np.asarray(self._probabilities) / self.num_timesteps
        return (predictive_entropy(mean, self.are_regions) - self._entropies / self.num_timesteps).clip(0, 1)


def expected_dice(probabilities: np.ndarray, segmentation: np.ndarray, regions: Sequence[tuple[int, ...]]) -> float:
    """Dice with the reference as far as the probabilities know it: 2 sum(p s) / (sum(p) + sum(s)), mean over regions.

    Of a reference whose voxels have their labels with probability p, independently, this is the ratio of the expected
    numerator and denominator of the Dice of s.

    Args:
        probabilities: (classes or regions, *space).
        segmentation: label map of the same space.
        regions: the labels that make up each class or region, in the order of the channels; `(0,)` is left out.

    Returns:
        Between 0 and 1. A region that the segmentation does not hold does not count; NaN if none does.
    """
    found = []
    for region, probability in zip(regions, probabilities, strict=True):
        mask = np.isin(segmentation, region)
        if region != (0,) and mask.any():
            both = probability[mask].sum(dtype=np.float64)
            found.append(2 * both / (probability.sum(dtype=np.float64) + np.count_nonzero(mask)))
    return float(np.mean(found)) if found else math.nan


def mean_pairwise_dice(segmentations: Sequence[np.ndarray], regions: Sequence[tuple[int, ...]]) -> float:
    """How well segmentations agree: Dice of each pair, averaged over regions and then over pairs.

    Args:
        segmentations: label maps of the same shape.
        regions: the labels that make up each region; for labels without regions `[(1,), (2,), ...]`.

    Returns:
        Between 0 and 1. As in nnU-Net's evaluation, a region that neither of a pair holds does not count; NaN if
        nothing counts, as with fewer than two segmentations.
    """
    of_pairs: dict[tuple[int, int], list[float]] = {}
    for region in regions:
        masks = [np.isin(segmentation, region) for segmentation in segmentations]
        voxels = [np.count_nonzero(mask) for mask in masks]
        for i, j in combinations(range(len(masks)), 2):
            if voxels[i] + voxels[j]:
                dice = 2 * np.count_nonzero(masks[i] & masks[j]) / (voxels[i] + voxels[j])
                of_pairs.setdefault((i, j), []).append(dice)
    return fmean(map(fmean, of_pairs.values())) if of_pairs else math.nan
