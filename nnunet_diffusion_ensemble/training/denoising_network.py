"""The network of DDPM pretraining, the average of its weights, and the range of what it sees."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.method import DenoiserSettings


class PretrainingNetwork(nn.Module):
    """The denoiser under the name it has in the segmentation network, so that its checkpoints load there."""

    def __init__(self, architecture: Mapping[str, Any], input_channels: int, settings: DenoiserSettings):
        super().__init__()
        self.denoiser = Denoiser(architecture, input_channels, settings)

    def forward(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction and target for noised images; see `Denoiser.forward`."""
        return self.denoiser(images, noise, timesteps)


def ema_decay_at(num_updates: int, decay: float) -> float:
    """Power rule of diffusers: 1 - (1 + updates)^(-3/4), at most `decay`, so that the first weights fade quickly."""
    return min(decay, 1 - (1 + num_updates) ** -0.75)


class WeightAverage(AveragedModel):
    """Exponential moving average of the weights; buffers are copied.

    torch's own looks at the number of updates on the GPU, which halts it at every step. Here it stays on the CPU.
    """

    def __init__(self, network: nn.Module, decay: float):
        super().__init__(network, device=None)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        new_share = 1 - ema_decay_at(int(self.n_averaged), self.decay)  # 1 at first: the weights themselves
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), new_share)
        for average, own in zip(self.module.buffers(), model.buffers(), strict=True):
            average.copy_(own, non_blocking=True)
        self.n_averaged += 1


def widen_range(seen: Tensor, images: Tensor) -> None:
    """Widens a range (lowest, highest) in place by the intensities of images, those of all processes."""
    extremes = torch.stack([-images.min(), images.max()])
    if dist.is_initialized():
        dist.all_reduce(extremes, dist.ReduceOp.MAX)
    seen.copy_(torch.stack([torch.minimum(seen[0], -extremes[0]), torch.maximum(seen[1], extremes[1])]))
