"""Intensities of an array as nnU-Net's preprocessing would have them, without resampling it."""

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def normalised(image: np.ndarray, plans: PlansManager, configuration: str) -> np.ndarray:
    """An image normalised by nnU-Net's own steps, at its place and in its size.

    Empty (zero) borders have no say in its statistics, since nnU-Net crops them; they become 0, which is what nnU-Net
    pads with.

    Args:
        image: (channels, *space) of two or three axes, raw.
        plans: with the normalisation of each channel.
        configuration: e.g. `2d`.

    Returns:
        (channels, *space) in float32.
    """
    settings = plans.get_configuration(configuration)
    volume = image.reshape(len(image), *[1] * (4 - image.ndim), *image.shape[1:]).astype(np.float32)  # a copy
    cropped, mask, box = crop_to_nonzero(volume)
    preprocessor, result = settings.preprocessor_class(verbose=False), np.zeros_like(volume)
    inside = (slice(None), *bounding_box_to_slice(box))
    result[inside] = preprocessor._normalize(cropped, mask, settings, plans.foreground_intensity_properties_per_channel)
    return result.reshape(image.shape)
