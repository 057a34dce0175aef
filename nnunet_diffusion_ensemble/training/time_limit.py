"""Wall-clock time that a pretraining may take."""

import math


class TimeLimit:
    """Wall-clock time that a training may take, all its runs together.

    Args:
        max_hours: None means no limit.
    """

    def __init__(self, max_hours: float | None):
        self.limit_seconds = math.inf if max_hours is None else 3600 * max_hours
        self.used_seconds = 0.0
        self.epoch_seconds = 0.0

    def note_epoch(self, seconds: float) -> None:
        self.used_seconds += seconds
        self.epoch_seconds = seconds

    @property
    def is_reached(self) -> bool:
        """Whether another epoch as long as the last would be for the most part beyond the limit."""
        return self.used_seconds + self.epoch_seconds / 2 > self.limit_seconds

    def share_used(self, share_of_epoch: float) -> float:
        """Of the limit, at some point of an epoch as long as the last."""
        return (self.used_seconds + share_of_epoch * self.epoch_seconds) / self.limit_seconds


class TimeIsUp(Exception):
    """Leaves nnU-Net's loop over epochs."""
