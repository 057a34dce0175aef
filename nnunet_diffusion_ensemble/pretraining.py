"""Parts of DDPM pretraining: network, weight average, learning rate, time limit, held-out images."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nnunet_diffusion_ensemble.denoiser import Denoiser
from nnunet_diffusion_ensemble.method import DenoiserSettings

MOST_COMPARED_IMAGES, COMPARED_AT_ONCE = 5000, 64  # in the memorisation check


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


class WarmupCosine:
    """Learning rate that rises linearly, then falls to zero along a half cosine, set anew at each iteration."""

    def __init__(self, optimizer: torch.optim.Optimizer, peak: float, warmup: int, total: int, per_epoch: int):
        self.optimizer, self.peak, self.total, self.per_epoch = optimizer, peak, total, per_epoch
        self.warmup = min(warmup, total // 10)
        self.share_of_time = 0.0  # used of a time limit when the next epoch starts

    def rate_at(self, iteration: int, share_of_time: float = 0.0) -> float:
        """`share_of_time`: how much of a time limit is used; the half cosine ends with it if that comes first."""
        ramp = (iteration + 1) / self.warmup if iteration < self.warmup else 1.0
        done = max((iteration - self.warmup) / max(1, self.total - self.warmup), share_of_time, 0.0)
        return self.peak * min(ramp, 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))

    def set_iteration(self, iteration: int, share_of_time: float = 0.0) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate_at(iteration, share_of_time)

    def step(self, epoch: int) -> None:
        """nnU-Net calls this when an epoch starts, and logs the rate."""
        self.set_iteration(epoch * self.per_epoch, self.share_of_time)


class TimeLimit:
    """Wall-clock time that a training may take, all its runs together.

    Args:
        max_hours: None means no limit.
    """

    def __init__(self, max_hours: float | None):
        self.limit_seconds = math.inf if max_hours is None else 3600 * max_hours
        self.used_seconds = 0.0
        self.epoch_seconds = 0.0

    def note_epoch(self, seconds: float) -> None:
        self.used_seconds += seconds
        self.epoch_seconds = seconds

    @property
    def is_reached(self) -> bool:
        """Whether another epoch as long as the last would be for the most part beyond the limit."""
        return self.used_seconds + self.epoch_seconds / 2 > self.limit_seconds

    def share_used(self, share_of_epoch: float) -> float:
        """Of the limit, at some point of an epoch as long as the last."""
        return (self.used_seconds + share_of_epoch * self.epoch_seconds) / self.limit_seconds


class TimeIsUp(Exception):
    """Leaves nnU-Net's loop over epochs."""


def hold_out(identifiers: Sequence[str], fraction: float, seed: int, fewest: int = 1) -> tuple[list[str], list[str]]:
    """Splits names into those to train on and those held out, the same at every call; at least `fewest` of these."""
    names = sorted(identifiers)
    num_held_out = max(fewest, round(fraction * len(names)))
    held_out = set(np.random.RandomState(seed).permutation(len(names))[:num_held_out].tolist())
    return [n for i, n in enumerate(names) if i not in held_out], [names[i] for i in sorted(held_out)]


def central_patches(dataset: nnUNetBaseDataset, identifiers: Sequence[str], patch_size: Sequence[int]) -> Tensor:
    """The middle of each preprocessed image, cropped or padded with zeros to the patch size; (N, C, *patch)."""
    patches = []
    for identifier in identifiers:
        data = dataset.load_case(identifier)[0]
        size = (1, *patch_size) if len(patch_size) == 2 else tuple(patch_size)
        starts = [(have - want) // 2 for have, want in zip(data.shape[1:], size, strict=True)]
        patch = crop_and_pad_nd(data, [[s, s + w] for s, w in zip(starts, size, strict=True)], 0)
        patches.append(torch.from_numpy(np.asarray(patch)).float().reshape(-1, *patch_size))
    return torch.stack(patches)


def random_patches(dataset: nnUNetBaseDataset, patch_size: Sequence[int], seed: int) -> Iterator[Tensor]:
    """The middles of all images in batches, of very many those of a random choice."""
    names = np.random.RandomState(seed).permutation(dataset.identifiers)[:MOST_COMPARED_IMAGES]
    for start in range(0, len(names), COMPARED_AT_ONCE):
        yield central_patches(dataset, names[start : start + COMPARED_AT_ONCE].tolist(), patch_size)


class HeldOutBatches:
    """Endless iterator over fixed batches `{"data": images, "index": number of the first}`."""

    def __init__(self, images: Tensor, batch_size: int):
        self.batches = [
            {"data": images[i : i + batch_size], "index": i} for i in range(0, max(1, len(images)), batch_size)
        ]
        self._endless = self._cycle()

    def __len__(self) -> int:
        return len(self.batches)

    def __next__(self) -> dict:
        return next(self._endless)

    def _cycle(self) -> Iterator[dict]:
        while True:
            yield from self.batches
