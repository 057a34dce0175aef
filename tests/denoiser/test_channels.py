"""Adapted convolutions against torch's own convolution of repeated and averaged images."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nnunet_diffusion_ensemble.denoiser.channels import adapt_channels, adapt_input, adapt_output

Randn = Callable[..., Tensor]
CONVOLUTIONS = {2: functional.conv2d, 3: functional.conv3d}


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize(("old", "new"), [(1, 3), (3, 1), (2, 3), (3, 2), (3, 3)])
def test_an_image_repeated_over_the_channels_gives_the_same_activations(
    old: int, new: int, dimension: int, randn: Randn
) -> None:
    weight, image = randn(4, old, *[3] * dimension), randn(2, 1, *[6] * dimension)
    adapted = adapt_input(weight, new)
    assert adapted.shape == (4, new, *[3] * dimension)
    convolution = CONVOLUTIONS[dimension]
    expected = convolution(image.repeat_interleave(old, dim=1), weight)
    torch.testing.assert_close(convolution(image.repeat_interleave(new, dim=1), adapted), expected)


def test_input_weights_worked_by_hand() -> None:
    weight = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    assert adapt_input(weight, 1).flatten().tolist() == [9.0]
    assert adapt_input(weight, 2).flatten().tolist() == [4.5, 4.5]


@pytest.mark.parametrize(("old", "new"), [(1, 3), (3, 1), (3, 2)])
def test_every_new_output_channel_is_the_mean_of_the_old_ones(old: int, new: int, randn: Randn) -> None:
    weight, bias, features = randn(old, 4, 3, 3), randn(old), randn(2, 4, 6, 6)
    adapted_weight, adapted_bias = adapt_output(weight, new), adapt_output(bias, new)
    expected = functional.conv2d(features, weight, bias).mean(1, keepdim=True).expand(-1, new, -1, -1)
    torch.testing.assert_close(functional.conv2d(features, adapted_weight, adapted_bias), expected)


def test_the_same_number_of_channels_changes_nothing(randn: Randn) -> None:
    weight, bias = randn(3, 3, 1, 1), randn(3)
    assert adapt_input(weight, 3) is weight
    assert adapt_output(weight, 3) is weight
    assert adapt_output(bias, 3) is bias


def test_of_all_weights_only_the_first_and_the_last_convolution_are_adapted(randn: Randn) -> None:
    stem, middle, last, bias = randn(2, 1, 3, 3).half(), randn(2, 2, 3, 3), randn(1, 2, 1, 1), randn(1)
    weights = {"stem.weight": stem, "again.weight": stem, "middle": middle, "out.weight": last, "out.bias": bias}
    adapted = adapt_channels(weights, ["stem.weight", "again.weight"], "out", 2)
    assert adapted.keys() == weights.keys()
    for name in ("stem.weight", "again.weight"):
        assert torch.equal(adapted[name], torch.cat([stem, stem], dim=1).float() / 2)
    assert adapted["middle"] is middle
    assert torch.equal(adapted["out.weight"], torch.cat([last, last]))
    assert torch.equal(adapted["out.bias"], torch.cat([bias, bias]))
