"""Plans with one configuration, the one whose dimension a given denoiser has."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from nnunet_diffusion_ensemble.planning.planner import DiffusionEnsemblePlanner
from nnunet_diffusion_ensemble.planning.whole_images import dice_that_is_kept, in_pixels, label_maps
from nnunet_diffusion_ensemble.system.atomic import write_text

CONFIGURATION = {2: "2d", 3: "3d_fullres"}  # by dimension
WITHOUT_MM = ("NaturalImage2DIO",)  # readers that know no size of a pixel
LARGE_IMAGE = 0.25  # a patch covers less of it
OTHER_SCALE = 1.5  # times larger or smaller along an axis

logger = logging.getLogger(__name__)


class SingleConfigurationPlanner(DiffusionEnsemblePlanner):
    """Plans only the configuration of a denoiser's dimension.

    Raises:
        ValueError: at construction, for a 3D denoiser and 2D images.
    """

    def __init__(self, *args: Any, dimension: int, source: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.source, self.name = source, CONFIGURATION[dimension]
        self.own_spacing = super().determine_fullres_target_spacing()
        self.lowres_creation_threshold = 0  # only one configuration is kept
        num_slices = np.median(self.dataset_fingerprint["shapes_after_crop"], axis=0)[self.own_transpose()[0]]
        if self.name == "3d_fullres" and num_slices == 1:
            raise ValueError(
                f"{self.source} is a 3D denoiser, but the images of {self.dataset_name} are 2D. Use a 2D denoiser."
            )

    def size_of_whole_images(self, shape: np.ndarray, spacing: np.ndarray) -> int | None:
        return None  # the denoiser decides

    @property
    def images_have_mm(self) -> bool:
        return self.determine_reader_writer().__name__ not in WITHOUT_MM

    def own_transpose(self) -> list[int]:
        """nnU-Net's order of axes: the one with the largest spacing first."""
        first = int(np.argmax(self.own_spacing))
        return [first, *(axis for axis in range(3) if axis != first)]

    def spacing_for(self, seen_size: Sequence[float], saw_whole: bool = True) -> np.ndarray:
        """The spacing at which images without a size in mm show their objects as large as the denoiser's did.

        On the supposition that whole images show the same field of view, it is the one at which the median image is as
        large as theirs, if it is much larger or smaller; `image_size` of the options says otherwise.

        Args:
            seen_size: of the denoiser's images, along its axes.
            saw_whole: whether its patches were whole images. Of others nothing is supposed.
        """
        spacing = self.own_spacing.copy()
        axes = self.own_transpose()[-len(seen_size) :]
        ours = self.median_shape(spacing)[axes]
        ratio = ours / seen_size
        if self.options.image_size is not None or np.abs(np.log(ratio)).max() <= np.log(OTHER_SCALE):
            return spacing
        theirs = f"images of {in_pixels(seen_size)} pixels, those of {self.dataset_name} have {in_pixels(ours)}"
        if saw_whole:
            spacing[axes] *= ratio
            logger.warning(
                f"The denoiser was trained on {theirs}: they are resampled to its size, as both should show the same "
                f"field of view{self._what_labels_keep(ratio)}. Masks are predicted at your images' size. For another "
                "size: --image-size."
            )
        else:
            logger.warning(
                f"The denoiser was trained on patches of {theirs}: what they show may be of another size to it. If "
                f"both show the same field of view: --image-size {max(seen_size):.0f}."
            )
        return spacing

    def _what_labels_keep(self, factors: np.ndarray) -> str:
        """Of 2D images at a resolution that many times coarser, for the user."""
        num_slices = self.median_shape(self.own_spacing)[self.own_transpose()[0]]
        if num_slices > 1 or factors.max() <= 1:
            return ""
        maps = label_maps(Path(self.raw_dataset_folder), self.dataset_json, self.determine_reader_writer()())
        return f"; your labels keep a Dice of {dice_that_is_kept(maps, self.dataset_json, factors):.3f}" if maps else ""

    def save_plans(self, plans: dict) -> None:
        """Writes this configuration and no other, nor one of older plans of this name."""
        planned = plans["configurations"][self.name]
        if self.name == "3d_fullres":  # nnU-Net's rule: where it would plan 3d_lowres as well
            covered = np.prod(planned["patch_size"]) / np.prod(planned["median_image_size_in_voxels"])
            planned["batch_dice"] = bool(covered < LARGE_IMAGE)
        plans["configurations"] = {self.name: planned}
        recursive_fix_for_json_export(plans)
        write_text(self.preprocessed_folder / f"{self.plans_identifier}.json", json.dumps(plans, indent=4))

    @property
    def preprocessed_folder(self) -> Path:
        return Path(nnUNet_preprocessed) / self.dataset_name

    @property
    def denoiser_beside_plans(self) -> Path:
        """Where a copy of the denoiser lies if training cannot read the one that was given."""
        return self.preprocessed_folder.absolute() / f"{self.plans_identifier}_denoiser.pth"
