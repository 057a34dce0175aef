"""Heads against a plain reference in float64: upsample every level, concatenate, one wide 1x1 convolution."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_diffusion_ensemble.heads import LevelProjection, PixelClassifier
from nnunet_diffusion_ensemble.method import HeadSettings

CHANNELS = (4, 3, 2)
CLASSES = 3
SIZES = {
    "2d": [(4, 4), (8, 8), (16, 16)],
    "2d_odd": [(5, 7), (10, 14), (20, 28)],
    "2d_anisotropic": [(3, 7), (9, 7), (9, 14)],
    "3d": [(2, 2, 2), (4, 4, 4), (8, 8, 8)],
    "3d_anisotropic": [(3, 2, 3), (3, 4, 6), (6, 8, 12)],
}
# Nearest upsampling composes only where every factor is whole, as in every U-Net with transposed convolutions.
CASES = [(name, how) for name in SIZES for how in ("nearest", "linear")]
MODES = {("nearest", 2): "nearest", ("nearest", 3): "nearest", ("linear", 2): "bilinear", ("linear", 3): "trilinear"}
Randn = Callable[..., Tensor]


def pixelwise(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """A 1x1 convolution as a sum over channels."""
    return torch.einsum("oc,nc...->no...", weight.flatten(1), x) + bias.reshape(1, -1, *[1] * (x.ndim - 2))


def upsampled_and_concatenated(levels: list[Tensor], interpolation: str) -> Tensor:
    mode = MODES[interpolation, levels[0].ndim - 2]
    return torch.cat([functional.interpolate(level, levels[-1].shape[2:], mode=mode) for level in levels], dim=1)


def reference(head: PixelClassifier, levels: list[Tensor], interpolation: str, parameters: list[Tensor]) -> Tensor:
    """Logits in training mode, from copies of the head's parameters in the order of the layers.

    The wide convolution's weight is the weights of the levels side by side.
    """
    *weights, bias = parameters[: len(levels) + 1]
    x = pixelwise(torch.cat(weights, dim=1), bias, upsampled_and_concatenated(levels, interpolation))
    rest = parameters[len(levels) + 1 :]
    while rest:
        gamma, beta, weight, bias, *rest = rest
        x = x.clamp_min(0)
        pixels = [0, *range(2, x.ndim)]
        mean, variance = x.mean(pixels, keepdim=True), x.var(pixels, unbiased=False, keepdim=True)
        shape = (1, -1, *[1] * (x.ndim - 2))
        x = (x - mean) / (variance + 1e-5).sqrt() * gamma.reshape(shape) + beta.reshape(shape)
        x = pixelwise(weight, bias, x)
    return x


def parameters_in_order(head: PixelClassifier) -> list[nn.Parameter]:
    projection, *rest = head.seg_layers
    weights = [convolution.weight for convolution in projection.convolutions]
    layers = [p for layer in rest for p in layer.parameters()]
    return [*weights, projection.convolutions[-1].bias, *layers]


def in_double(tensors: list[Tensor]) -> list[Tensor]:
    return [t.detach().double().requires_grad_() for t in tensors]


def make(
    sizes: list[tuple[int, ...]], interpolation: str, hidden: tuple[int, ...], randomise: Callable
) -> PixelClassifier:
    head = PixelClassifier(CHANNELS, CLASSES, len(sizes[0]), HeadSettings(hidden, interpolation))
    return randomise(head)


@pytest.mark.parametrize(("name", "interpolation"), CASES)
def test_logits_and_gradients_equal_those_of_upsampling_and_concatenating(
    name: str, interpolation: str, randomise: Callable, randn: Randn
) -> None:
    sizes = SIZES[name]
    head = make(sizes, interpolation, (5, 4), randomise)
    levels = [randn(2, c, *size).requires_grad_() for c, size in zip(CHANNELS, sizes, strict=True)]
    weighting = randn(2, CLASSES, *sizes[-1])
    wide_levels, wide_parameters = in_double(levels), in_double(parameters_in_order(head))
    found = head(levels)
    expected = reference(head, wide_levels, interpolation, wide_parameters)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    (found * weighting).sum().backward()
    (expected * weighting).sum().backward()
    ours = [*levels, *parameters_in_order(head)]
    for one, other in zip(ours, [*wide_levels, *wide_parameters], strict=True):
        scale = other.grad.abs().max().item() + 1
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-4 * scale)


def test_linear_interpolation_is_exact_for_sizes_that_no_factor_connects(randomise: Callable, randn: Randn) -> None:
    sizes = [(3, 4), (5, 7), (9, 11)]
    head = make(sizes, "linear", (5,), randomise)
    levels = [randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)]
    expected = reference(head, in_double(levels), "linear", in_double(parameters_in_order(head)))
    torch.testing.assert_close(head(levels).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "interpolation"), CASES)
def test_head_without_hidden_layers_is_one_wide_convolution(
    name: str, interpolation: str, randomise: Callable, randn: Randn
) -> None:
    head = make(SIZES[name], interpolation, (), randomise)
    levels = [randn(2, c, *size) for c, size in zip(CHANNELS, SIZES[name], strict=True)]
    *weights, bias = in_double(parameters_in_order(head))
    expected = pixelwise(torch.cat(weights, 1), bias, upsampled_and_concatenated(in_double(levels), interpolation))
    torch.testing.assert_close(head(levels).double(), expected, rtol=1e-4, atol=1e-4)


def test_in_eval_mode_batch_norm_takes_its_running_statistics(randomise: Callable, randn: Randn) -> None:
    head = make(SIZES["2d"], "nearest", (5,), randomise).eval()
    levels = [randn(2, c, *size) for c, size in zip(CHANNELS, SIZES["2d"], strict=True)]
    alone = head([level[:1] for level in levels])
    torch.testing.assert_close(head(levels)[:1], alone, rtol=1e-5, atol=1e-5)


def test_interpolations_differ(randomise: Callable, randn: Randn) -> None:
    nearest, linear = (make(SIZES["2d"], how, (), randomise).eval() for how in ("nearest", "linear"))
    levels = [randn(1, c, *size) for c, size in zip(CHANNELS, SIZES["2d"], strict=True)]
    assert (nearest(levels) - linear(levels)).abs().mean() > 0.1


def test_initial_weights_of_every_level_are_those_of_one_whole_layer() -> None:
    projection = LevelProjection((64, 32, 16), 128, 2, "nearest")
    fan_in = 64 + 32 + 16
    for convolution in projection.convolutions:  # uniform within 1 / sqrt(fan_in), so its std is a sqrt(3)rd of that
        assert convolution.weight.std().item() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.05)
        assert convolution.weight.abs().max().item() <= 1 / math.sqrt(fan_in)
    bias = projection.convolutions[-1].bias
    assert bias.std().item() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.25)


@pytest.mark.parametrize("dimension", [2, 3])
def test_head_has_as_many_parameters_as_the_published_classifier(dimension: int) -> None:
    head = PixelClassifier((512, 256, 128, 64), 2, dimension, HeadSettings())
    expected = 960 * 128 + 128 + 2 * 128 + 128 * 32 + 32 + 2 * 32 + 32 * 2 + 2
    assert sum(p.numel() for p in head.parameters()) == expected


def test_every_name_carries_what_nnunets_loader_leaves_alone() -> None:
    network = nn.ModuleDict({"head": PixelClassifier(CHANNELS, CLASSES, 2, HeadSettings())})
    assert all(".seg_layers." in name for name in network.state_dict())


def test_a_missing_level_is_refused(randn: Randn) -> None:
    with pytest.raises(ValueError):
        PixelClassifier(CHANNELS, CLASSES, 2, HeadSettings())([randn(1, 4, 4, 4)])
