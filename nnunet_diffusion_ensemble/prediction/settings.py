"""How to predict with a trained model."""

from typing import Annotated

from pydantic import AfterValidator, Field

from nnunet_diffusion_ensemble.system.mistakes import must_be
from nnunet_diffusion_ensemble.system.settings import Folds, Settings, Share, Text


def _there(device: str) -> str:
    import torch  # takes seconds, and readers of the types need it not

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device):
        usable = ", ".join(name for name, is_there in available.items() if is_there)
        raise must_be(f"a device that is here: {usable}")
    return device


class PredictionSettings(Settings):
    """How to predict, in the words of `nnUNetv2_predict`. As JSON, what the result depends on: not the device."""

    folds: Folds = Field((0, 1, 2, 3, 4), description="trained folds whose predictions are averaged")
    checkpoint_name: Text = Field("checkpoint_final.pth", description="file in the folder of each fold")
    tile_step_size: Share = Field(0.5, description="between neighbouring tiles, as a share of the patch size")
    use_mirroring: bool = Field(
        True, description="average over mirrored copies, along the axes that the model was trained with"
    )
    device: Annotated[str, AfterValidator(_there)] = Field("cuda", exclude=True, description="cuda, cpu or mps")
