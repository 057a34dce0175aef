"""`ShiftAugmentation`: any of nnU-Net's trainers with the augmentation for another hospital."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from batchgeneratorsv2.helpers.scalar_type import RandomScalar
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.nnunet.random_binary_operator import ApplyRandomBinaryOperatorTransform
from batchgeneratorsv2.transforms.nnunet.remove_connected_components import (
    RemoveRandomConnectedComponentFromOneHotEncodingTransform,
)
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from nnunet_diffusion_ensemble.augmentation.intensity import RangeIntensityTransform
from nnunet_diffusion_ensemble.augmentation.spatial import TRANSLATION, ShiftSpatialTransform

ROTATION = (-math.radians(15), math.radians(15))
SMALLEST_SCALE = 0.85  # for which nnU-Net's loader brings what lies around the patch
OF_A_CASCADE = (ApplyRandomBinaryOperatorTransform, RemoveRandomConnectedComponentFromOneHotEncodingTransform)


def shift_transforms(nnunet: Sequence[BasicTransform], rotation: RandomScalar = ROTATION) -> ComposeTransforms:
    """nnU-Net's training transforms with other spatial ones, and one change of intensities in the place of its own.

    Thick slices, mirroring, masks of the normalisation, the cascade, regions and deep supervision stay nnU-Net's.

    Args:
        nnunet: transforms of nnU-Net's `get_training_transforms`.
        rotation: range of the angles, in radians.
    """
    changed: list[BasicTransform] = []
    for transform in nnunet:
        if isinstance(transform, SpatialTransform):
            changed.append(ShiftSpatialTransform(tuple(transform.patch_size), rotation))
        elif not changes_intensity(transform):
            changed.append(transform)
    return ComposeTransforms(_with_intensity(changed))


def changes_intensity(transform: BasicTransform) -> bool:
    """Whether it is one of nnU-Net's random changes of grey values."""
    return isinstance(transform, RandomTransform) and not isinstance(transform.transform, OF_A_CASCADE)


def _with_intensity(transforms: list[BasicTransform]) -> list[BasicTransform]:
    """After what is spatial, and where thick slices are no channels any more, as nnU-Net does it."""
    names = [type(transform).__name__ for transform in transforms]
    last = "Convert2DTo3DTransform" if "Convert2DTo3DTransform" in names else "ShiftSpatialTransform"
    position = names.index(last) + 1
    return [*transforms[:position], RangeIntensityTransform(), *transforms[position:]]


def initial_patch_size(patch_size: Sequence[int]) -> np.ndarray:
    """What the loader has to cut out so that rotation, nnU-Net's scales and translation stay within the image."""
    size, angle = np.array(patch_size), ROTATION[1]
    # Rows: an axis turned towards each of the others. nnU-Net's own function turns in one direction only.
    turned = np.maximum(size, (math.cos(angle) * size[:, None] + math.sin(angle) * size).max(1))
    return (turned / SMALLEST_SCALE).astype(int) + 2 * np.ceil(TRANSLATION * size).astype(int)


class ShiftAugmentation:
    """Mixin to stand before a trainer of nnU-Net's kind: turns, stretches and translates every image, and changes its
    gamma, contrast and brightness."""

    @property
    def uses_shift_augmentation(self) -> bool:
        """For trainers whose plans say which augmentation they have."""
        return True

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:
        nnunets: tuple = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()  # type: ignore[misc]
        if not self.uses_shift_augmentation:
            return nnunets
        _, dummy_2d, _, mirror_axes = nnunets
        patch_size = self.configuration_manager.patch_size  # type: ignore[attr-defined]
        size = initial_patch_size(patch_size)
        if dummy_2d:
            size[0] = patch_size[0]
        return ROTATION, dummy_2d, size, mirror_axes

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """nnU-Net's arguments."""
        nnunets = super().get_training_transforms(*args, **kwargs)  # type: ignore[misc]
        return shift_transforms(nnunets.transforms) if self.uses_shift_augmentation else nnunets
