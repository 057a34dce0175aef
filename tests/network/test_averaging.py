"""Means over timesteps against plain loops over probabilities in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from nnunet_diffusion_ensemble.network.averaging import AVERAGE, mean_sigmoid, mean_softmax

FLOAT16_MAX = 65504
Randn = Callable[..., Tensor]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the first axis."""
    exponentials = np.exp(logits - logits.max(0))
    return exponentials / exponentials.sum(0)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def mean_over_timesteps(function: Callable, logits: Tensor) -> np.ndarray:
    """Mean of `function` of the classes' logits, image by image."""
    values = logits.double().numpy()
    images = [sum(function(step[i]) for step in values) / len(values) for i in range(values.shape[1])]
    return np.stack(images)


@pytest.mark.parametrize("space", [(4, 5), (2, 3, 4)])
def test_softmax_of_the_result_is_the_mean_of_the_probabilities(space: tuple[int, ...], randn: Randn) -> None:
    logits = 2 * randn(3, 2, 4, *space)
    found = torch.softmax(mean_softmax(logits).double(), dim=1)
    np.testing.assert_allclose(found, mean_over_timesteps(softmax, logits), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("space", [(4, 5), (2, 3, 4)])
def test_sigmoid_of_the_result_is_the_mean_of_each_regions_probability(space: tuple[int, ...], randn: Randn) -> None:
    logits = 2 * randn(3, 2, 4, *space)
    found = torch.sigmoid(mean_sigmoid(logits).double())
    np.testing.assert_allclose(found, mean_over_timesteps(sigmoid, logits), rtol=1e-5, atol=1e-7)


def test_softmax_result_is_the_logarithm_of_the_probabilities(randn: Randn) -> None:
    logits = randn(3, 2, 4, 5, 6)
    np.testing.assert_allclose(mean_softmax(logits), np.log(mean_over_timesteps(softmax, logits)), rtol=1e-4, atol=1e-5)


def test_probabilities_are_averaged_and_not_logits() -> None:
    steps = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).log().reshape(2, 1, 2, 1, 1)
    assert mean_softmax(steps).exp().flatten().tolist() == pytest.approx([0.7, 0.3])


def test_regions_are_averaged_each_for_itself() -> None:
    steps = torch.logit(torch.tensor([[0.9, 0.9], [0.5, 0.1]])).reshape(2, 1, 2, 1, 1)
    assert torch.sigmoid(mean_sigmoid(steps)).flatten().tolist() == pytest.approx([0.7, 0.5])


@pytest.mark.parametrize("logit", [12.0, -12.0])
def test_region_logits_near_certainty_keep_their_precision(logit: float) -> None:
    found = mean_sigmoid(torch.full((4, 1, 1, 2, 2), logit))
    np.testing.assert_allclose(found, np.full((1, 1, 2, 2), logit), atol=1e-4)


def test_certainty_of_all_timesteps_gives_zero_and_the_smallest_logarithm() -> None:
    steps = torch.tensor([1e4, -1e4]).expand(3, 1, 2).reshape(3, 1, 2, 1, 1)
    assert mean_softmax(steps).flatten().tolist() == [0.0, -15.0]


def test_certainty_of_all_timesteps_gives_the_largest_region_logits() -> None:
    steps = torch.tensor([1e4, -1e4]).expand(3, 1, 2).reshape(3, 1, 2, 1, 1)
    assert mean_sigmoid(steps).flatten().tolist() == [15.0, -15.0]


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_opposite_certainties_average_to_one_half(name: str) -> None:
    steps = torch.tensor([[1e4, -1e4], [-1e4, 1e4]]).reshape(2, 1, 2, 1, 1)
    expected = np.log(0.5) if name == "softmax" else 0.0
    assert AVERAGE[name](steps).flatten().tolist() == pytest.approx([expected, expected])


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_dozens_of_overlapping_tiles_stay_within_float16(name: str) -> None:
    steps = torch.tensor([1e4, -1e4]).expand(8, 1, 2).reshape(8, 1, 2, 1, 1)
    one = AVERAGE[name](steps).half()
    total = sum((10 * one for _ in range(64)), torch.zeros_like(one))
    assert torch.isfinite(total).all()
    assert total.abs().max() < FLOAT16_MAX


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_half_precision_logits_are_averaged_in_single_precision(name: str, randn: Randn) -> None:
    logits = randn(3, 1, 2, 4, 4).half()
    found = AVERAGE[name](logits)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, AVERAGE[name](logits.float()), rtol=0, atol=0)


def test_one_timestep_is_its_own_mean(randn: Randn) -> None:
    logits = randn(1, 2, 3, 4, 4)
    torch.testing.assert_close(mean_softmax(logits), torch.log_softmax(logits[0], dim=1))
    torch.testing.assert_close(mean_sigmoid(logits), logits[0], rtol=1e-5, atol=1e-5)
