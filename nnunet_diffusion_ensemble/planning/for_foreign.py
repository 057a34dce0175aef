"""Plans for a labelled data set that is to use a denoiser of another library."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from nnunet_diffusion_ensemble.denoiser.foreign.denoiser import ForeignDenoiser
from nnunet_diffusion_ensemble.denoiser.foreign.scaling import channel_scaling
from nnunet_diffusion_ensemble.method import DenoiserSettings
from nnunet_diffusion_ensemble.planning.single import SingleConfigurationPlanner


class ForeignDenoiserPlanner(SingleConfigurationPlanner):
    """Plans one configuration by nnU-Net's rules, with patches that the denoiser's U-Net can work on.

    The patch size is that of the images the denoiser was trained on, where that is known and memory allows. Saving
    the plans writes the denoiser beside them as a checkpoint, `PLANS_denoiser.pth`, with its input scaling for the
    channels of this data set.
    """

    fine_tunes_in = ()  # their denoisers may be hundreds of times as large as ours

    def __init__(self, *args: Any, foreign: ForeignDenoiser, **kwargs: Any) -> None:
        super().__init__(*args, dimension=foreign.dimension, **kwargs)
        self.foreign = foreign
        has_scale = foreign.native_size is None or self.images_have_mm
        self.spacing = self.own_spacing if has_scale else self.spacing_for(cast(Sequence[int], foreign.native_size))

    def determine_fullres_target_spacing(self) -> np.ndarray:
        return self.spacing

    def is_preprocessed_as_by_nnunet(self) -> bool:
        return super().is_preprocessed_as_by_nnunet() and np.allclose(self.spacing, self.own_spacing)

    def shape_to_cover(self, median_shape: Sequence[int] | np.ndarray) -> Sequence[int] | np.ndarray:
        if len(median_shape) != self.foreign.dimension:
            return median_shape
        size = self.foreign.native_size or median_shape
        return [-(-int(n) // d) * d for n, d in zip(size, self.foreign.divisors, strict=True)]

    def adapt_plan(self, plan: dict, approximate_n_voxels_dataset: float) -> None:
        if len(plan["patch_size"]) != self.foreign.dimension:
            return  # of a configuration that `save_plans` leaves out
        strides = np.prod(plan["architecture"]["arch_kwargs"]["strides"], axis=0)
        divisors = np.lcm(strides, self.foreign.divisors)  # stock trainers use the same plans
        plan["patch_size"] = (-(-np.array(plan["patch_size"]) // divisors) * divisors).tolist()

    def denoiser_settings(self, normalization_schemes: list[str]) -> DenoiserSettings:
        return self._adapted(normalization_schemes).settings

    def _adapted(self, normalization_schemes: Sequence[str]) -> ForeignDenoiser:
        """The denoiser for images that are normalised so."""
        intensities = self.dataset_fingerprint["foreground_intensity_properties_per_channel"]
        scalings: Sequence[tuple[float, float]] = [
            channel_scaling(scheme, intensities[str(i)], self.foreign.image_range)
            for i, scheme in enumerate(normalization_schemes)
        ]
        return self.foreign.for_images(*zip(*scalings, strict=True))

    def default_options(self) -> dict[str, Any]:
        return {"pretrained_checkpoint": str(self.denoiser_beside_plans)}

    def save_plans(self, plans: dict) -> None:
        configuration = {"configurations": {self.name: plans["configurations"][self.name]}}
        adapted = self._adapted(plans["configurations"][self.name]["normalization_schemes"])
        adapted.save_checkpoint(self.denoiser_beside_plans, {**plans, **configuration}, self.name)
        super().save_plans(plans)
