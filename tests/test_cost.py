"""What the benchmark of time and memory measures, and the bar for the memory of the head."""

from pathlib import Path
from types import ModuleType

import pytest
import torch
from scripts import load_script

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "cost.py"


@pytest.fixture(scope="module")
def cost() -> ModuleType:
    return load_script(SCRIPT)


def test_peak_is_the_most_that_tensors_hold_at_once(cost: ModuleType) -> None:
    def work() -> None:
        first = torch.empty(1000)
        second = torch.empty(2000)
        del first
        third = torch.empty(500)
        del second, third

    before = torch.empty(5000)  # is there throughout
    assert cost.peak_mb(work, "cpu") == (1000 + 2000) * 4 / 1e6
    assert len(before) == 5000


@pytest.mark.parametrize(("size", "batch"), [((128, 128), 1), ((128, 128), 2), ((16, 16, 16), 2)])
def test_head_needs_a_fifth_of_the_memory_of_the_published_way(
    cost: ModuleType, size: tuple[int, ...], batch: int
) -> None:
    case = cost.Case("head", size, batch, 0)
    ours, published = (cost.peak_mb(cost.head_work(case, way, "cpu", batch)[0], "cpu") for way in ("ours", "published"))
    # By hand: the upsampled and the concatenated features, 960 channels each, are there at once.
    assert published >= 2 * 960 * 4 * batch * torch.Size(size).numel() / 1e6
    assert ours <= published / 5


@pytest.mark.parametrize("what", ["head", "step", "prediction"])
def test_both_ways_give_the_same_numbers(cost: ModuleType, what: str) -> None:
    assert cost.check_equal(cost.Case(what, (32, 32), 2, 4), "cpu") < 1e-5
