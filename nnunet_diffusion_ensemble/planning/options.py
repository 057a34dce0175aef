"""What a user may change of the planning without editing the plans."""

from typing import Annotated, Any

from pydantic import Field

from nnunet_diffusion_ensemble.method import DenoiserSettings, DiffusionMethod
from nnunet_diffusion_ensemble.system.settings import Count, Positive, Settings


class PlanningOptions(Settings):
    """Options of `nnunet-diffusion plan`; None is nnU-Net's rule."""

    base_features: Count | None = Field(
        None, description="features of the first stage, doubled at each further one (nnU-Net: 32)"
    )
    blocks_per_stage: Count | None = Field(
        None, description="residual blocks in each stage of the encoder (nnU-Net: 1 3 4 6 6 ...)"
    )
    batch_size: Count | None = Field(None, description="images in an iteration of the segmentation training")
    gpu_memory_target_gb: Positive | None = Field(None, description="in GB, as nnU-Net's -gpu_memory_target (8)")
    target_spacing: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)] | None = Field(
        None, description="of 3d_fullres in mm, as nnU-Net's -overwrite_target_spacing"
    )
    image_size: Count | None = Field(
        None,
        description="2D images are resampled so that the longer side of the median image has so many pixels; masks are "
        "predicted at the images' own size (own size; with a denoiser of whole images, that of its images)",
    )
    whole_images: bool = Field(
        True,
        description="large 2D images, of which nnU-Net's patches show a part, are resampled to the smallest size at "
        "which their labels keep a Dice of 0.99, if a patch shows all of it",
    )
    method: dict[str, Any] = Field(
        default_factory=dict,
        description="settings of the method by dotted path, e.g. `{'ensemble.timesteps': (1, 50)}`",
    )

    def check_method(self, denoiser: DenoiserSettings, dimension: int) -> None:
        """Checks the settings of the method before there is a plan to write them into.

        Args:
            denoiser: the process that they are for, unless they change it.
            dimension: the smallest of the configurations that are planned.

        Raises:
            ValueError: for settings that are unknown, not allowed, or contradict each other.
        """
        DiffusionMethod().with_options({"denoiser": denoiser.to_json(), **self.method}, dimension)
