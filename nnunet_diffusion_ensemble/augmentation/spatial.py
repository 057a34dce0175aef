"""Rotation, unequal scaling and translation of every image; outside the image it is black, or nnU-Net's 0."""

from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.helpers.scalar_type import RandomScalar, sample_scalar
from batchgeneratorsv2.transforms.spatial.spatial import (
    SpatialTransform,
    create_affine_matrix_2d,
    create_affine_matrix_3d,
)
from torch import Tensor
from torch.nn import functional

TRANSLATION = 0.15  # share of the patch
OUTSIDE = -1  # nnU-Net's label of what lies outside the image, or outside its nonzero region


class ShiftSpatialTransform(SpatialTransform):
    """Moves image and segmentation alike, about the middle of the patch.

    nnU-Net's transform never translates. Where the patch covers the image its loader does not either, but in the share
    of patches that it lays around a foreground pixel, and those it moves up and left alone. Chests sit elsewhere in
    another hospital's frame.

    What the segmentation marks as outside is filled before the image is moved, and what comes in from beyond the patch
    is filled alike: per channel with the lowest value inside, which is what black has become by the normalisation, or
    with 0, with which nnU-Net pads in prediction. One of the two is drawn for each image.

    Args:
        patch_size: of the result, in voxels.
        rotation: range of the angle about each axis, in radians.
        scale: largest logarithm of the magnification, either way.
        stretch: what is added to it for each axis by itself, at most, either way.
        translation: along each axis, before magnification, as a share of the patch, at most, either way.
        black_probability: how often outside is black rather than 0.
    """

    def __init__(
        self,
        patch_size: tuple[int, ...],
        rotation: RandomScalar,
        scale: float = 0.3,
        stretch: float = 0.15,
        translation: float = TRANSLATION,
        black_probability: float = 0.5,
    ):
        super().__init__(
            tuple(patch_size),
            patch_center_dist_from_border=0,
            random_crop=False,
            rotation=rotation,
            border_mode_seg="constant",
            padding_value_seg=OUTSIDE,
        )
        self.scale, self.stretch, self.translation = scale, stretch, translation
        self.black_probability = black_probability

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """The sampling grid (*patch, axes), which places lie outside, and what is filled in there."""
        image: Tensor = data_dict["image"]
        dimension = image.ndim - 1
        angles = [sample_scalar(self.rotation, image=image, dim=axis) for axis in range(dimension)]
        together = np.random.uniform(-self.scale, self.scale)
        steps = np.exp(-together - np.random.uniform(-self.stretch, self.stretch, dimension))
        offset = np.random.uniform(-self.translation, self.translation, dimension) * self.patch_size
        grid = self._grid(affine_matrix(angles, steps), offset, image.shape[1:])
        outside, filling = self._filling(image, data_dict.get("segmentation"), data_dict.get("nchannels_img"))
        return {"grid": grid, "outside": outside, "filling": filling}

    def _grid(self, matrix: np.ndarray, offset: np.ndarray, shape: tuple[int, ...]) -> Tensor:
        """For `grid_sample`: the place x of the patch, in voxels from its middle, shows matrix @ x - offset."""
        halves = np.array(shape) / 2
        scaled = matrix * (np.array(self.patch_size) / 2) / halves[:, None]
        theta = np.concatenate([scaled[::-1, ::-1], -(offset / halves)[::-1, None]], axis=1)  # the last axis is x
        size = [1, 1, *self.patch_size]
        return functional.affine_grid(torch.from_numpy(theta).float()[None], size, align_corners=False)[0]

    def _filling(
        self, image: Tensor, segmentation: Tensor | None, num_channels: int | None
    ) -> tuple[Tensor | None, Tensor]:
        """Outside or not, for each slice alike in all channels, and values (channels of the image, 1, ...).

        nnU-Net handles thick slices as further channels: `num_channels` is how many there were before.
        """
        channels = num_channels or image.shape[0]
        slices = image.shape[0] // channels
        outside = None if segmentation is None else (segmentation[:slices] == OUTSIDE).repeat(channels, *self._ones)
        if np.random.uniform() >= self.black_probability:
            return outside, image.new_zeros(len(image), *self._ones)
        inside = image if outside is None or outside.all() else image.masked_fill(outside, torch.inf)
        lowest = inside.reshape(channels, -1).amin(1)
        return outside, lowest.repeat_interleave(slices).reshape(-1, *self._ones)

    @property
    def _ones(self) -> list[int]:
        return [1] * len(self.patch_size)

    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        filling, outside = params["filling"], params["outside"]
        filled = img if outside is None else torch.where(outside, filling, img)
        moved = functional.grid_sample((filled - filling)[None], params["grid"][None], align_corners=False)[0]
        return moved + filling

    def _apply_to_regr_target(self, regression_target: Tensor, **params: Any) -> Tensor:
        raise NotImplementedError("The shift augmentation moves images and segmentations, not regression targets.")


def affine_matrix(angles: list[float], steps: np.ndarray) -> np.ndarray:
    """Rotation of a scaled grid; `steps` are its distances along each axis, so that 0.5 magnifies by two."""
    if len(steps) == 2:
        return create_affine_matrix_2d(angles[-1], steps)
    return create_affine_matrix_3d(angles, steps)
