"""Planner of the diffusion ensemble: nnU-Net's residual-encoder rules, and the method written into the plans."""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    ResEncUNetPlanner,
)
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_diffusion_ensemble.data.fingerprint import MARK as FINGERPRINT_MARK
from nnunet_diffusion_ensemble.data.verify import verify_dataset
from nnunet_diffusion_ensemble.method import PLANS_KEY, DenoiserSettings, DiffusionMethod, on_the_way
from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import find_unlabelled_cases
from nnunet_diffusion_ensemble.planning.options import PlanningOptions
from nnunet_diffusion_ensemble.planning.whole_images import choose_size, label_maps
from nnunet_diffusion_ensemble.system.told import tell_in_nnunets_commands

LARGEST_PRETRAINING_BATCH = 32
SMALLEST_PATCH = 4  # nnU-Net's smallest edge of a feature map
# What is planned where the denoiser is fine-tuned; docs/explanation/choices.md says why.
FINE_TUNING = {
    "training.fine_tune_denoiser": True,
    "training.denoiser_learning_rate": 2e-4,
    "ensemble.timesteps": (1, 10, 25, 50),
}
VALIDATION_IMAGES = {2: 64, 3: 16}  # by dimension; they are kept in memory

tell_in_nnunets_commands()


class DiffusionEnsemblePlanner(ResEncUNetPlanner):
    """Topology, patch and batch size by the rules of nnU-Net's residual-encoder planner.

    `architecture` in the plans stays an ordinary `ResidualEncoderUNet`, so that stock trainers work with the same
    plans; the method stands beside it under `diffusion`.

    Raises:
        ValueError: at construction, for a memory target or spacing that cannot be planned for, or misnamed images.
    """

    needs_labels = True
    fine_tunes_in: tuple[int, ...] = (2,)  # dimensions; what it brings to 3D was not measured

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float = 8,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str = "nnUNetDiffusionEnsemblePlans",
        overwrite_target_spacing: list[float] | tuple[float, ...] | None = None,
        suppress_transpose: bool = False,
        options: PlanningOptions | None = None,
        verify: bool = True,
    ):
        # nnU-Net's own commands come with these unchecked: a memory target of -3 would never end.
        PlanningOptions.read(
            {"gpu_memory_target_gb": gpu_memory_target_in_gb, "target_spacing": overwrite_target_spacing}
        )
        super().__init__(
            dataset_name_or_id,
            gpu_memory_target_in_gb,
            preprocessor_name,
            plans_name,
            overwrite_target_spacing,
            suppress_transpose,
        )
        self.options = options or PlanningOptions()
        if self.options.base_features is not None:
            self.UNet_base_num_features = self.options.base_features
        if self.options.blocks_per_stage is not None:
            self.UNet_blocks_per_stage_encoder = (self.options.blocks_per_stage,) * 13
        if self.needs_labels and self.dataset_fingerprint.get(FINGERPRINT_MARK):
            raise ValueError(
                "The fingerprint of this data set was made from unlabelled images, when it had no labels. Extract it "
                "anew: nnUNetv2_plan_and_preprocess --clean, or nnunet-diffusion plan --clean."
            )
        if verify and self.needs_labels:  # within nnUNetv2_plan_and_preprocess this is the one place where we may look
            preprocessed = Path(nnUNet_preprocessed) / self.dataset_name
            verify_dataset(Path(self.raw_dataset_folder), preprocessed, self.dataset_json, default_num_processes)
        self.num_unlabelled = len(find_unlabelled_cases(Path(self.raw_dataset_folder), self.dataset_json))

    @staticmethod
    def static_estimate_VRAM_usage(patch_size: Sequence[int], *args: Any) -> int:
        """nnU-Net's estimate, by which it shrinks patches until they fit: with too low a target it would never end.

        Raises:
            ValueError: the patch is smaller than nnU-Net's smallest feature map.
        """
        if max(patch_size) < SMALLEST_PATCH:
            raise ValueError(
                f"The GPU memory target is too low for patches of {SMALLEST_PATCH} pixels along an axis. Raise it "
                "(nnU-Net's default is 8 GB)."
            )
        with torch.device("meta"):  # the estimate looks at sizes alone, and drawing weights takes most of the time
            return ResEncUNetPlanner.static_estimate_VRAM_usage(patch_size, *args)

    def determine_fullres_target_spacing(self) -> np.ndarray:
        """nnU-Net's, or another one in the plane at which 2D images have the planned size; nnU-Net resamples to it, and
        back."""
        spacing = np.array(super().determine_fullres_target_spacing(), dtype=float)
        in_plane = np.arange(3) != int(np.argmax(spacing))
        if self.planned_image_size is not None:
            spacing[in_plane] *= self.median_shape(spacing)[in_plane].max() / self.planned_image_size
        return spacing

    @cached_property
    def planned_image_size(self) -> int | None:
        """Of the longer side of the median image, where 2D images are to be resampled."""
        spacing = np.array(super().determine_fullres_target_spacing(), dtype=float)
        across = int(np.argmax(spacing))
        num_slices = self.median_shape(spacing)[across]
        if self.options.image_size is not None:
            if num_slices != 1:
                raise ValueError(
                    f"image_size is for 2D images, but those of {self.dataset_name} have {num_slices:.0f} slices. "
                    "Use target_spacing."
                )
            return self.options.image_size
        if num_slices != 1 or self.overwrite_target_spacing is not None or not self.options.whole_images:
            return None
        return self.size_of_whole_images(np.delete(self.median_shape(spacing), across), np.delete(spacing, across))

    def size_of_whole_images(self, shape: np.ndarray, spacing: np.ndarray) -> int | None:
        """The planned size of large 2D images, or None for their own; for derived planners.

        Args:
            shape: rows and columns of the median image.
            spacing: of the two, at the images' own resolution.
        """
        raw, reader = Path(self.raw_dataset_folder), self.determine_reader_writer()
        maps = partial(label_maps, raw, self.dataset_json, reader()) if self.needs_labels else None
        return choose_size(shape, spacing, self._patch_size, self.dataset_json, maps)

    def _patch_size(self, shape: np.ndarray, spacing: np.ndarray) -> list[int]:
        """Of nnU-Net's rules for 2D images, (rows, columns)."""
        plan = ResEncUNetPlanner.get_plans_for_configuration(self, spacing, self.shape_to_cover(shape), "", 1.0, {})
        return list(plan["patch_size"])

    def median_shape(self, spacing: np.ndarray) -> np.ndarray:
        """Voxels of the median image at a spacing, (3,), in the order of the images' own axes."""
        found = zip(self.dataset_fingerprint["shapes_after_crop"], self.dataset_fingerprint["spacings"], strict=True)
        return np.median([compute_new_shape(shape, original, spacing) for shape, original in found], axis=0)

    def generate_data_identifier(self, configuration_name: str) -> str:
        """nnU-Net's own preprocessed data is shared if it is the same."""
        if self.is_preprocessed_as_by_nnunet():
            return super().generate_data_identifier(configuration_name)
        return f"{self.plans_identifier}_{configuration_name}"

    def is_preprocessed_as_by_nnunet(self) -> bool:
        return self.overwrite_target_spacing is None and self.planned_image_size is None

    def get_plans_for_configuration(
        self,
        spacing: np.ndarray | tuple[float, ...] | list[float],
        median_shape: np.ndarray | tuple[int, ...],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict,
    ) -> dict:
        shape = self.shape_to_cover(median_shape)
        plan = super().get_plans_for_configuration(
            spacing, shape, data_identifier, approximate_n_voxels_dataset, _cache
        )
        plan["median_image_size_in_voxels"] = median_shape  # of the images, whatever patches were to cover
        self.adapt_plan(plan, approximate_n_voxels_dataset)
        method = self._method(plan, approximate_n_voxels_dataset)
        if self.options.batch_size is not None:
            plan["batch_size"] = self.options.batch_size
        elif method.training.fine_tune_denoiser:  # of the head, too, feature maps are kept before and after each norm
            most = self.images_in_memory(plan, further_features=2 * sum(method.ensemble.head.hidden_features))
            plan["batch_size"] = min(plan["batch_size"], most)
        plan[PLANS_KEY] = method.to_plans()
        return plan

    def shape_to_cover(self, median_shape: Sequence[int] | np.ndarray) -> Sequence[int] | np.ndarray:
        """The size of an image, along each axis, that patches grow to where memory allows; for derived planners."""
        return median_shape

    def adapt_plan(self, plan: dict, approximate_n_voxels_dataset: float) -> None:
        """Changes nnU-Net's plan of a configuration before the method is added; for planners derived from this one."""

    def default_options(self) -> dict[str, Any]:
        """Settings of the method, by dotted path, that hold unless the user says otherwise; for derived planners."""
        return {}

    def _method(self, plan: dict, approximate_n_voxels_dataset: float) -> DiffusionMethod:
        images_per_pass = self.images_in_memory(plan)
        labelled_share = self.dataset_json["numTraining"] / (self.dataset_json["numTraining"] + self.num_unlabelled)
        covering_batch = approximate_n_voxels_dataset / labelled_share * self.max_dataset_covered
        covering_batch /= np.prod(plan["patch_size"], dtype=np.float64)
        batch_size = min(images_per_pass, round(covering_batch), LARGEST_PRETRAINING_BATCH)
        labels = LabelManager(self.dataset_json["labels"], self.dataset_json.get("regions_class_order"))
        planned = {
            "denoiser": self.denoiser_settings(plan["normalization_schemes"]).to_json(),
            "pretraining.batch_size": max(batch_size, self.UNet_min_batch_size),
            "pretraining.max_validation_images": VALIDATION_IMAGES[len(plan["spacing"])],
            "ensemble.averaging": "sigmoid" if labels.has_regions else "softmax",
            "ensemble.images_per_pass": images_per_pass,
            "training.augmentation": "shift",  # plans that do not say it are older, and were made for nnU-Net's
            **self.default_options(),
        }
        method = DiffusionMethod().with_options({**planned, **self.options.method})
        if not self.fine_tunes(plan):
            return method
        fine_tuning = on_the_way(FINE_TUNING, method.denoiser.num_diffusion_steps)
        return method.with_options({**fine_tuning, **self.options.method})

    def fine_tunes(self, plan: dict) -> bool:
        """Whether training goes on to fine-tune the denoiser, unless the user has said it."""
        default = len(plan["spacing"]) in self.fine_tunes_in
        return bool(self.options.method.get("training.fine_tune_denoiser", default))

    def images_in_memory(self, plan: dict, further_features: int = 0) -> int:
        """How many patches nnU-Net's memory rule allows in one pass, whatever the size of the data set.

        Args:
            plan: of a configuration.
            further_features: feature maps of the size of the patch that are kept beside those of the U-Net.
        """
        architecture = plan["architecture"]
        estimate = self.static_estimate_VRAM_usage(
            plan["patch_size"],
            len(plan["normalization_schemes"]),
            len(self.dataset_json["labels"]),
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
        )
        estimate += further_features * int(np.prod(plan["patch_size"]))
        is_2d = len(plan["spacing"]) == 2
        reference = self.UNet_reference_val_2d if is_2d else self.UNet_reference_val_3d
        reference *= self.UNet_vram_target_GB / self.UNet_reference_val_corresp_GB
        reference_batch = self.UNet_reference_val_corresp_bs_2d if is_2d else self.UNet_reference_val_corresp_bs_3d
        return max(round(reference / estimate * reference_batch), self.UNet_min_batch_size)

    def denoiser_settings(self, normalization_schemes: list[str]) -> DenoiserSettings:
        """Default process, with a scale and a shift of each channel that bring preprocessed images to about [-1, 1] or
        unit variance.

        Diffusion supposes data of unit variance around zero: z-scores have it already.
        """
        channels = [self._channel_scaling(i, scheme) for i, scheme in enumerate(normalization_schemes)]
        scales, shifts = zip(*channels, strict=True)
        return DenoiserSettings(input_scale=scales, input_shift=shifts)

    def _channel_scaling(self, channel: int, scheme: str) -> tuple[float, float]:
        if scheme in ("RescaleTo01Normalization", "RGBTo01Normalization"):
            return 2.0, -1.0
        if scheme == "NoNormalization":
            intensities = self.dataset_fingerprint["foreground_intensity_properties_per_channel"][str(channel)]
            std = max(float(intensities["std"]), 1e-8)
            return 1 / std, -float(intensities["mean"]) / std
        return 1.0, 0.0
