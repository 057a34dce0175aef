"""Small denoisers that diffusers and MONAI made and saved, with random weights; each with its own library's answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

DIFFUSERS_UNET = {
    "sample_size": 16,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (4, 6, 8),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "attention_head_dim": 2,
}
MONAI_UNET = {
    "in_channels": 1,
    "out_channels": 1,
    "num_res_blocks": [1, 2],
    "channels": [4, 6],
    "attention_levels": [False, True],
    "num_head_channels": 2,
    "norm_num_groups": 2,
}
SIZES = {2: (16, 24), 3: (4, 8, 6)}


class SavedByLibrary(NamedTuple):
    """A model on disk, and the same in its library."""

    source: str
    model: nn.Module
    scheduler: Any
    last_layers: list[nn.Module]  # of each resolution of the decoder, coarsest first
    channels: int
    size: tuple[int, ...]

    @torch.no_grad()
    def features(self, noisy_images: Tensor, timesteps: Tensor) -> list[Tensor]:
        """What forward hooks in the library see at the last layers."""
        seen: list[Tensor] = []
        hooks = [
            layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
            for layer in self.last_layers
        ]
        self.model(noisy_images, timesteps)
        for hook in hooks:
            hook.remove()
        return seen


def without_zeros(model: nn.Module) -> nn.Module:
    """The library's initial weights, of which many are 0 or 1, and a little noise; in eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture
def by_diffusers(tmp_path: Path) -> Callable[..., SavedByLibrary]:
    """`by_diffusers({"beta_schedule": "scaled_linear"}, as_pipeline=True, in_channels=3, out_channels=3)`."""
    diffusers = pytest.importorskip("diffusers")

    def make(scheduler: dict | None = None, as_pipeline: bool = False, **unet: Any) -> SavedByLibrary:
        folder = tmp_path / "by_diffusers"
        model = without_zeros(diffusers.UNet2DModel(**(DIFFUSERS_UNET | unet)))
        ddpm = diffusers.DDPMScheduler(**(scheduler or {}))
        if as_pipeline:
            diffusers.DDPMPipeline(model, ddpm).save_pretrained(folder)
        else:
            model.save_pretrained(folder)
            ddpm.save_pretrained(folder)
        last = [(getattr(block, "attentions", None) or block.resnets)[-1] for block in model.up_blocks]
        return SavedByLibrary(f"diffusers:{folder}", model, ddpm, last, model.config.in_channels, SIZES[2])

    return make


@pytest.fixture
def by_monai(tmp_path: Path) -> Callable[..., SavedByLibrary]:
    """`by_monai(3, {"schedule": "cosine"}, {"image_range": [0, 1]}, resblock_updown=True)`."""
    from monai.networks.nets import DiffusionModelUNet
    from monai.networks.schedulers import DDPMScheduler

    def make(
        dimension: int = 2, scheduler: dict | None = None, further: dict | None = None, **unet: Any
    ) -> SavedByLibrary:
        arguments = MONAI_UNET | {"spatial_dims": dimension} | unet
        scheduler = {"num_train_timesteps": 1000} | (scheduler or {})
        model = without_zeros(DiffusionModelUNet(**arguments))
        folder = tmp_path / "by_monai"
        folder.mkdir(exist_ok=True)
        torch.save(model.state_dict(), folder / "model.pt")
        description = {"network": arguments, "scheduler": scheduler} | (further or {})
        (folder / "model.json").write_text(json.dumps(description))
        last = [(getattr(block, "attentions", None) or block.resnets)[-1] for block in model.up_blocks]
        size, channels = SIZES[dimension], arguments["in_channels"]
        return SavedByLibrary(f"monai:{folder}", model, DDPMScheduler(**scheduler), last, channels, size)

    return make
