"""All settings of the method for one configuration of the plans, and how they fit together."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationInfo, model_validator
from typing_extensions import Self

from nnunet_diffusion_ensemble.method.denoiser import PLANS_KEY, DenoiserSettings, settings_in
from nnunet_diffusion_ensemble.method.ensemble import CONCATENATED_FEATURES, EnsembleSettings, TrainingSettings
from nnunet_diffusion_ensemble.method.pretraining import ContrastiveSettings, PretrainingSettings
from nnunet_diffusion_ensemble.method.timesteps import with_timesteps_on_the_way
from nnunet_diffusion_ensemble.system.mistakes import contradictions
from nnunet_diffusion_ensemble.system.settings import Listed, Once, Settings, Text

DIMENSION = "dimension"  # in the context of validation


class DiffusionMethod(Settings):
    """Everything of the method for one configuration of the plans."""

    where = PLANS_KEY

    denoiser: DenoiserSettings = Field(default_factory=DenoiserSettings, description="the diffusion process")
    pretraining: PretrainingSettings = Field(
        default_factory=PretrainingSettings, description="training of the denoiser"
    )
    ensemble: EnsembleSettings = Field(default_factory=EnsembleSettings, description="how the denoiser is read")
    training: TrainingSettings = Field(default_factory=TrainingSettings, description="training of the head")
    mirror_axes: Annotated[Listed[Annotated[int, Field(ge=0, le=2)]], Once] | None = Field(
        None, description="axes mirrored in augmentation and prediction; `null` is nnU-Net's choice (all), `[]` none"
    )
    pretrained_checkpoint: Text | None = Field(
        None,
        description="denoiser to start from: a checkpoint, or the name of a shipped one; adapted if it has another "
        "number of channels. `null` looks for the pretraining of the same fold, then of fold `all`",
    )
    contrastive: ContrastiveSettings = Field(
        default_factory=ContrastiveSettings, description="contrastive pretraining, for comparison"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_on_the_way(cls, values: Any) -> Any:
        return with_timesteps_on_the_way(values)

    @model_validator(mode="after")
    def _check_together(self, info: ValidationInfo) -> Self:
        contradictions([*self._beyond_the_process(), *self._timesteps_of_an_image(), *self._axes(info.context or {})])
        return self

    def _beyond_the_process(self) -> Iterator[tuple[str, str, Any]]:
        steps, ensemble, pretraining = self.denoiser.num_diffusion_steps, self.ensemble, self.pretraining
        below = f"below denoiser.num_diffusion_steps, which is {steps}"
        if max(ensemble.timesteps) >= steps:
            yield "ensemble.timesteps", below, ensemble.timesteps
        if ensemble.single_timestep >= steps:
            yield "ensemble.single_timestep", below, ensemble.single_timestep
        if max(pretraining.timestep_bands, default=0) >= steps:
            yield "pretraining.timestep_bands", below, pretraining.timestep_bands
        if pretraining.num_sampling_steps > steps:
            most = f"at most denoiser.num_diffusion_steps, which is {steps}"
            yield "pretraining.num_sampling_steps", most, pretraining.num_sampling_steps

    def _timesteps_of_an_image(self) -> Iterator[tuple[str, str, Any]]:
        number, timesteps = self.training.timesteps_per_image, self.ensemble.timesteps
        key = "training.timesteps_per_image"
        if number is None:
            return
        if self.ensemble.fusion == CONCATENATED_FEATURES:
            yield key, f"null where ensemble.fusion is {CONCATENATED_FEATURES}, which needs all timesteps", number
        elif number > len(timesteps):
            yield key, f"at most {len(timesteps)}, the number of ensemble.timesteps, or null for all of them", number

    def _axes(self, context: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
        dimension = context.get(DIMENSION)
        if dimension is not None and max(self.mirror_axes or (), default=0) >= dimension:
            yield "mirror_axes", f"below {dimension}, the number of axes of the configuration", self.mirror_axes

    @classmethod
    def from_plans(cls, configuration: Mapping[str, Any]) -> Self:
        """Reads the settings from one configuration of the plans.

        Raises:
            ValueError: if the plans were not made by our planner, or settings are not allowed or contradict each other.
        """
        if not isinstance(configuration, Mapping):
            raise ValueError(f"A configuration of the plans must be an object, {{...}}; got {configuration!r}.")
        patch_size = configuration.get("patch_size", ())
        if not isinstance(patch_size, list | tuple):
            raise ValueError(f"patch_size must be a list of whole numbers, one for each axis; got {patch_size!r}.")
        dimension = len(patch_size) or None
        return cls.read(settings_in(configuration), dimension=dimension)

    def to_plans(self) -> dict[str, Any]:
        """The settings as they stand in the plans' JSON."""
        return self.to_json()

    def with_options(self, options: Mapping[str, Any], dimension: int | None = None) -> Self:
        """A copy with changes named by dotted path, e.g. `{"ensemble.timesteps": (1, 50)}`.

        What was never set stays a default, and default timesteps follow the length of the diffusion process.

        Args:
            options: the changes.
            dimension: of the configuration, for settings that depend on it.

        Raises:
            ValueError: for an unknown setting, or if the settings, all changes made, contradict each other.
        """
        values = self.model_dump(exclude_unset=True)
        for path, value in options.items():
            *parents, name = path.split(".")
            part = values
            for parent in parents:
                inner = part.get(parent)
                part[parent] = part = dict(inner) if isinstance(inner, (Mapping, BaseModel)) else {}
            part[name] = value
        return self.read(values, dimension=dimension)
