"""Evaluation in two processes: the same numbers in the same order, errors passed on, few cases ahead.

Everything runs in a new process: other tests here need the one process that pytest forks from for themselves.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from evaluation_data import write_evaluation_data

from nnunet_diffusion_ensemble.evaluation.cases import evaluate_folder
from nnunet_diffusion_ensemble.evaluation.settings import EvaluationSettings
from nnunet_diffusion_ensemble.system.workers import AHEAD, map_in_order

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[..., Any]]:
    """`run(function, *arguments)`: in the new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        yield lambda function, *arguments: process.submit(function, *arguments).result()


def evaluate(data: Any, num_processes: int) -> list[str]:
    return [repr(case) for case in evaluate_folder(*data.arguments, EvaluationSettings(num_processes=num_processes))]


def test_two_processes_give_what_one_gives(tmp_path: Path, run: Callable[..., Any]) -> None:
    data = write_evaluation_data(tmp_path, num_cases=20)
    assert run(evaluate, data, 2) == evaluate(data, 1)


def test_an_error_names_the_file_from_another_process(tmp_path: Path, run: Callable[..., Any]) -> None:
    data = write_evaluation_data(tmp_path)
    data.references["case_1"].write_text("no image")
    with pytest.raises(ValueError, match=r"references.case_1.png"):
        run(evaluate, data, 2)


def slower_if_even(item: int) -> int:
    time.sleep(0.05 * (item % 2 == 0))
    return item


def map_sixty() -> tuple[int, list[int]]:
    taken: list[int] = []
    results = map_in_order(slower_if_even, (taken.append(i) or i for i in range(60)), 2)
    first = [next(results) for _ in range(3)]
    return len(taken), first + list(results)


def test_order_stays_and_few_items_are_taken_ahead(run: Callable[..., Any]) -> None:
    num_taken, results = run(map_sixty)
    assert num_taken < 3 + 2 * AHEAD
    assert results == list(range(60))


def end(_: int) -> None:
    os._exit(9)


def test_a_process_that_dies_is_an_error(run: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError, match="A process died"):
        run(map_until_death)


def map_until_death() -> None:
    list(map_in_order(end, range(3), 2))
