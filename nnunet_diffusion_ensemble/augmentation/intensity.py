"""Gamma, contrast and brightness of every image, on its own range: after z-scoring and CT's normalisation alike."""

from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import ImageOnlyTransform
from torch import Tensor

SMALLEST = 1e-7


class RangeIntensityTransform(ImageOnlyTransform):
    """Changes each channel within its range, from its lowest to its highest value, and keeps its mean and deviation.

    In the range as 0 to 1: x becomes x^gamma, then (x - mean) * contrast + mean + brightness, cut off at 0 and 1. Mean
    and standard deviation of the channel are then those of before, as normalised images have them.

    Args:
        gamma: largest logarithm of the exponent, either way.
        contrast: largest logarithm of the factor, either way.
        brightness: largest share of the range that is added, either way.
    """

    def __init__(self, gamma: float = 0.7, contrast: float = 0.4, brightness: float = 0.2):
        super().__init__()
        self.gamma, self.contrast, self.brightness = gamma, contrast, brightness

    def get_parameters(self, **data_dict: Any) -> dict[str, Tensor]:
        """One value for each channel, (channels, 1)."""
        image = data_dict["image"]
        widths = {"gamma": self.gamma, "contrast": self.contrast, "brightness": self.brightness}
        drawn = {
            name: torch.from_numpy(np.random.uniform(-width, width, (len(image), 1))).to(image.dtype)
            for name, width in widths.items()
        }
        return {"gamma": drawn["gamma"].exp(), "contrast": drawn["contrast"].exp(), "brightness": drawn["brightness"]}

    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        values = img.flatten(1)
        low, high = (extreme[:, None] for extreme in torch.aminmax(values, dim=1))
        x = ((values - low) / (high - low).clamp_min(SMALLEST)) ** params["gamma"]
        mean = x.mean(1, keepdim=True)
        x = ((x - mean) * params["contrast"] + mean + params["brightness"]).clamp(0, 1)
        return with_moments_of(x, values).reshape(img.shape)


def with_moments_of(x: Tensor, reference: Tensor) -> Tensor:
    """Rows (N, values) with mean and standard deviation of those of the reference; constant rows get its mean."""
    std, mean = torch.std_mean(x, dim=1, keepdim=True)
    wanted_std, wanted_mean = torch.std_mean(reference, dim=1, keepdim=True)
    return (x - mean) / std.clamp_min(SMALLEST) * wanted_std + wanted_mean
