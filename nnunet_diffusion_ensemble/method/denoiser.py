"""Settings of the denoiser: the diffusion process, what it sees of an image, and the U-Net of another library."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from nnunet_diffusion_ensemble.method.libraries import LIBRARIES, known_library
from nnunet_diffusion_ensemble.method.timesteps import USUAL_LENGTH
from nnunet_diffusion_ensemble.system.mistakes import contradictions
from nnunet_diffusion_ensemble.system.settings import Listed, Settings

PLANS_KEY = "diffusion"
FROM_CHECKPOINT: Final = "checkpoint"  # the schedule of alpha-bar that comes with the weights


def settings_in(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a configuration of the plans holds of the method.

    Raises:
        ValueError: if the plans were not made by our planner.
    """
    if PLANS_KEY not in configuration:
        raise ValueError(
            f"These plans have no {PLANS_KEY!r} settings. Plan with `nnUNetv2_plan_and_preprocess -d ID -pl "
            "DiffusionEnsemblePlanner` (or `nnunet-diffusion plan -d ID`) and train with "
            "`-p nnUNetDiffusionEnsemblePlans`."
        )
    return configuration[PLANS_KEY]


class LibrarySettings(Settings):
    """A U-Net of another library."""

    where = f"{PLANS_KEY}.denoiser.library"

    name: Annotated[str, AfterValidator(known_library)] = Field(
        description="library of a U-Net that was trained elsewhere",
        json_schema_extra=lambda schema: schema.update(enum=list(LIBRARIES)),
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="of the constructor of its U-Net",
    )


class DenoiserSettings(Settings):
    """The diffusion process and what the denoiser sees of an image."""

    where = f"{PLANS_KEY}.denoiser"

    num_diffusion_steps: int = Field(USUAL_LENGTH, ge=2, description="length of the diffusion process")
    schedule: Literal["cosine", "linear", "checkpoint"] = Field(
        "cosine", description="noise schedule; `checkpoint`: it comes with the weights"
    )
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = Field(
        "v_prediction",
        description="what the denoiser predicts: noise, velocity or image",
    )
    input_scale: Listed[float] = Field(
        (1.0,),
        min_length=1,
        description="per channel, or one for all: the denoiser sees `scale * preprocessed + shift`. Z-scores stay, "
        "[0, 1] becomes [-1, 1]",
    )
    input_shift: Listed[float] = Field((0.0,), min_length=1, description="per channel, or one for all")
    library: LibrarySettings | None = Field(
        None, description="the U-Net of another library; `null` is ours, built from `architecture`"
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        contradictions(self._contradictions())
        return self

    def _contradictions(self) -> Iterator[tuple[str, str, Any]]:
        scale, shift = self.input_scale, self.input_shift
        if 0 in scale:
            yield "input_scale", "without 0, which would leave nothing of the image", scale
        if len({len(scale), len(shift)} - {1}) > 1:
            yield "input_shift", f"as many numbers as input_scale has ({len(scale)}), or one", shift
        if self.schedule == FROM_CHECKPOINT and self.library is None:
            yield "schedule", "cosine or linear for a denoiser that is not of another library", self.schedule

    @classmethod
    def from_plans(cls, configuration: Mapping[str, Any]) -> Self:
        """Reads only these settings, so that a denoiser stays readable when others of the method change.

        Raises:
            ValueError: if the plans were not made by our planner, or settings of the denoiser are not allowed.
        """
        return cls.read(settings_in(configuration).get("denoiser", {}))
