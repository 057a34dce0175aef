"""Layers computed together against the same layers one by one, as torch computes them."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from nnunet_diffusion_ensemble.network import fused_layers as pixel_layers
from nnunet_diffusion_ensemble.network.fused_layers import PixelLayers

LAYERS = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}
SPACE = {2: (7, 9), 3: (3, 4, 5)}


@pytest.fixture
def make_pair(randomise: Callable) -> Callable[[int], tuple[PixelLayers, nn.Sequential]]:
    """The same layers, in float64, as PixelLayers and as torch's Sequential."""

    def make(dimension: int) -> tuple[PixelLayers, nn.Sequential]:
        convolution, norm = LAYERS[dimension]
        layers: list[nn.Module] = [convolution(5, 6, 1)]
        for before, after in ((6, 4), (4, 3)):
            layers += [nn.ReLU(inplace=True), norm(before), convolution(before, after, 1)]
        joined = randomise(PixelLayers(*layers)).double()
        return joined, nn.Sequential(*deepcopy(list(joined)))

    return make


@pytest.fixture
def joined_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each time that layers are computed together."""
    calls: list[int] = []
    compute = pixel_layers._joined
    monkeypatch.setattr(pixel_layers, "_joined", lambda *arguments: (calls.append(1), compute(*arguments))[1])
    return calls


def run(layers: nn.Module, x: Tensor, gradient: Tensor) -> list[Tensor]:
    """Result, gradients of the input and of all parameters, and running statistics."""
    x = x.clone().requires_grad_()
    y = layers(x)
    y.backward(gradient)
    assert x.grad is not None
    return [y.detach(), x.grad, *[p.grad for p in layers.parameters() if p.grad is not None], *layers.buffers()]


@pytest.mark.parametrize("dimension", [2, 3])
def test_result_gradients_and_running_statistics_are_those_of_the_single_layers(
    dimension: int, make_pair: Callable, randn: Callable, joined_calls: list[int]
) -> None:
    joined, single = make_pair(dimension)
    x, gradient = randn(3, 5, *SPACE[dimension]).double(), randn(3, 3, *SPACE[dimension]).double()
    for _ in range(2):  # running statistics of a second batch depend on those of the first
        found, expected = run(joined, x, gradient), run(single, x, gradient)
        assert len(found) == len(expected) == 2 + 10 + 6
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert len(joined_calls) == 4


def test_in_eval_mode_the_running_statistics_are_used_and_stay(
    make_pair: Callable, randn: Callable, joined_calls: list[int]
) -> None:
    joined, single = (layers.eval() for layers in make_pair(2))
    x, gradient = randn(3, 5, 7, 9).double(), randn(3, 3, 7, 9).double()
    for one, other in zip(run(joined, x, gradient), run(single, x, gradient), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert not joined_calls


def test_in_mixed_precision_each_layer_runs_by_itself(
    make_pair: Callable, randn: Callable, joined_calls: list[int]
) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        make_pair(2)[0].float()(randn(3, 5, 7, 9))
    assert not joined_calls


def test_norms_over_several_processes_are_left_to_torch(make_pair: Callable, joined_calls: list[int]) -> None:
    layers = nn.SyncBatchNorm.convert_sync_batchnorm(make_pair(2)[0])
    assert isinstance(layers[2], nn.SyncBatchNorm)
    assert not pixel_layers._can_be_joined(torch.zeros(1, 6, 2, 2, requires_grad=True) + 1, list(layers)[1:4])
    assert pixel_layers._can_be_joined(torch.zeros(1, 6, 2, 2, requires_grad=True) + 1, list(make_pair(2)[0])[1:4])


def test_a_part_of_the_layers_is_computed_together_too(
    make_pair: Callable, randn: Callable, joined_calls: list[int]
) -> None:
    joined, single = make_pair(2)
    x = randn(2, 6, 7, 9).double().requires_grad_()
    torch.testing.assert_close(joined[1:](x * 2), single[1:](x * 2), rtol=1e-10, atol=1e-10)
    assert len(joined_calls) == 2


def test_convolutions_of_a_neighbourhood_are_left_to_torch(joined_calls: list[int]) -> None:
    layers = [nn.ReLU(inplace=True), nn.BatchNorm2d(6), nn.Conv2d(6, 3, 3, padding="same")]
    assert PixelLayers(*layers)(torch.ones(1, 6, 4, 4, requires_grad=True) + 1).shape == (1, 3, 4, 4)
    assert not joined_calls


def test_where_torch_compiles_each_layer_is_left_to_it(
    make_pair: Callable, randn: Callable, joined_calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    make_pair(2)[0](randn(3, 5, 7, 9).double())
    assert not joined_calls


def test_devices_without_fast_batch_statistics_are_left_to_torch(make_pair: Callable) -> None:
    layers, x = list(make_pair(2)[0])[1:4], torch.zeros(1, 6, 2, 2, device="meta", requires_grad=True) + 1
    assert not pixel_layers._can_be_joined(x, layers)
