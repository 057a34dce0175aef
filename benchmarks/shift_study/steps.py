"""One step of training: eagerly, or on a GPU as a recorded CUDA graph on a stream of its own."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from shift_study.networks import SegmentationNetwork

GRADIENT_CLIP, WARM_UP_STEPS = 12.0, 3


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy less the Dice of the foreground over the batch; pixels with -1 do not count."""
    valid = (target >= 0).float()
    foreground = logits.softmax(1)[:, 1] * valid
    truth = (target == 1).float()
    dice = (2 * (foreground * truth).sum() + 1e-5) / (foreground.sum() + truth.sum() + 1e-5)
    return functional.cross_entropy(logits, target, ignore_index=-1) - dice


def polynomial(share: float) -> float:
    """nnU-Net's decay."""
    return (1 - share) ** 0.9


class Step:
    """Gradients of a loss, then one update.

    Args:
        loss: draws a batch and computes the loss; on a GPU nothing in it may wait for the device.
        optimizer: its groups keep their first learning rates as `peak`.
        recorded: whether to record a CUDA graph.
        stream: the stream on which all of it runs; None on the CPU.
        decay: share of the training that is done to the share of the learning rate that is left.
        clip: largest norm of the gradient.
    """

    def __init__(
        self,
        loss: Callable[[], Tensor],
        optimizer: torch.optim.Optimizer,
        recorded: bool,
        stream: torch.cuda.Stream | None,
        decay: Callable[[float], float] = polynomial,
        clip: float = GRADIENT_CLIP,
    ):
        self.decay, self.clip = decay, clip
        self.loss, self.optimizer, self.stream = loss, optimizer, stream
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream())
        self.graph: torch.cuda.CUDAGraph | None = None
        if recorded:
            self._record()

    def _record(self) -> None:
        assert self.stream is not None
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UP_STEPS):
                self.optimizer.zero_grad(set_to_none=True)
                self.loss().backward()
        torch.cuda.synchronize()
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            self.loss().backward()
        torch.cuda.synchronize()

    def __call__(self, share: float) -> None:
        """`share` of the training is done."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.decay(share)
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            if self.graph is None:
                self.optimizer.zero_grad(set_to_none=True)
                self.loss().backward()
            else:
                self.graph.replay()
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
            self.optimizer.step()


def make_optimizer(name: str, groups: list[dict[str, Any]], weight_decay: float) -> torch.optim.Optimizer:
    """AdamW, or SGD as nnU-Net uses it."""
    optimizer: torch.optim.Optimizer
    if name == "SGD":
        optimizer = torch.optim.SGD(groups, weight_decay=weight_decay, momentum=0.99, nesterov=True)
    else:
        on_gpu = any(p.is_cuda for group in groups for p in group["params"])
        optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay, fused=on_gpu)
    for group in optimizer.param_groups:
        group["peak"] = group["lr"]
    return optimizer


class Teacher:
    """A copy of a network whose weights follow the network's (EMA)."""

    def __init__(self, network: SegmentationNetwork, copy: SegmentationNetwork, decay: float):
        self.network, self.copy, self.decay, self.updates = network, copy.eval().requires_grad_(False), decay, 0
        copy.load_state_dict(network.state_dict())

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, 1 - 1 / (1 + self.updates))
        theirs, ours = ([p.detach() for p in part.parameters()] for part in (self.copy, self.network))
        torch._foreach_lerp_(theirs, ours, 1 - decay)
        for target, source in zip(self.copy.buffers(), self.network.buffers(), strict=True):
            target.copy_(source)
