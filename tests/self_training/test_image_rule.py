"""Which images are trained on, worked by hand."""

import math

import numpy as np
import pytest

from nnunet_diffusion_ensemble.self_training.image_rule import (
    AllowedArea,
    Candidate,
    allowed_areas,
    area_shares,
    drifts,
    judge,
    mean_areas,
)

ANY = {"lung": AllowedArea(0.0, 1.0)}


def candidate(case: str, dice: float | None, area: float = 0.2, entropy: float = 0.1) -> Candidate:
    return Candidate(case, {"lung": area}, dice, entropy)


def accepted(candidates: list[Candidate], share: float = 0.75) -> list[str]:
    return [v.candidate.case for v in judge(candidates, ANY, share) if v.is_accepted]


def test_the_best_three_of_four_are_kept() -> None:
    assert accepted([candidate("a", 0.9), candidate("b", 0.7), candidate("c", 0.95), candidate("d", 0.8)]) == [
        "a",
        "c",
        "d",
    ]


def test_the_number_kept_is_rounded_down() -> None:
    assert accepted([candidate(name, 0.9) for name in "abcdef"]) == ["a", "b", "c", "d"]  # 4.5


def test_one_image_at_least_is_kept() -> None:
    assert accepted([candidate("a", 0.2), candidate("b", 0.3)], share=0.1) == ["b"]


def test_ties_are_broken_by_name_whatever_the_order() -> None:
    assert accepted([candidate("b", 0.9), candidate("a", 0.9)], share=0.5) == ["a"]


def test_without_timesteps_the_least_entropy_is_best() -> None:
    images = [candidate("a", None, entropy=0.3), candidate("b", None, entropy=0.1), candidate("c", None, entropy=0.2)]
    assert accepted(images, share=0.67) == ["b", "c"]


def test_areas_outside_the_range_are_rejected_and_its_ends_are_not() -> None:
    allowed = {"lung": AllowedArea(0.1, 0.6)}
    areas = {"a": 0.09, "b": 0.1, "c": 0.6, "d": 0.61}
    verdicts = judge([candidate(name, 0.9, area) for name, area in areas.items()], allowed, 1.0)
    assert [v.candidate.case for v in verdicts if v.is_accepted] == ["b", "c"]
    assert verdicts[0].reasons == ("lung covers 9.0%, allowed are 10.0% to 60.0%",)


def test_every_reason_is_given() -> None:
    verdicts = judge([candidate("a", 0.95), candidate("b", 0.5, area=0.9)], {"lung": AllowedArea(0.1, 0.6)}, 0.5)
    assert verdicts[1].reasons == (
        "lung covers 90.0%, allowed are 10.0% to 60.0%",
        "timesteps agree by Dice 0.500, the best 50% end with 0.950",
    )


def test_a_label_covers_its_share_of_what_is_not_ignored() -> None:
    labels = np.array([[[0, 1, 1, 2], [0, 0, 9, 9]]])
    regions = {"background": (0,), "whole": (1, 2), "core": (2,)}
    assert area_shares(labels, regions, 9) == {"whole": 3 / 6, "core": 1 / 6}


def test_an_image_that_is_wholly_ignored_covers_nothing() -> None:
    assert area_shares(np.full((1, 2, 2), 9), {"lung": (1,)}, 9) == {"lung": 0.0}


def test_the_range_goes_from_half_the_least_to_twice_the_most() -> None:
    labelled = [{"lung": 0.2, "heart": 0.04}, {"lung": 0.3, "heart": 0.02}]
    assert allowed_areas(labelled, 0.5, 2.0) == {"lung": AllowedArea(0.1, 0.6), "heart": AllowedArea(0.01, 0.08)}


def test_without_labelled_cases_there_is_no_range() -> None:
    with pytest.raises(ValueError, match="no labelled case"):
        allowed_areas([], 0.5, 2.0)


def test_mean_areas_are_those_of_each_label() -> None:
    assert mean_areas([{"lung": 0.25, "heart": 0.0}, {"lung": 0.75, "heart": 0.5}]) == {"lung": 0.5, "heart": 0.25}


DRIFTS = [(0.2, 0.25, 0.25), (0.25, 0.2, -0.2), (0.2, 0.2, 0.0), (0.0, 0.0, 0.0), (0.0, 0.1, math.inf)]


@pytest.mark.parametrize(("before", "now", "expected"), DRIFTS)
def test_drift_is_the_relative_change(before: float, now: float, expected: float) -> None:
    assert drifts({"lung": before}, {"lung": now})["lung"] == pytest.approx(expected)
