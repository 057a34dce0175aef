"""The labels or regions of a data set that are evaluated, as nnU-Net's evaluation chooses them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class EvaluatedLabel:
    """A foreground label or region.

    Attributes:
        name: in dataset.json.
        value: the label, or the labels of the region.
        channel: of a network's prediction, which names the folder of its probability.
    """

    name: str
    value: int | tuple[int, ...]
    channel: int

    def mask(self, labels: np.ndarray) -> np.ndarray:
        """Where a label map shows it, boolean."""
        return np.isin(labels, self.value) if isinstance(self.value, tuple) else labels == self.value


def evaluated_labels(dataset_json: Mapping[str, Any]) -> tuple[EvaluatedLabel, ...]:
    """All labels but background and ignore, or all regions if there are regions."""
    # It imports torch, which takes seconds; processes that evaluate get by without.
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    labels = LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))
    values = [
        _plain(value) for value in (labels.foreground_regions if labels.has_regions else labels.foreground_labels)
    ]
    names = {_plain(value): name for name, value in reversed(dataset_json["labels"].items())}
    channels = values if labels.has_regions else [_plain(label) for label in labels.all_labels]
    return tuple(EvaluatedLabel(names[value], value, channels.index(value)) for value in values)


def ignore_label(dataset_json: Mapping[str, Any]) -> int | None:
    """The value of pixels that do not count, if there is one."""
    return dataset_json["labels"].get("ignore")


def _plain(value: Any) -> int | tuple[int, ...]:
    return tuple(map(int, value)) if isinstance(value, (list, tuple)) else int(value)
