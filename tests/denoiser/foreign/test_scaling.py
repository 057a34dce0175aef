"""Scaling for denoisers of other libraries: worked by hand."""

import pytest

from nnunet_diffusion_ensemble.denoiser.foreign.scaling import channel_scaling

FINGERPRINT = {"mean": 40.0, "std": 20.0, "percentile_00_5": -60.0, "percentile_99_5": 140.0, "min": -900.0}


@pytest.mark.parametrize(
    ("scheme", "image_range", "expected"),
    [
        ("RescaleTo01Normalization", (-1.0, 1.0), (2, -1)),
        ("RGBTo01Normalization", (0.0, 1.0), (1, 0)),
        ("CTNormalization", (-1.0, 1.0), (0.2, 0)),  # (-60 - 40) / 20 = -5 to 5
        ("CTNormalization", (0.0, 1.0), (0.1, 0.5)),
        ("NoNormalization", (-1.0, 1.0), (0.01, -0.4)),  # -60 to 140
        ("ZScoreNormalization", (-1.0, 1.0), (0.5, 0)),
        ("ZScoreNormalization", (0.0, 1.0), (0.25, 0.5)),
    ],
)
def test_preprocessed_images_come_to_the_range_of_the_models_training_images(
    scheme: str, image_range: tuple, expected: tuple
) -> None:
    assert channel_scaling(scheme, FINGERPRINT, image_range) == pytest.approx(expected)


def test_a_channel_of_one_value_gives_finite_numbers() -> None:
    constant = {"mean": 3.0, "std": 0.0, "percentile_00_5": 3.0, "percentile_99_5": 3.0}
    scale, shift = channel_scaling("CTNormalization", constant, (-1.0, 1.0))
    assert abs(scale) < float("inf")
    assert abs(shift) < float("inf")
