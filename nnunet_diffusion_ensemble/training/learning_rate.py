"""How learning rates fall: along a half cosine in pretraining, as nnU-Net's in segmentation."""

import math

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler


class PolynomialDecay(PolyLRScheduler):
    """nnU-Net's decay of the learning rate; each group of parameters has an initial one of its own."""

    def step(self, current_step: int | None = None) -> None:
        super().step(current_step)
        for group in self.optimizer.param_groups:
            group["lr"] *= group["initial_lr"] / self.initial_lr


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
