"""A function applied to items in several processes."""

import os
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.system.workers import as_they_come


def die(case: str, images: list[Path]) -> None:
    os._exit(9)  # as a process that the system ends for want of memory


def told_with_its_length(name: str, item: str) -> tuple[str, int]:
    return name, len(item)


@pytest.mark.slow
def test_a_worker_that_dies_is_an_error_and_not_a_wait_without_end(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"worker died while it worked on one of a, b.*nnUNet_def_n_proc"):
        list(as_they_come(die, [("a", [tmp_path]), ("b", [tmp_path])], 1))


@pytest.mark.slow
def test_every_item_is_worked_on_once_and_few_are_taken_ahead() -> None:
    taken: list[int] = []
    items = ((f"item {i}", (taken.append(i) or "x") * i) for i in range(9))  # type: ignore[func-returns-value]
    results = as_they_come(told_with_its_length, items, 2)
    found = [next(results)]
    assert len(taken) <= 2 * 2 + 1
    found += results
    assert sorted(found) == [(f"item {i}", i) for i in range(9)]
