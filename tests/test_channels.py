"""Adapted convolutions against torch's own convolution of repeated and averaged images."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nnunet_diffusion_ensemble.channels import adapt_input_weight, adapt_output_weight

Randn = Callable[..., Tensor]
CONVOLUTIONS = {2: functional.conv2d, 3: functional.conv3d}


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize(("old", "new"), [(1, 3), (3, 1), (2, 3), (3, 2), (3, 3)])
def test_an_image_repeated_over_the_channels_gives_the_same_activations(
    old: int, new: int, dimension: int, randn: Randn
) -> None:
    weight, image = randn(4, old, *[3] * dimension), randn(2, 1, *[6] * dimension)
    adapted = adapt_input_weight(weight, new)
    assert adapted.shape == (4, new, *[3] * dimension)
    convolution = CONVOLUTIONS[dimension]
    expected = convolution(image.repeat_interleave(old, dim=1), weight)
    torch.testing.assert_close(convolution(image.repeat_interleave(new, dim=1), adapted), expected)


def test_input_weights_worked_by_hand() -> None:
    weight = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    assert adapt_input_weight(weight, 1).flatten().tolist() == [9.0]
    assert adapt_input_weight(weight, 2).flatten().tolist() == [4.5, 4.5]


@pytest.mark.parametrize(("old", "new"), [(1, 3), (3, 1), (3, 2)])
def test_every_new_output_channel_is_the_mean_of_the_old_ones(old: int, new: int, randn: Randn) -> None:
    weight, bias, features = randn(old, 4, 3, 3), randn(old), randn(2, 4, 6, 6)
    adapted_weight, adapted_bias = adapt_output_weight(weight, bias, new)
    expected = functional.conv2d(features, weight, bias).mean(1, keepdim=True).expand(-1, new, -1, -1)
    torch.testing.assert_close(functional.conv2d(features, adapted_weight, adapted_bias), expected)


def test_the_same_number_of_channels_changes_nothing(randn: Randn) -> None:
    weight, bias = randn(3, 3, 1, 1), randn(3)
    assert adapt_input_weight(weight, 3) is weight
    assert adapt_output_weight(weight, bias, 3) == (weight, bias)


def test_an_output_layer_without_bias_stays_without(randn: Randn) -> None:
    assert adapt_output_weight(randn(1, 4, 3, 3), None, 2)[1] is None
