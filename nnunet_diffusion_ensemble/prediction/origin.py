"""What predictions were made from: weights, settings, images. Those made from something else never count as these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.system.records import as_written, read_record, what_changed, write_record

PREDICTED_FROM = "predicted_from.json"
IMAGES = "images"

Stamps = Mapping[str, Sequence[int] | str]  # of files: their `records.stamps`, or their checksums


def described(model: Stamps, settings: Mapping[str, Any], images: Mapping[str, Stamps]) -> dict[str, Any]:
    """What predictions depend on, as it stands in a record.

    Args:
        model: files of weights and plans.
        settings: of prediction.
        images: of each case.
    """
    return as_written({"model": model, "settings": settings, IMAGES: images})


@dataclass(frozen=True)
class Origin:
    """The record of a folder of predictions, and what is there now to be predicted from; read once.

    Attributes:
        file: the record.
        now: from `described`.
    """

    file: Path
    now: Mapping[str, Any]

    @cached_property
    def before(self) -> Mapping[str, Any]:
        """The record; empty if nothing vouches for what lies there."""
        record = read_record(self.file) or {}
        return record if isinstance(record.get(IMAGES), dict) else {}

    @property
    def difference(self) -> str:
        """What is another one than before, images apart, in words; nothing if it is the same model and settings."""
        if not self.before:
            return "no record says from what it was made"
        before, now = ({name: part for name, part in one.items() if name != IMAGES} for one in (self.before, self.now))
        return f"changed: {what_changed(before, now)}" if before != now else ""

    def is_unchanged(self, case: str) -> bool:
        """Whether a case that was predicted need not be predicted again."""
        return not self.difference and self.before[IMAGES].get(case) == self.now[IMAGES][case]

    @property
    def changed_images(self) -> list[str]:
        """Cases whose images are others than they were."""
        before = self.before.get(IMAGES, {})
        return [case for case in self.now[IMAGES] if case in before and before[case] != self.now[IMAGES][case]]

    def write(self) -> None:
        """Vouches for what will be predicted now, and for other cases of the same model and settings."""
        others = {} if self.difference else self.before[IMAGES]
        write_record(self.file, {**self.now, IMAGES: {**others, **self.now[IMAGES]}})
