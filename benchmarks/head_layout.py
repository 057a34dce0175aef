"""Seconds of the head's training step with the channels of a pixel side by side, and channel after channel.

    python benchmarks/head_layout.py [--device cpu] [--rounds 8]

The head is the planner's, on features as a U-Net of 16 base features gives them of a batch of 12 images of 64 x 64 or
of 2 volumes of 40 x 56 x 40. Forward and backward pass, one thread; both layouts take turns, and the smallest time of
each counts. The last column says which of them the package takes.
"""

import argparse
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from nnunet_diffusion_ensemble.method import HeadSettings
from nnunet_diffusion_ensemble.network.heads import CHANNELS_LAST, PixelClassifier

CHANNELS = (128, 64, 32, 16)
FINEST = {"12 x 64 x 64": (12, (64, 64)), "2 x 40 x 56 x 40": (2, (40, 56, 40))}
PRECISIONS = ("float32", "bfloat16")


class SideBySide(PixelClassifier):
    def _laid_out(self, level: Tensor) -> Tensor:
        return level.contiguous(memory_format=CHANNELS_LAST[level.ndim - 2])


class ChannelAfterChannel(PixelClassifier):
    def _laid_out(self, level: Tensor) -> Tensor:
        return level.contiguous()


def features(images: int, size: tuple[int, ...], device: str) -> list[Tensor]:
    """Of all levels, coarsest first, that ask for a gradient."""
    shapes = [(images, c, *(n // 2**depth for n in size)) for depth, c in enumerate(reversed(CHANNELS))]
    return [torch.randn(shape, device=device, requires_grad=True) for shape in reversed(shapes)]


def step(head: PixelClassifier, levels: list[Tensor], precision: str) -> None:
    device = levels[0].device.type
    with nullcontext() if precision == "float32" else torch.autocast(device, getattr(torch, precision)):
        logits = head(levels)
    logits.float().square().mean().backward()


def compare(images: int, size: tuple[int, ...], kernel_size: int, precision: str, args: argparse.Namespace) -> str:
    """Seconds of either layout, how many times faster the first is, and whether it is the package's."""
    levels, settings = features(images, size, args.device), HeadSettings(kernel_size=kernel_size)
    timers, best = [], [float("inf")] * 2
    for kind in (SideBySide, ChannelAfterChannel):
        head = kind(CHANNELS, 2, len(size), settings).to(args.device)
        known = {"step": step, "head": head, "levels": levels, "precision": precision}
        timers.append(Timer("step(head, levels, precision)", globals=known))
    for _ in range(args.rounds):
        best = [min(least, timer.timeit(1).mean) for least, timer in zip(best, timers, strict=True)]
    ours = PixelClassifier(CHANNELS, 2, len(size), settings)
    with torch.autocast(levels[0].device.type, torch.bfloat16, enabled=precision != "float32"):
        chosen = "channel after channel" if ours._laid_out(levels[-1]).is_contiguous() else "side by side"
    return f"{best[0]:.3f} | {best[1]:.3f} | {best[1] / best[0]:.2f}x | {chosen} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    titles = (
        "features",
        "kernel",
        "precision",
        "side by side, s",
        "channel after channel, s",
        "faster",
        "the package's",
    )
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name, (images, size) in FINEST.items():
        for kernel_size in (3, 1):
            for precision in PRECISIONS:
                line = compare(images, size, kernel_size, precision, args)
                print(f"| {name} | {kernel_size} | {precision} | {line}", flush=True)


if __name__ == "__main__":
    main()
