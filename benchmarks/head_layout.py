"""Seconds of the head's training step with the channels of a pixel side by side, against channel after channel.

    python benchmarks/head_layout.py [--device cpu] [--rounds 8]

The head is the planner's, on features as a U-Net of 16 base features gives them of a batch of 12 images of 64 x 64 or
of 2 volumes of 40 x 56 x 40. Forward and backward pass; both layouts take turns, and the smallest time of each counts.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from nnunet_diffusion_ensemble.method import HeadSettings
from nnunet_diffusion_ensemble.network.heads import PixelClassifier

CHANNELS = (128, 64, 32, 16)
FINEST = {"12 x 64 x 64": (12, (64, 64)), "2 x 40 x 56 x 40": (2, (40, 56, 40))}
PRECISIONS = ("float32", "bfloat16")


def features(images: int, size: tuple[int, ...], device: torch.device) -> list[Tensor]:
    """Of all levels, coarsest first, that ask for a gradient."""
    levels = []
    for depth, channels in zip(range(len(CHANNELS) - 1, -1, -1), CHANNELS, strict=True):
        shape = (images, channels, *(length // 2**depth for length in size))
        levels.append(torch.randn(shape, device=device, requires_grad=True))
    return levels


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    return nullcontext() if precision == "float32" else torch.autocast(device.type, getattr(torch, precision))


def seconds(step: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def compare(images: int, size: tuple[int, ...], kernel_size: int, precision: str, args: argparse.Namespace) -> str:
    """A line: seconds of either layout, and how many times faster the one of the package is."""
    device = torch.device(args.device)
    ours = PixelClassifier(CHANNELS, 2, len(size), HeadSettings(kernel_size=kernel_size)).to(device)
    other = PixelClassifier(CHANNELS, 2, len(size), HeadSettings(kernel_size=kernel_size)).to(device)
    other._laid_out = Tensor.contiguous  # type: ignore[method-assign, assignment]
    levels = features(images, size, device)

    def step(head: PixelClassifier) -> None:
        with autocast(device, precision):
            logits = head(levels)
        logits.float().square().mean().backward()

    times: dict[str, list[float]] = {"ours": [], "other": []}
    for _ in range(args.rounds + 1):
        times["ours"].append(seconds(lambda: step(ours), device))
        times["other"].append(seconds(lambda: step(other), device))
    best = {name: min(of[1:]) for name, of in times.items()}
    return f"| {best['ours']:.3f} | {best['other']:.3f} | {best['other'] / best['ours']:.2f}x |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    print("| features | kernel | precision | ours, s | channel after channel, s | faster |\n|---|---|---|---|---|---|")
    for name, (images, size) in FINEST.items():
        for kernel_size in (3, 1):
            for precision in PRECISIONS:
                line = compare(images, size, kernel_size, precision, args)
                print(f"| {name} | {kernel_size} | {precision} {line}", flush=True)


if __name__ == "__main__":
    main()
