"""How to predict with a trained model."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from nnunet_diffusion_ensemble.system.devices import usable_devices
from nnunet_diffusion_ensemble.system.mistakes import must_be
from nnunet_diffusion_ensemble.system.settings import Folds, Settings, Share, Text, Timesteps

CHOICES = ("timesteps", "postprocessed")


def _there(device: str) -> str:
    usable = usable_devices()
    if device not in usable:
        raise must_be(f"a device that is here: {', '.join(usable)}")
    return device


class PredictionSettings(Settings):
    """How to predict, in the words of `nnUNetv2_predict`. As JSON, what the result depends on: not the device."""

    folds: Folds = Field((0, 1, 2, 3, 4), description="trained folds whose predictions are averaged")
    checkpoint_name: Text = Field("checkpoint_final.pth", description="file in the folder of each fold")
    tile_step_size: Share = Field(0.5, description="between neighbouring tiles, as a share of the patch size")
    use_mirroring: bool = Field(
        True, description="average over mirrored copies, along the axes that the model was trained with"
    )
    timesteps: Timesteps | None = Field(
        None, description="over which a model averages; null: those of its plans. Fewer are faster"
    )
    postprocessed: bool = Field(
        False, description="remove the components that `nnunet-diffusion postprocessing` found to be too small"
    )
    device: Annotated[str, AfterValidator(_there)] = Field("cuda", exclude=True, description="cuda, cuda:1, cpu or mps")

    def to_json(self) -> dict[str, Any]:
        """What is not asked for is not named: what was predicted before there was a choice is still the same."""
        return {key: value for key, value in super().to_json().items() if key not in CHOICES or value}
