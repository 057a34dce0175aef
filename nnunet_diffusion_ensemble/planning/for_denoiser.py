"""Plans for a labelled data set that is to use a denoiser pretrained elsewhere."""

import logging
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
from nnunetv2.configuration import ANISO_THRESHOLD

from nnunet_diffusion_ensemble.denoiser.export import export_denoiser
from nnunet_diffusion_ensemble.denoiser.pretrained import PretrainedDenoiser
from nnunet_diffusion_ensemble.method import PLANS_KEY, DenoiserSettings
from nnunet_diffusion_ensemble.nnunet.raw_cases import number_of_channels
from nnunet_diffusion_ensemble.planning.options import PlanningOptions
from nnunet_diffusion_ensemble.planning.single import WITHOUT_MM, SingleConfigurationPlanner

# Normalisation of each image by itself suits any image; the others suppose a scale of their own, as Hounsfield's is.
BY_IMAGE = ("ZScoreNormalization", "RescaleTo01Normalization")
NOT_YOURS_TO_CHOOSE = ("denoiser.", "pretrained_checkpoint")
DECIDED_BY_ANY = ("base_features", "blocks_per_stage")
DECIDED = (*DECIDED_BY_ANY, "target_spacing")

NEEDED_PLANS = (
    *("image_reader_writer", "transpose_forward", "transpose_backward"),
    "foreground_intensity_properties_per_channel",
)
NEEDED_CONFIGURATION = ("spacing", "median_image_size_in_voxels", "normalization_schemes", "use_mask_for_norm")

Value = TypeVar("Value")
logger = logging.getLogger(__name__)


def refuse_contradictions(options: PlanningOptions, decided: Sequence[str] = DECIDED) -> None:
    """Raises ValueError for options that choose what a given denoiser has decided."""
    chosen = [name for name in decided if getattr(options, name) is not None]
    chosen += [name for name in options.method if name.startswith(NOT_YOURS_TO_CHOOSE)]
    if chosen:
        raise ValueError(
            f"With --denoiser, these come from the denoiser and cannot be chosen: {', '.join(chosen)}. Leave them out."
        )


def refuse_incomplete(denoiser: PretrainedDenoiser) -> None:
    """Raises ValueError if its plans lack what tells how its images were preprocessed."""
    missing = [key for key in NEEDED_PLANS if key not in denoiser.plans]
    missing += [key for key in NEEDED_CONFIGURATION if key not in denoiser.configuration]
    if missing:
        raise ValueError(
            f"The plans in {denoiser.file} lack {', '.join(missing)}, so nobody knows how its images were "
            "preprocessed. Name a checkpoint that nnU-Net wrote in training, or an export of one."
        )


def for_channels(values: Sequence[Value], channels: int, what: str) -> list[Value]:
    """Values of the denoiser's channels (or one for all) as those of `channels` channels.

    Raises:
        ValueError: the number of channels differs and the values are not all the same.
    """
    if len(values) == channels:
        return list(values)
    if any(value != values[0] for value in values):
        raise ValueError(
            f"The denoiser has {len(values)} channels that differ in {what} ({', '.join(map(str, values))}), so it "
            f"cannot serve a data set with {channels} channel(s)."
        )
    return [values[0]] * channels


class DenoiserPlanner(SingleConfigurationPlanner):
    """Plans one configuration so that the denoiser sees images as it did in its training.

    From the denoiser: topology, patch size, spacing in mm, order of axes, normalisation (of CT with its numbers), input
    scaling, diffusion process, mirroring. From the data set: labels, channels, and the batch size by nnU-Net's rule.
    With `copies`, saving the plans writes the denoiser beside them, without any code that was in its file.

    Raises:
        ValueError: at construction or in planning, if the data set cannot be shown to the denoiser so.
    """

    def __init__(self, *args: Any, denoiser: PretrainedDenoiser, copies: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, dimension=len(denoiser.patch_size), **kwargs)
        self.denoiser, self.copies = denoiser, copies
        self.both_in_mm = self._both_in_mm()
        self.spacing = self._spacing()
        self.own_normalisation = super().determine_normalization_scheme_and_whether_mask_is_used_for_norm()
        self.channels = number_of_channels(self.dataset_json)
        self._check_normalisation()
        self._take_over_intensities()

    def _both_in_mm(self) -> bool:
        """Whether the sizes of the denoiser's pixels and of the data set's can be compared."""
        theirs, ours = self.denoiser.plans["image_reader_writer"] not in WITHOUT_MM, self.images_have_mm
        if theirs != ours:
            logger.warning(
                "Only pixels of %s have a size in mm, so the spacing is nnU-Net's choice for this data set.",
                "the denoiser's images" if theirs else self.dataset_name,
            )
        return theirs and ours

    # ---- what the denoiser decides

    def _spacing(self) -> np.ndarray:
        if not self.both_in_mm:
            seen_size = self.denoiser.configuration["median_image_size_in_voxels"]
            return self.spacing_for(seen_size, bool(np.all(np.less_equal(seen_size, self.denoiser.patch_size))))
        if self.options.image_size is not None:
            raise ValueError("The denoiser's spacing in mm decides the size of images. Leave --image-size out.")
        spacing = self.own_spacing.copy()
        axes = self.denoiser.plans["transpose_forward"][-len(self.denoiser.patch_size) :]
        spacing[axes] = self.denoiser.configuration["spacing"]
        return spacing

    def determine_fullres_target_spacing(self) -> np.ndarray:
        """In the order of the images' own axes: the denoiser's in mm, where there are mm; else as its images were
        whole. Between slices of 2D ones the data set's."""
        return self.spacing

    def determine_transpose(self) -> tuple[list[int], list[int]]:
        if not self.both_in_mm:
            return super().determine_transpose()
        forward = list(self.denoiser.plans["transpose_forward"])
        thickest = int(np.argmax(self.own_spacing))
        slices_apart = self.own_spacing[thickest] > ANISO_THRESHOLD * self.own_spacing[forward[0]]
        if self.name == "2d" and thickest != forward[0] and slices_apart:
            raise ValueError(
                f"The denoiser's slices are those along axis {forward[0]} of an image (slices, rows, columns), but the "
                f"images of this data set have thick slices along axis {thickest} (spacing "
                f"{self.own_spacing.tolist()} mm). Reorient the images, or pretrain a denoiser on such slices."
            )
        return forward, list(self.denoiser.plans["transpose_backward"])

    def determine_normalization_scheme_and_whether_mask_is_used_for_norm(self) -> tuple[list[str], list[bool]]:
        configuration = self.denoiser.configuration
        return (
            for_channels(configuration["normalization_schemes"], self.channels, "normalisation"),
            for_channels(configuration["use_mask_for_norm"], self.channels, "use_mask_for_norm"),
        )

    def denoiser_settings(self, normalization_schemes: list[str]) -> DenoiserSettings:
        settings = self.denoiser.settings
        return settings.changed(
            input_scale=tuple(for_channels(settings.input_scale, self.channels, "input_scale")),
            input_shift=tuple(for_channels(settings.input_shift, self.channels, "input_shift")),
        )

    def adapt_plan(self, plan: dict, approximate_n_voxels_dataset: float) -> None:
        patch_size = self.denoiser.patch_size
        if len(plan["patch_size"]) != len(patch_size):
            return  # of a configuration that `save_plans` leaves out
        plan["patch_size"] = list(patch_size)
        plan["architecture"] = deepcopy(dict(self.denoiser.architecture))
        covering_batch = round(approximate_n_voxels_dataset * self.max_dataset_covered / np.prod(patch_size))
        plan["batch_size"] = max(min(self.images_in_memory(plan), covering_batch), self.UNet_min_batch_size)

    def default_options(self) -> dict[str, Any]:
        return {
            "mirror_axes": self.denoiser.configuration[PLANS_KEY].get("mirror_axes"),
            "pretrained_checkpoint": str(self.denoiser_beside_plans) if self.copies else self.source,
        }

    # ---- preprocessed data and plans

    def save_plans(self, plans: dict) -> None:
        if self.copies:
            export_denoiser(self.denoiser, self.denoiser_beside_plans)
        super().save_plans(plans)

    def is_preprocessed_as_by_nnunet(self) -> bool:
        normalisation = self.determine_normalization_scheme_and_whether_mask_is_used_for_norm()
        return (
            super().is_preprocessed_as_by_nnunet()
            and np.allclose(self.spacing, self.own_spacing)
            and normalisation == self.own_normalisation
            and "CTNormalization" not in normalisation[0]
            and self.determine_transpose()[0] == [int(axis) for axis in self.own_transpose()]
        )

    # ---- checks

    def _check_normalisation(self) -> None:
        wanted = self.determine_normalization_scheme_and_whether_mask_is_used_for_norm()[0]
        for channel, (own, denoisers) in enumerate(zip(self.own_normalisation[0], wanted, strict=True)):
            if own == denoisers:
                continue
            if denoisers not in BY_IMAGE:
                raise ValueError(
                    f"The denoiser saw images after {denoisers}, which supposes intensities of a fixed scale; channel "
                    f"{channel} of {self.dataset_name} has {own} by its name in dataset.json. If its intensities are "
                    "of that kind, give it the name that says so (e.g. CT); otherwise use another denoiser."
                )
            logger.warning(
                "Channel %d is normalised as the denoiser's images were: %s, not %s.", channel, denoisers, own
            )

    def _take_over_intensities(self) -> None:
        """CT normalisation with the numbers that the denoiser's images were normalised by."""
        properties = self.denoiser.plans["foreground_intensity_properties_per_channel"]
        schemes = self.determine_normalization_scheme_and_whether_mask_is_used_for_norm()[0]
        if "CTNormalization" in schemes:
            ordered = [properties[str(i)] for i in range(len(properties))]
            ours = self.dataset_fingerprint["foreground_intensity_properties_per_channel"]
            for i, values in enumerate(for_channels(ordered, self.channels, "intensities")):
                if schemes[i] == "CTNormalization":
                    ours[str(i)] = values
