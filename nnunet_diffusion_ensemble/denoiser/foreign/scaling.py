"""From preprocessed images to the range of the images that a denoiser was trained on."""

from collections.abc import Mapping

Z_SCORE_RANGE = (-2.0, 2.0)


def channel_scaling(
    normalization_scheme: str, intensities: Mapping[str, float], image_range: tuple[float, float]
) -> tuple[float, float]:
    """Scale and shift that bring preprocessed images of a channel to about the range of a model's training images.

    Exact where nnU-Net's normalisation has bounds: [0, 1], or CT, whose bounds are percentiles of the fingerprint.
    Z-scores have none. The fingerprint's percentiles are those of the foreground of all images, the mean and deviation
    are those of one whole image, so that the former say little about the latter: -2 to 2 is taken for the range.

    Args:
        normalization_scheme: nnU-Net's, of the plans.
        intensities: of this channel in nnU-Net's fingerprint (`mean`, `std`, `percentile_00_5`, `percentile_99_5`).
        image_range: lowest and highest value of the images that the model was trained on.
    """
    low, high = _preprocessed_range(normalization_scheme, intensities)
    scale = (image_range[1] - image_range[0]) / (high - low)
    return scale, image_range[0] - scale * low


def _preprocessed_range(scheme: str, intensities: Mapping[str, float]) -> tuple[float, float]:
    if scheme in ("RescaleTo01Normalization", "RGBTo01Normalization"):
        return 0.0, 1.0
    if scheme in ("CTNormalization", "NoNormalization"):
        low, high = float(intensities["percentile_00_5"]), float(intensities["percentile_99_5"])
        high = max(high, low + 1e-8)
        if scheme == "NoNormalization":
            return low, high
        std = max(float(intensities["std"]), 1e-8)
        return (low - intensities["mean"]) / std, (high - intensities["mean"]) / std
    return Z_SCORE_RANGE
