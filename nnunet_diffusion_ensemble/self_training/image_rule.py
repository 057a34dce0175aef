"""Which images are trained on: those whose predictions agree best, with areas like those of labelled cases."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

Areas = Mapping[str, float]  # by label or region: the share of an image that it covers, between 0 and 1


@dataclass(frozen=True)
class Candidate:
    """An unlabelled image with its prediction in numbers.

    Attributes:
        case: its name.
        areas: share of the image that each label covers.
        timestep_dice: mean Dice of pairs of timesteps, None for a model that makes one prediction.
        entropy: mean over the image.
    """

    case: str
    areas: Areas
    timestep_dice: float | None
    entropy: float

    @property
    def agreement(self) -> float:
        """The larger, the surer the teacher: agreement of its timesteps, or minus the entropy where there are none."""
        return -self.entropy if self.timestep_dice is None else self.timestep_dice


@dataclass(frozen=True)
class Verdict:
    """Whether an image is trained on; `reasons` why not."""

    candidate: Candidate
    reasons: tuple[str, ...] = ()

    @property
    def is_accepted(self) -> bool:
        return not self.reasons


@dataclass(frozen=True)
class AllowedArea:
    """The shares of an image, ends included, that a label may cover."""

    smallest: float
    largest: float

    def holds(self, area: float) -> bool:
        return self.smallest <= area <= self.largest


def area_shares(segmentation: np.ndarray, regions: Mapping[str, tuple[int, ...]], ignore_label: int | None) -> Areas:
    """The share of an image that each label or region covers, of what is not ignored.

    Args:
        segmentation: a label map.
        regions: the labels that make up each; background is left out.
        ignore_label: pixels of it do not count. With nothing left, all shares are 0.
    """
    counted = segmentation[segmentation != ignore_label] if ignore_label is not None else segmentation
    foreground = {name: labels for name, labels in regions.items() if set(labels) != {0}}
    return {
        name: float(np.isin(counted, labels).mean()) if counted.size else 0.0 for name, labels in foreground.items()
    }


def allowed_areas(labelled: Sequence[Areas], smallest: float, largest: float) -> dict[str, AllowedArea]:
    """What each label may cover, by the labelled cases: from `smallest` times the least to `largest` times the most.

    Raises:
        ValueError: there is no labelled case.
    """
    if not labelled:
        raise ValueError("There is no labelled case to learn from how large a label can be.")
    return {
        name: AllowedArea(
            smallest * min(areas[name] for areas in labelled), largest * max(areas[name] for areas in labelled)
        )
        for name in labelled[0]
    }


def judge(candidates: Sequence[Candidate], allowed: Mapping[str, AllowedArea], kept_share: float) -> list[Verdict]:
    """Decides on each image by itself (areas) and by its rank among all (agreement, ties by name).

    Args:
        candidates: all images of a round.
        allowed: of each label.
        kept_share: how many of them may be trained on, rounded down, but one at least.

    Returns:
        verdicts in the order of the candidates.
    """
    order = sorted(candidates, key=lambda candidate: (-candidate.agreement, candidate.case))
    best = order[: max(1, math.floor(kept_share * len(order)))]
    names = {candidate.case for candidate in best}
    return [_verdict(c, allowed, None if c.case in names else best[-1], kept_share) for c in candidates]


def _verdict(
    candidate: Candidate, allowed: Mapping[str, AllowedArea], better: Candidate | None, kept_share: float
) -> Verdict:
    reasons = [
        f"{name} covers {area:.1%}, allowed are {allowed[name].smallest:.1%} to {allowed[name].largest:.1%}"
        for name, area in candidate.areas.items()
        if not allowed[name].holds(area)
    ]
    if better is not None:
        reasons.append(f"{_sureness(candidate)}, the best {kept_share:.0%} end with {_value(better):.3f}")
    return Verdict(candidate, tuple(reasons))


def _value(candidate: Candidate) -> float:
    return candidate.entropy if candidate.timestep_dice is None else candidate.timestep_dice


def _sureness(candidate: Candidate) -> str:
    what = "entropy" if candidate.timestep_dice is None else "timesteps agree by Dice"
    return f"{what} {_value(candidate):.3f}"


def mean_areas(of_images: Sequence[Areas]) -> dict[str, float]:
    """Mean share of each label over images, of which there must be one."""
    return {name: fmean(areas[name] for areas in of_images) for name in of_images[0]}


def drifts(before: Areas, now: Areas) -> dict[str, float]:
    """Relative change of each label's mean area: 0.1 is 10% more. From nothing to something it is infinite."""
    return {name: _relative_change(before[name], value) for name, value in now.items()}


def _relative_change(before: float, now: float) -> float:
    if before == now:
        return 0.0
    return math.inf if before == 0 else now / before - 1
