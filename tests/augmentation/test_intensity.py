"""Hand-worked values of gamma, contrast and brightness on an image's own range."""

import math

import numpy as np
import pytest
import torch

from nnunet_diffusion_ensemble.augmentation.intensity import RangeIntensityTransform, with_moments_of


def applied(image: torch.Tensor, gamma: float = 1.0, contrast: float = 1.0, brightness: float = 0.0) -> torch.Tensor:
    values = {"gamma": gamma, "contrast": contrast, "brightness": brightness}
    return RangeIntensityTransform()._apply_to_image(image, **{n: torch.tensor([[v]]) for n, v in values.items()})


def normalised(values: list[float]) -> list[float]:
    mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
    return [(v - mean) / std for v in values]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.0, 0.25, 0.5, 1.0]),
        ({"gamma": 2.0}, [0.0, 0.0625, 0.25, 1.0]),
        ({"brightness": 0.25}, [0.25, 0.5, 0.75, 1.0]),  # 1.25 is cut off
        ({"contrast": 2.0}, [0.0, 0.0625, 0.5625, 1.0]),  # about 0.4375: -0.4375 and 1.5625 are cut off
        ({"contrast": 0.5, "brightness": -0.25}, [0.0, 0.09375, 0.21875, 0.46875]),  # -0.03125 is cut off
    ],
)
def test_values_of_an_image_in_its_range(options: dict, expected: list) -> None:
    """The image is 40 times its share of the range, less 30; its mean and deviation stay."""
    shares = [0.0, 0.25, 0.5, 1.0]
    image = 40 * torch.tensor(shares).reshape(1, 2, 2) - 30
    found = applied(image, **options).flatten()
    mean, std = image.mean(), image.std()
    assert torch.allclose((found - mean) / std, torch.tensor(normalised(expected)), atol=1e-5)


def test_what_comes_out_does_not_depend_on_the_scale_of_the_normalisation() -> None:
    """A z-scored image and the same one in other units are changed alike."""
    image = torch.rand(1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    options = {"gamma": 1.7, "contrast": 1.3, "brightness": 0.1}
    assert torch.allclose(applied(250 * image - 1000, **options), 250 * applied(image, **options) - 1000, atol=1e-2)


def test_channels_are_drawn_for_themselves_within_their_ranges() -> None:
    transform = RangeIntensityTransform(gamma=0.7, contrast=0.4, brightness=0.2)
    np.random.seed(0)
    drawn = [transform.get_parameters(image=torch.zeros(2, 4, 4)) for _ in range(300)]
    for name, width in (("gamma", 0.7), ("contrast", 0.4)):
        values = torch.stack([parameters[name] for parameters in drawn]).log()
        assert values.abs().max() <= width + 1e-6 and values.abs().max() > 0.95 * width
        assert not torch.equal(values[:, 0], values[:, 1])
    brightness = torch.stack([parameters["brightness"] for parameters in drawn])
    assert 0.19 < brightness.abs().max() <= 0.2


def test_a_constant_channel_stays_as_it_is() -> None:
    image = torch.stack([torch.full((4, 4), 3.0), torch.arange(16.0).reshape(4, 4)])
    found = RangeIntensityTransform()(image=image.clone())["image"]
    assert torch.allclose(found[0], image[0])
    assert not torch.allclose(found[1], image[1])


def test_the_segmentation_is_left_alone() -> None:
    segmentation = torch.arange(16, dtype=torch.int16).reshape(1, 4, 4)
    data = RangeIntensityTransform()(image=torch.rand(1, 4, 4), segmentation=segmentation.clone())
    assert torch.equal(data["segmentation"], segmentation)


def test_moments_are_those_of_the_reference() -> None:
    """2 and 4 have mean 3 and deviation sqrt(2); 10 and 30 have 20 and 10 sqrt(2)."""
    found = with_moments_of(torch.tensor([[2.0, 4.0]]), torch.tensor([[30.0, 10.0]]))
    assert torch.allclose(found, torch.tensor([[10.0, 30.0]]))
    assert math.isclose(float(found.std()), 10 * math.sqrt(2), rel_tol=1e-6)
