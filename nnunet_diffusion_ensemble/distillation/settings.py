"""How a student learns from an ensemble: what stands under `distillation` in its plans."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from nnunet_diffusion_ensemble.system.settings import Folds, Settings, Text, Timesteps

KEY = "distillation"


class DistillationSettings(Settings):
    """Settings of `DistillationTrainer`."""

    where = KEY

    teacher: Text = Field(description="folder of the trained ensemble")
    folds: Folds = Field(description="of the teacher; their probabilities are averaged")
    checkpoint_name: Text = Field("checkpoint_final.pth", description="in the folder of each fold")
    true_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="of truly labelled images in a batch, on average"
    )
    timestep: Annotated[int, Field(ge=0, lt=1000)] = Field(
        50, description="at which the teacher's denoiser becomes the student's first weights, on the way of 1000"
    )
    teacher_timesteps: Timesteps | None = Field(
        None, description="over which the teacher averages; null: those of its plans"
    )

    @classmethod
    def from_plans(cls, configuration: Mapping[str, Any]) -> "DistillationSettings":
        """Raises ValueError if the plans are not those of `nnunet-diffusion distil`."""
        if KEY not in configuration:
            raise ValueError("These plans name no teacher. Run nnunet-diffusion distil, which writes them.")
        return cls.read(configuration[KEY])
