"""How a student learns from an ensemble: what stands under `distillation` in its plans."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

KEY = "distillation"


def _fold(value: Any) -> int | Literal["all"]:
    if value == "all" or (isinstance(value, int) and value >= 0):
        return value
    raise ValueError(f"a fold is a number or all, got {value!r}")


class DistillationSettings(BaseModel):
    """Settings of `DistillationTrainer`.

    Attributes:
        teacher: folder of the trained ensemble.
        folds: of the teacher; their probabilities are averaged.
        checkpoint_name: in the folder of each fold.
        true_share: of truly labelled images among those drawn for a batch.
        timestep: at which the teacher's denoiser is folded into the student's first weights, on the way of 1000.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: str
    folds: tuple[Annotated[int | Literal["all"], PlainValidator(_fold)], ...] = Field(min_length=1)
    checkpoint_name: str = "checkpoint_final.pth"
    true_share: float = Field(0.5, gt=0, lt=1)
    timestep: int = Field(50, ge=0, lt=1000)

    @classmethod
    def from_plans(cls, configuration: Mapping[str, Any]) -> "DistillationSettings":
        """Raises ValueError if the plans are not those of `nnunet-diffusion distil`."""
        if KEY not in configuration:
            raise ValueError("These plans name no teacher. Run nnunet-diffusion distil, which writes them.")
        return cls(**configuration[KEY])
