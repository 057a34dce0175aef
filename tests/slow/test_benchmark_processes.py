"""Evaluation in two processes: the same numbers in the same order, errors passed on, few cases ahead."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from evaluation_data import write_evaluation_data

from nnunet_diffusion_ensemble.benchmark.evaluation import EvaluationSettings, evaluate_folder
from nnunet_diffusion_ensemble.benchmark.ordered import AHEAD, map_in_order

pytestmark = pytest.mark.slow


def evaluate(data: Any, num_processes: int) -> list[str]:
    return [repr(case) for case in evaluate_folder(*data.arguments, EvaluationSettings(num_processes=num_processes))]


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    data = write_evaluation_data(tmp_path, num_cases=20)
    assert evaluate(data, 2) == evaluate(data, 1)


def test_an_error_names_the_file_from_another_process(tmp_path: Path) -> None:
    data = write_evaluation_data(tmp_path)
    data.references["case_1"].write_text("no image")
    with pytest.raises(ValueError, match=r"references.case_1.png cannot be evaluated"):
        evaluate(data, 2)


def slower_if_even(item: int) -> int:
    time.sleep(0.05 * (item % 2 == 0))
    return item


def test_order_stays_and_few_items_are_taken_ahead() -> None:
    taken: list[int] = []
    items = iter(range(60))
    results = map_in_order(slower_if_even, (taken.append(i) or i for i in items), 2)
    first = [next(results) for _ in range(3)]
    assert len(taken) <= 3 + 2 * AHEAD
    assert first + list(results) == list(range(60))


def ends(item: int, code: int) -> None:
    import os

    os._exit(code)


def test_a_process_that_dies_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="A process of the evaluation died"):
        list(map_in_order(partial(ends, code=9), range(3), 2))
