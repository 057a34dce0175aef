"""Half of every batch is truly labelled, on average, by how often cases are listed."""

from collections import Counter

import numpy as np
import pytest

from nnunet_diffusion_ensemble.self_training.sampling import MOST_REPEATED, mixed_cases


def share_of_true(num_true: int, num_pseudo: int, share: float) -> float:
    cases = mixed_cases([f"true_{i}" for i in range(num_true)], [f"pseudo_{i}" for i in range(num_pseudo)], share)
    return np.mean([case.startswith("true") for case in cases])


@pytest.mark.parametrize(("num_true", "num_pseudo"), [(1, 820), (6, 820), (6, 4), (97, 103), (100, 150), (500, 3)])
@pytest.mark.parametrize("share", [0.5, 0.25])
def test_the_share_is_met_within_two_hundredths(num_true: int, num_pseudo: int, share: float) -> None:
    assert share_of_true(num_true, num_pseudo, share) == pytest.approx(share, abs=0.02)


def test_one_case_beside_three_is_listed_three_times() -> None:
    assert Counter(mixed_cases(["t"], ["a", "b", "c"], 0.5)) == {"t": 3, "a": 1, "b": 1, "c": 1}


def test_within_a_group_all_cases_are_listed_alike() -> None:
    counts = Counter(mixed_cases(["t", "u", "v"], ["a", "b", "c", "d"], 0.5))
    assert (counts["t"], counts["a"]) == (4, 3)
    assert {counts[name] for name in "tuv"} == {4}


def test_lists_stay_short() -> None:
    assert len(mixed_cases(["t"] * 499, ["p"] * 1000, 0.5)) <= 2.1 * MOST_REPEATED * 1000


def test_without_pseudo_labels_every_case_is_listed_once() -> None:
    assert mixed_cases(["t", "u"], [], 0.5) == ["t", "u"]
