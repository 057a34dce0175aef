"""Normalisation of arrays against nnU-Net's own preprocessing."""

from typing import Any

import numpy as np
import pytest
from conftest import make_plans
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from trained_models import RESAMPLING

from nnunet_diffusion_ensemble.nnunet.normalisation import normalised

INTENSITIES = {"mean": 90.0, "std": 30.0, "percentile_00_5": 20.0, "percentile_99_5": 150.0}
SCHEMES = {
    "z-scores": ("ZScoreNormalization", False),
    "z-scores of what is not empty": ("ZScoreNormalization", True),
    "from 0 to 1": ("RescaleTo01Normalization", False),
    "CT": ("CTNormalization", False),
}
INSIDE = (slice(None), slice(None), slice(3, 19), slice(2, 30))


def plans_with(scheme: str, uses_mask: bool) -> PlansManager:
    changes: dict[str, Any] = {"normalization_schemes": [scheme] * 2, "use_mask_for_norm": [uses_mask] * 2}
    further = {
        "transpose_forward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": INTENSITIES, "1": INTENSITIES},
    }
    return PlansManager(make_plans(changes | RESAMPLING) | further)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize("slices", [1, 4])
def test_values_are_those_of_nnunet_and_empty_borders_are_zero(scheme: str, slices: int) -> None:
    plans = plans_with(*SCHEMES[scheme])
    image = np.zeros((2, slices, 24, 32), np.float32)
    image[INSIDE] = np.random.RandomState(0).randint(1, 200, image[INSIDE].shape)
    image[:, :, 10:12, 2:9] = 0  # a bay: inside the box, outside the mask
    configuration = plans.get_configuration("2d")
    expected, _, _ = DefaultPreprocessor(False).run_case_npy(
        image, None, {"spacing": [1.0, 1.0, 1.0]}, plans, configuration, {}
    )
    found = normalised(image[:, 0] if slices == 1 else image, plans, "2d").reshape(image.shape)
    np.testing.assert_array_equal(found[INSIDE], expected)
    found[INSIDE] = 0
    assert not found.any()
