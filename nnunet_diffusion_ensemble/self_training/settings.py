"""What a user may choose about self-training."""

from typing import Annotated

from pydantic import Field

from nnunet_diffusion_ensemble.system.settings import Count, Positive, Settings, Share

Part = Annotated[float, Field(gt=0, lt=1)]


class SelfTrainingSettings(Settings):
    """The rules of self-training."""

    upper: float = Field(0.9, gt=0.5, le=1, description="a pixel is kept as a label from this probability on")
    lower: float = Field(
        0.1, ge=0, lt=0.5, description="and as not that label up to this one; of two classes, and of regions"
    )
    kept_share: Share = Field(
        0.75, description="of the images, those whose timesteps agree best, or of the least entropy"
    )
    smallest_area: float = Field(0.5, ge=0, le=1, description="of a label, times the smallest of the labelled cases")
    largest_area: float = Field(2.0, ge=1, description="of a label, times the largest of the labelled cases")
    rounds: Count = Field(1, description="the student of one is the teacher of the next")
    largest_drift: Positive = Field(0.1, description="of the mean areas from round to round, beyond which it stops")
    true_share: Part = Field(0.5, description="of truly labelled cases in a batch, on average")
    true_labels_at_end: float = Field(
        0.15, ge=0, lt=1, description="share of the training, its end, on true labels alone"
    )
