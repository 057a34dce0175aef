"""Which pixels become labels, worked by hand."""

from typing import Any

import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_diffusion_ensemble.self_training.pixel_rule import is_certain, pseudo_label, with_ignore_label

TWO = LabelManager({"background": 0, "lung": 1}, None)
THREE = LabelManager({"background": 0, "lung": 1, "heart": 2}, None)
REGIONS = LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])
DROPPED = 9


def learned(labels: LabelManager, *channels: list[float], upper: float = 0.9, lower: float = 0.1) -> list[int]:
    """Pseudo-labels of a row of pixels."""
    probabilities = np.array(channels, np.float32)[:, None, None]
    return pseudo_label(probabilities, labels, upper, lower, DROPPED)[0, 0].tolist()


def test_of_two_classes_a_pixel_is_kept_from_the_upper_and_up_to_the_lower_threshold() -> None:
    lung = [0.0, 0.1, 0.11, 0.5, 0.89, 0.9, 1.0]
    assert learned(TWO, [1 - p for p in lung], lung) == [0, 0, DROPPED, DROPPED, DROPPED, 1, 1]


def test_the_two_thresholds_need_not_be_symmetric() -> None:
    lung = [0.2, 0.3, 0.94, 0.95]
    assert learned(TWO, [1 - p for p in lung], lung, upper=0.95, lower=0.2) == [0, DROPPED, DROPPED, 1]


def test_of_three_classes_the_largest_probability_decides() -> None:
    assert learned(THREE, [0.9, 0.2, 0.05, 0.45], [0.05, 0.2, 0.91, 0.5], [0.05, 0.6, 0.04, 0.05]) == [
        0,
        DROPPED,
        1,
        DROPPED,
    ]


def test_a_pixel_is_dropped_if_any_region_is_uncertain() -> None:
    whole, core = [0.05, 0.95, 0.95, 0.95, 0.5], [0.01, 0.05, 0.95, 0.6, 0.02]
    assert learned(REGIONS, whole, core) == [0, 1, 2, DROPPED, DROPPED]


def test_certainty_has_the_shape_of_the_image() -> None:
    assert is_certain(np.full((3, 2, 4, 5), 1 / 3), False, 0.9, 0.1).shape == (2, 4, 5)


LABELS = [
    ({"background": 0, "lung": 1}, 2),
    ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}, 4),
    ({"background": 0, "lung": 1, "ignore": 2}, 2),
]


@pytest.mark.parametrize(("labels", "expected"), LABELS)
def test_the_ignore_label_is_the_data_sets_own_or_one_above_its_highest(labels: dict[str, Any], expected: int) -> None:
    before = {"labels": labels, "regions_class_order": [1, 2, 3]}
    after = with_ignore_label(before)
    assert after["labels"] == {**labels, "ignore": expected}
    assert after["regions_class_order"] == [1, 2, 3]


def test_adding_an_ignore_label_leaves_the_original_alone() -> None:
    original = {"labels": {"background": 0, "lung": 1}}
    with_ignore_label(original)
    assert original == {"labels": {"background": 0, "lung": 1}}


def test_nnunet_accepts_the_ignore_label_and_the_network_has_no_channel_for_it() -> None:
    changed = with_ignore_label({"labels": {"background": 0, "whole": [1, 2], "core": 2}})
    labels = LabelManager(changed["labels"], [1, 2])
    assert (labels.ignore_label, labels.num_segmentation_heads) == (3, 2)
