"""Time and peak memory of the method beside a plain re-implementation of the published way, as Markdown.

    python benchmarks/cost.py [--quick] [--device cuda] [--clock cpu]

The published way reads one timestep after the other, upsamples the features of all levels to the size of the image,
concatenates them and classifies pixels at full resolution (TEDM, arXiv 2311.07421). Both ways get the same weights, the
same frozen denoiser and as many images in a pass, and are first checked to give the same numbers.

The head alone has the published 960 channels, 512, 256, 128 and 64 at 1/8, 1/4, 1/2 and all of the image's size; the
others have the topology that nnU-Net's planner chooses for the size. Times: least and median of runs that take turns.
Memory on CPUs: growth of the resident set to its peak, each in a process of its own (Linux); on GPUs the allocator's.
"""

import argparse
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_diffusion_ensemble.heads import PixelClassifier
from nnunet_diffusion_ensemble.method import PUBLISHED_TIMESTEPS, DiffusionMethod, HeadSettings
from nnunet_diffusion_ensemble.network import TimestepEnsembleNetwork

PUBLISHED_CHANNELS = (512, 256, 128, 64)
FEATURES = (32, 64, 128, 256, 512, 512, 512)  # of nnU-Net's planner, coarser stages stop at 4 pixels
BLOCKS = (1, 3, 4, 6, 6, 6, 6)
NUM_CLASSES = 2
WAYS = ("ours", "published")
SIZES = ((128, 128), (256, 256), (32, 32, 32))
MAX_SECONDS = 25  # of a case's timed runs
LEDM_CHANNELS = 8448  # three timesteps, five blocks, 256 x 256, in its authors' code
CASES_IN_SET = (10, 50, 200)
Work = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """What is measured: `head`, `step` or `prediction`, on images of a size."""

    what: str
    size: tuple[int, ...]
    batch: int

    def __str__(self) -> str:
        return f"{self.what} | {' x '.join(map(str, self.size))} | {self.batch}"


class PublishedClassifier(nn.Module):
    """Upsampled, concatenated features through 1x1 convolutions at full resolution, with the weights of ours."""

    def __init__(self, ours: PixelClassifier):
        super().__init__()
        projection, *others = ours.seg_layers
        weight = torch.cat([part.weight.detach() for part in projection.convolutions], dim=1)
        convolution = (nn.Conv2d, nn.Conv3d)[weight.ndim - 4](weight.shape[1], weight.shape[0], 1)
        convolution.load_state_dict({"weight": weight, "bias": projection.convolutions[-1].bias.detach()})
        self.layers = nn.Sequential(convolution, *[_copy(layer) for layer in others])

    def forward(self, features: list[Tensor]) -> Tensor:
        size = features[-1].shape[2:]
        return self.layers(torch.cat([functional.interpolate(level, size=size) for level in features], dim=1))


def _copy(layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.ReLU):
        return nn.ReLU()
    arguments = [layer.num_features] if hasattr(layer, "num_features") else [layer.in_channels, layer.out_channels, 1]
    copy = type(layer)(*arguments)
    copy.load_state_dict(layer.state_dict())
    return copy


def make_head(case: Case, way: str) -> tuple[nn.Module, list[Tensor]]:
    """Head and features of one timestep."""
    torch.manual_seed(0)
    head: nn.Module = PixelClassifier(PUBLISHED_CHANNELS, NUM_CLASSES, len(case.size), HeadSettings())
    head = PublishedClassifier(head) if way == "published" else head
    torch.manual_seed(1)
    sizes = [[n >> k for n in case.size] for k in reversed(range(len(PUBLISHED_CHANNELS)))]
    return head, [torch.randn(case.batch, c, *size) for c, size in zip(PUBLISHED_CHANNELS, sizes, strict=True)]


def architecture(size: tuple[int, ...]) -> dict[str, Any]:
    """As nnU-Net's residual-encoder planner writes it for a patch of that size: stages down to 4 pixels."""
    num_stages, dimension = int(math.log2(min(size))) - 1, len(size)
    arguments = {
        "n_stages": num_stages,
        "features_per_stage": list(FEATURES[:num_stages]),
        "conv_op": f"torch.nn.modules.conv.Conv{dimension}d",
        "kernel_sizes": [[3] * dimension] * num_stages,
        "strides": [[1] * dimension] + [[2] * dimension] * (num_stages - 1),
        "n_blocks_per_stage": list(BLOCKS[:num_stages]),
        "n_conv_per_stage_decoder": [1] * (num_stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    network_class = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    imported = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    return {"network_class_name": network_class, "arch_kwargs": arguments, "_kw_requires_import": imported}


def make_network(case: Case, way: str) -> TimestepEnsembleNetwork:
    torch.manual_seed(0)
    method = DiffusionMethod().with_options({"ensemble.images_per_pass": case.batch})
    network = TimestepEnsembleNetwork(architecture(case.size), 1, NUM_CLASSES, method, case.size)
    if way == "published":
        network.head = PublishedClassifier(network.head)
    torch.manual_seed(1)
    return network


def head_work(case: Case, way: str, device: str) -> tuple[Work, nn.Module, list[Tensor]]:
    """Forward and backward pass of the head."""
    head, features = make_head(case, way)
    head, features = head.to(device), [level.to(device) for level in features]
    gradient = torch.randn(case.batch, NUM_CLASSES, *case.size).to(device)
    results: list[Tensor] = []

    def work() -> None:
        head.zero_grad()
        logits = head(features)
        logits.backward(gradient.to(logits.dtype))
        results[:] = [logits.detach()]

    return work, head, results


def step_work(case: Case, way: str, device: str) -> tuple[Work, nn.Module, list[Tensor]]:
    """Noising, features of the frozen denoiser, head, cross-entropy and its gradient for each timestep."""
    network = make_network(case, way).to(device)
    images, noise = torch.randn(case.batch, 1, *case.size), torch.randn(case.batch, 1, *case.size)
    target = torch.randint(NUM_CLASSES, (case.batch, *case.size), device=device)
    images, noise = images.to(device), noise.to(device)
    results: list[Tensor] = []

    def work() -> None:
        network.head.zero_grad()
        results.clear()
        for t in PUBLISHED_TIMESTEPS:
            features = network.denoiser.features(images, noise, torch.full((case.batch,), t, device=device))
            loss = functional.cross_entropy(network.head(features), target)
            del features
            loss.backward()
            results.append(loss.detach())

    return work, network.head, results


def prediction_work(case: Case, way: str, device: str) -> tuple[Work, nn.Module, list[Tensor]]:
    """Log-probability of the ensemble."""
    network = make_network(case, way).to(device).eval()
    images = torch.randn(case.batch, 1, *case.size).to(device)
    results: list[Tensor] = []

    @torch.no_grad()
    def ours() -> None:
        results[:] = [network(images)]

    @torch.no_grad()
    def published() -> None:
        maps = []
        for t, noise in zip(PUBLISHED_TIMESTEPS, network.noise, strict=True):
            timesteps = torch.full((case.batch,), t, device=device)
            features = network.denoiser.features(images, noise.expand_as(images), timesteps)
            maps.append(network.head(features).softmax(dim=1))
        results[:] = [torch.stack(maps).mean(dim=0).log()]

    return (ours if way == "ours" else published), network.head, results


MAKE_WORK = {"head": head_work, "step": step_work, "prediction": prediction_work}


def check_equal(case: Case, device: str) -> float:
    """Runs both ways once; the largest difference of results and gradients, relative to the largest number.

    The heads compute in float64: in float32, rounding moves a few pixels across the kink of a ReLU.
    """
    found = []
    for way in WAYS:
        work, head, results = MAKE_WORK[case.what](case, way, device)
        head.double().register_forward_pre_hook(lambda _, inputs: ([level.double() for level in inputs[0]],))
        work()
        gradients = {name: p.grad for name, p in head.named_parameters() if p.grad is not None}
        first = [g for name, g in gradients.items() if ".convolutions." in name and name.endswith("weight")]
        others = [g for name, g in gradients.items() if ".convolutions." not in name]
        if first:  # ours has the first layer in parts, and their bias among the others
            bias = gradients[f"seg_layers.0.convolutions.{len(first) - 1}.bias"]
            others = [torch.cat(first, dim=1), bias, *others]
        found.append([*results, *others])
    differences = [((a - b).abs().max() / b.abs().max().clamp_min(1e-6)).item() for a, b in zip(*found, strict=True)]
    if max(differences) > 1e-5:
        raise RuntimeError(f"{case}: the two ways differ by {max(differences):.1e}, so they cannot be compared.")
    return max(differences)


def measure_time(case: Case, device: str, clock: str, most_runs: int) -> dict[str, list[float]]:
    """Seconds of runs that take turns, after one of each."""
    now = time.process_time if clock == "cpu" else time.perf_counter
    works = {way: MAKE_WORK[case.what](case, way, device)[0] for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    begin = time.perf_counter()
    for run in range(most_runs + 1):
        for way, work in works.items():
            start = now()
            work()
            _wait(device)
            if run:
                seconds[way].append(now() - start)
        if run and time.perf_counter() - begin > MAX_SECONDS:
            break
    return seconds


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure_memory(case: Case, way: str, device: str) -> float:
    """Growth in MB while it is done once, weights and inputs not counted."""
    tiny = Case(case.what, tuple(64 for _ in case.size) if len(case.size) == 2 else case.size, 1)
    MAKE_WORK[tiny.what](tiny, way, device)[0]()  # libraries take their own memory once
    return _growth_mb(MAKE_WORK[case.what](case, way, device)[0], device)


def _growth_mb(work: Work, device: str) -> float:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before_mb = _status_mb("VmRSS")
    work()
    return _status_mb("VmHWM") - before_mb


def _status_mb(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024 / 1e6


def in_process(function: Callable, *arguments: object) -> Any:
    """Result of a function in a process of its own, so that one measurement leaves nothing behind for the next."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def memory_of_training(num_cases: int, device: str) -> float:
    """Growth in MB over 20 steps on batches of 2 from a set of cases on disk; 8 base features instead of 32."""
    global FEATURES
    FEATURES = tuple(n // 4 for n in FEATURES)
    case = Case("step", (256, 256), 2)
    network = make_network(case, "ours").to(device)
    random = np.random.RandomState(0)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(num_cases):
            np.save(f"{folder}/{i}.npy", random.randn(1, *case.size).astype(np.float32))

        def work() -> None:
            for _ in range(20):
                chosen = random.randint(num_cases, size=case.batch)
                images = torch.from_numpy(np.stack([np.load(f"{folder}/{i}.npy") for i in chosen])).to(device)
                for t in PUBLISHED_TIMESTEPS[:2]:
                    timesteps = torch.full((case.batch,), t, device=device)
                    features = network.denoiser.features(images, torch.randn_like(images), timesteps)
                    network.head(features).square().mean().backward()

        return _growth_mb(work, device)


def print_comparison(cases: list[Case], device: str, clock: str, most_runs: int) -> None:
    smallest = [size for size in (SIZES[0], SIZES[-1]) if any(len(case.size) == len(size) for case in cases)]
    for what in dict.fromkeys(case.what for case in cases):
        found = [in_process(check_equal, Case(what, size, 2), device) for size in smallest]
        print(f"Checked: {what} of both ways equal, largest relative difference {max(found):.0e}", flush=True)
    print("\n| what | image | batch | ours, s | published, s | faster | ours, MB | published, MB | less |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        seconds = in_process(measure_time, case, device, clock, most_runs)
        least = [min(seconds[way]) for way in WAYS]
        shown = [f"{min(s):.3g} ({statistics.median(s):.3g})" for s in (seconds[way] for way in WAYS)]
        memory = [in_process(measure_memory, case, way, device) for way in WAYS]
        row = [str(case), *shown, f"{least[1] / least[0]:.1f}x"]
        row += [f"{mb:.0f}" for mb in memory] + [f"{memory[1] / memory[0]:.1f}x"]
        print(f"| {' | '.join(row)} |", flush=True)


def print_number_of_cases(device: str) -> None:
    pixels = 256 * 256
    print(
        "\n| labelled cases, 256 x 256 | ours, MB | LEDM's code, GB: features once | with its copy |\n|---|---|---|---|"
    )
    for count in CASES_IN_SET:
        stored = count * pixels * LEDM_CHANNELS * 4 / 1e9  # float32, by formula
        ours = in_process(memory_of_training, count, device)
        print(f"| {count} | {ours:.0f} | {stored:.0f} | {2 * stored:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest image and batch of each kind")
    parser.add_argument("--only", choices=list(MAKE_WORK), help="only this part of the comparison")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--clock", default="wall", choices=("wall", "cpu"), help="cpu: processor time, on busy machines"
    )
    args = parser.parse_args()
    device = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, {device}, {args.clock} time: least (median)\n", flush=True)
    sizes = SIZES[::2] if args.quick else SIZES
    batches = {size: (1,) if args.quick or len(size) == 3 else (1, 8) for size in sizes}
    whats = [args.only] if args.only else list(MAKE_WORK)
    cases = [Case(what, size, batch) for what in whats for size in sizes for batch in batches[size]]
    print_comparison(cases, args.device, args.clock, 2 if args.quick else 5)
    if not args.only:
        print_number_of_cases(args.device)


if __name__ == "__main__":
    main()
