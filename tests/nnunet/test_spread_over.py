"""Some files from all over a list."""

from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.nnunet.labelled_cases import spread_over

FILES = [Path(str(i)) for i in range(11)]


@pytest.mark.parametrize(
    ("number", "chosen"),
    [(1, [0]), (2, [0, 10]), (3, [0, 5, 10]), (6, [0, 2, 4, 6, 8, 10]), (11, range(11)), (99, range(11))],
)
def test_they_are_at_even_distances(number: int, chosen: list[int]) -> None:
    assert spread_over(FILES, number) == [Path(str(i)) for i in chosen]


def test_of_none_there_are_none() -> None:
    assert spread_over([], 3) == []
