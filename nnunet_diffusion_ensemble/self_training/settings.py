"""What a user may choose about self-training."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Settings = TypeVar("Settings", bound=BaseModel)


class SelfTrainingSettings(BaseModel):
    """The rules of self-training (docs/self_training.md).

    Attributes:
        upper: a pixel is kept as a label where its probability is at least this.
        lower: and kept as not that label where it is at most this; for more than two classes only `upper` counts.
        kept_share: of all images those whose predictions agree best.
        smallest_area: least share of an image that a label may cover, as a factor of the least among labelled cases.
        largest_area: the most, as a factor of the most among them.
        rounds: how often a student is trained; it is the teacher of the next round.
        largest_drift: relative change of a label's mean predicted area from one round to the next that ends the loop.
        true_share: of truly labelled cases among those drawn for a batch.
        true_labels_at_end: share of the training, its end, on true labels alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upper: float = Field(0.9, gt=0.5, le=1)
    lower: float = Field(0.1, ge=0, lt=0.5)
    kept_share: float = Field(0.75, gt=0, le=1)
    smallest_area: float = Field(0.5, ge=0, le=1)
    largest_area: float = Field(2.0, ge=1, allow_inf_nan=False)
    rounds: int = Field(1, ge=1)
    largest_drift: float = Field(0.1, gt=0, allow_inf_nan=False)
    true_share: float = Field(0.5, gt=0, lt=1)
    true_labels_at_end: float = Field(0.15, ge=0, lt=1)


def read_settings(cls: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Settings by name, defaults for those that are None.

    Raises:
        ValueError: a value is not allowed; the message names the setting, what came and what is allowed.
    """
    try:
        return cls(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ValueError(f"{name} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}.") from error
