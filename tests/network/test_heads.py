"""Heads against a plain reference in float64: upsample every level, concatenate, one wide 1x1 convolution."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_diffusion_ensemble.method import HeadSettings
from nnunet_diffusion_ensemble.network.heads import ConcatenatingClassifier, LevelProjection, PixelClassifier

CHANNELS = (4, 3, 2)
CLASSES = 3
NUM_TIMESTEPS = 3
SIZES = {
    "2d": [(4, 4), (8, 8), (16, 16)],
    "2d_odd": [(5, 7), (10, 14), (20, 28)],
    "2d_anisotropic": [(3, 7), (9, 7), (9, 14)],
    "3d": [(2, 2, 2), (4, 4, 4), (8, 8, 8)],
    "3d_odd": [(3, 1, 5), (3, 3, 5), (3, 9, 15)],
    "3d_anisotropic": [(3, 2, 3), (3, 4, 6), (6, 8, 12)],
}
# Nearest upsampling composes only where every factor is whole, as in every U-Net with transposed convolutions.
CASES = [(name, how) for name in SIZES for how in ("nearest", "linear")]
MODES = {("nearest", 2): "nearest", ("nearest", 3): "nearest", ("linear", 2): "bilinear", ("linear", 3): "trilinear"}
PUBLISHED = HeadSettings(kernel_size=1)
KINDS = {
    "classifier": HeadSettings(hidden_features=(5, 4), kernel_size=1),
    "linear": HeadSettings(hidden_features=(), kernel_size=1),
    "neighbourhood": HeadSettings(hidden_features=(5, 4), kernel_size=3),
}
Randn = Callable[..., Tensor]


def pixelwise(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """A 1x1 convolution as a sum over channels."""
    return torch.einsum("oc,nc...->no...", weight.flatten(1), x) + bias.reshape(1, -1, *[1] * (x.ndim - 2))


def neighbourhoodwise(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """A convolution, with zeros around the image, as a sum of 1x1 convolutions of shifted images."""
    size, dimension = weight.shape[-1], x.ndim - 2
    padded = functional.pad(x, [size // 2] * 2 * dimension)
    y = bias.reshape(1, -1, *[1] * dimension)
    for shift in itertools.product(range(size), repeat=dimension):
        window = [slice(start, start + n) for start, n in zip(shift, x.shape[2:], strict=True)]
        y = y + torch.einsum("oc,nc...->no...", weight[(..., *shift)], padded[(slice(None), slice(None), *window)])
    return y


def upsampled_and_concatenated(timesteps: list[list[Tensor]], interpolation: str) -> Tensor:
    """Every level of every timestep at the image's size, side by side as in LEDM: timestep by timestep, level by level.

    For one timestep this is TEDM's and the linear probe's.
    """
    size, mode = timesteps[0][-1].shape[2:], MODES[interpolation, timesteps[0][0].ndim - 2]
    wide = [functional.interpolate(level, size, mode=mode) for levels in timesteps for level in levels]
    return torch.cat(wide, dim=1)


def wide_weight(weights: list[Tensor], num_timesteps: int) -> Tensor:
    """Weights of the levels as those of the wide convolution, its input ordered as in `upsampled_and_concatenated`."""
    by_timestep = [weight.chunk(num_timesteps, dim=1) for weight in weights]
    return torch.cat([parts[t] for t in range(num_timesteps) for parts in by_timestep], dim=1)


def reference(timesteps: list[list[Tensor]], interpolation: str, parameters: list[Tensor]) -> Tensor:
    """Logits in training mode, from copies of the head's parameters in the order of the layers."""
    num_levels = len(timesteps[0])
    *weights, bias = parameters[: num_levels + 1]
    wide = upsampled_and_concatenated(timesteps, interpolation)
    x = pixelwise(wide_weight(weights, len(timesteps)), bias, wide)
    rest = parameters[num_levels + 1 :]
    while rest:
        gamma, beta, weight, bias, *rest = rest
        x = x.clamp_min(0)
        pixels = [0, *range(2, x.ndim)]
        mean, variance = x.mean(pixels, keepdim=True), x.var(pixels, unbiased=False, keepdim=True)
        shape = (1, -1, *[1] * (x.ndim - 2))
        x = (x - mean) / (variance + 1e-5).sqrt() * gamma.reshape(shape) + beta.reshape(shape)
        x = neighbourhoodwise(weight, bias, x)
    return x


def parameters_in_order(head: PixelClassifier) -> list[nn.Parameter]:
    projection, *rest = head.seg_layers
    weights = [convolution.weight for convolution in projection.convolutions]
    layers = [p for layer in rest for p in layer.parameters()]
    return [*weights, projection.convolutions[-1].bias, *layers]


def in_double(tensors: list[Tensor]) -> list[Tensor]:
    return [t.detach().double().requires_grad_() for t in tensors]


def make(
    sizes: list[tuple[int, ...]], interpolation: str, settings: HeadSettings, randomise: Callable
) -> PixelClassifier:
    settings = settings.changed(interpolation=interpolation)
    return randomise(PixelClassifier(CHANNELS, CLASSES, len(sizes[0]), settings))


def make_concatenating(
    sizes: list[tuple[int, ...]], interpolation: str, settings: HeadSettings, randomise: Callable
) -> ConcatenatingClassifier:
    settings = settings.changed(interpolation=interpolation)
    return randomise(ConcatenatingClassifier(CHANNELS, CLASSES, len(sizes[0]), settings, NUM_TIMESTEPS))


def features_of(sizes: list[tuple[int, ...]], num_timesteps: int, randn: Randn) -> list[list[Tensor]]:
    """For each timestep its levels."""
    return [
        [randn(2, c, *size).requires_grad_() for c, size in zip(CHANNELS, sizes, strict=True)]
        for _ in range(num_timesteps)
    ]


def assert_equal_with_gradients(
    found: Tensor, expected: Tensor, ours: list[Tensor], theirs: list[Tensor], randn: Randn
) -> None:
    """Values and gradients of a random functional agree to the rounding of float32, whose epsilon is 1.2e-7."""
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    weighting = randn(*found.shape)
    (found * weighting).sum().backward()
    (expected * weighting).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        scale = other.grad.abs().max().item() + 1
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "interpolation"), CASES)
def test_logits_and_gradients_equal_those_of_upsampling_and_concatenating(
    name: str, interpolation: str, kind: str, randomise: Callable, randn: Randn
) -> None:
    head = make(SIZES[name], interpolation, KINDS[kind], randomise)
    (levels,) = features_of(SIZES[name], 1, randn)
    wide_levels, wide_parameters = in_double(levels), in_double(parameters_in_order(head))
    expected = reference([wide_levels], interpolation, wide_parameters)
    ours, theirs = [*levels, *parameters_in_order(head)], [*wide_levels, *wide_parameters]
    assert_equal_with_gradients(head(levels), expected, ours, theirs, randn)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "interpolation"), CASES)
def test_concatenated_timesteps_equal_those_that_are_upsampled_and_concatenated(
    name: str, interpolation: str, kind: str, randomise: Callable, randn: Randn
) -> None:
    head = make_concatenating(SIZES[name], interpolation, KINDS[kind], randomise)
    timesteps = features_of(SIZES[name], NUM_TIMESTEPS, randn)
    wide_timesteps, wide_parameters = [in_double(levels) for levels in timesteps], in_double(parameters_in_order(head))
    expected = reference(wide_timesteps, interpolation, wide_parameters)
    found = head([torch.stack(level) for level in zip(*timesteps, strict=True)])
    ours = [*(level for levels in timesteps for level in levels), *parameters_in_order(head)]
    theirs = [*(level for levels in wide_timesteps for level in levels), *wide_parameters]
    assert_equal_with_gradients(found, expected, ours, theirs, randn)


@pytest.mark.parametrize("name", ["2d_odd", "3d"])
def test_timesteps_that_come_some_at_a_time_add_up_to_all_at_once(name: str, randomise: Callable, randn: Randn) -> None:
    head = make_concatenating(SIZES[name], "nearest", KINDS["classifier"], randomise)
    levels = [torch.stack(level) for level in zip(*features_of(SIZES[name], NUM_TIMESTEPS, randn), strict=True)]
    first, second = (
        head.projected([level[rows] for level in levels], rows.start) for rows in (slice(0, 2), slice(2, 3))
    )
    found = head.classified([a + b for a, b in zip(first, second, strict=True)])
    torch.testing.assert_close(found, head(levels), rtol=1e-4, atol=1e-4)


def test_features_of_coarse_levels_are_never_at_the_size_of_the_image(randn: Randn) -> None:
    # The features of the finest level alone are at the image's size; those of all levels would be three times as wide.
    head = ConcatenatingClassifier(
        (8, 8, 8), CLASSES, 2, HeadSettings(hidden_features=(2,), kernel_size=1), NUM_TIMESTEPS
    )
    levels = [randn(NUM_TIMESTEPS, 1, 8, *size) for size in SIZES["2d"]]
    widest = []

    class Widths(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.shape[-2:] == SIZES["2d"][-1]:
                widest.append(result.shape[1])
            return result

    with Widths(), torch.no_grad():
        head(levels)
    assert max(widest) == 8 * NUM_TIMESTEPS


def test_linear_interpolation_is_exact_for_sizes_that_no_factor_connects(randomise: Callable, randn: Randn) -> None:
    sizes = [(3, 4), (5, 7), (9, 11)]
    head = make(sizes, "linear", KINDS["classifier"], randomise)
    levels = [randn(2, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)]
    expected = reference([in_double(levels)], "linear", in_double(parameters_in_order(head)))
    torch.testing.assert_close(head(levels).double(), expected, rtol=1e-4, atol=1e-4)


def test_in_eval_mode_batch_norm_takes_its_running_statistics(randomise: Callable, randn: Randn) -> None:
    head = make(SIZES["2d"], "nearest", KINDS["classifier"], randomise).eval()
    levels = [randn(2, c, *size) for c, size in zip(CHANNELS, SIZES["2d"], strict=True)]
    alone = head([level[:1] for level in levels])
    torch.testing.assert_close(head(levels)[:1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "reach"), [("classifier", 0), ("linear", 0), ("neighbourhood", 2)])
def test_a_pixel_depends_on_as_many_neighbours_as_the_kernels_reach(
    kind: str, reach: int, randomise: Callable, randn: Randn
) -> None:
    # Two convolutions of size 3 reach 2 pixels far.
    head = make(SIZES["2d"], "nearest", KINDS[kind], randomise).eval()
    levels = [randn(1, c, *size) for c, size in zip(CHANNELS, SIZES["2d"], strict=True)]
    before = head([level.clone() for level in levels])
    levels[-1][..., 8, 6] += 100
    rows, columns = (head(levels) - before).abs().sum((0, 1)).nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8 - reach, 8 + reach, 6 - reach, 6 + reach)


def test_interpolations_differ(randomise: Callable, randn: Randn) -> None:
    nearest, linear = (make(SIZES["2d"], how, KINDS["linear"], randomise).eval() for how in ("nearest", "linear"))
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


def test_initial_weights_of_concatenated_timesteps_are_those_of_one_whole_layer() -> None:
    head = ConcatenatingClassifier((64, 32), 2, 2, PUBLISHED, 8)
    fan_in = 8 * (64 + 32)
    for convolution in head.seg_layers[0].convolutions:
        assert convolution.weight.std().item() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.05)


@pytest.mark.parametrize("dimension", [2, 3])
def test_head_has_as_many_parameters_as_the_published_classifier(dimension: int) -> None:
    head = PixelClassifier((512, 256, 128, 64), 2, dimension, PUBLISHED)
    expected = 960 * 128 + 128 + 2 * 128 + 128 * 32 + 32 + 2 * 32 + 32 * 2 + 2
    assert sum(p.numel() for p in head.parameters()) == expected


@pytest.mark.parametrize("num_timesteps", [3, 8])
def test_ledms_head_has_as_many_parameters_as_the_published_classifier(num_timesteps: int) -> None:
    head = ConcatenatingClassifier((512, 256, 128, 64), 1, 2, PUBLISHED, num_timesteps)
    expected = num_timesteps * 960 * 128 + 128 + 2 * 128 + 128 * 32 + 32 + 2 * 32 + 32 + 1
    assert sum(p.numel() for p in head.parameters()) == expected


def test_every_name_carries_what_nnunets_loader_leaves_alone() -> None:
    shared = PixelClassifier(CHANNELS, CLASSES, 2, PUBLISHED)
    concatenating = ConcatenatingClassifier(CHANNELS, CLASSES, 2, PUBLISHED, NUM_TIMESTEPS)
    network = nn.ModuleDict({"shared": shared, "concatenating": concatenating})
    assert all(".seg_layers." in name for name in network.state_dict())


def test_a_missing_level_is_refused(randn: Randn) -> None:
    with pytest.raises(ValueError):
        PixelClassifier(CHANNELS, CLASSES, 2, PUBLISHED)([randn(1, 4, 4, 4)])


@pytest.mark.parametrize(
    ("dimension", "kernel_size", "interpolation", "precision", "side_by_side"),
    [
        (2, 3, "nearest", "float32", True),
        (2, 1, "nearest", "float32", False),
        (3, 3, "nearest", "float32", False),
        (2, 3, "linear", "float32", False),
        (2, 3, "nearest", "bfloat16", True),
        (2, 1, "nearest", "bfloat16", True),
        (3, 1, "nearest", "bfloat16", True),
        (2, 1, "linear", "bfloat16", False),
    ],
)
def test_channels_of_a_pixel_are_side_by_side_in_memory_where_that_is_faster(
    dimension: int, kernel_size: int, interpolation: str, precision: str, side_by_side: bool, randn: Randn
) -> None:
    settings = HeadSettings(hidden_features=(5, 4), kernel_size=kernel_size, interpolation=interpolation)
    head, seen = PixelClassifier(CHANNELS, CLASSES, dimension, settings), []
    head.seg_layers[-1].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    features = [randn(2, channels, *[size] * dimension) for channels, size in zip(CHANNELS, (4, 8, 16), strict=True)]
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        head.eval()(features)
    layout = torch.channels_last if dimension == 2 else torch.channels_last_3d
    assert seen[0].is_contiguous(memory_format=layout) is side_by_side
    assert seen[0].is_contiguous() is not side_by_side
