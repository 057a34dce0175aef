"""Time and peak memory of the method beside a plain re-implementation of the published way, as Markdown.

    python benchmarks/cost.py [--quick] [--base-features 32] [--device cuda] [--clock cpu]

The published way reads one timestep after the other, upsamples the features of all levels to the size of the image,
concatenates them and classifies pixels at full resolution (TEDM, arXiv 2311.07421). Both ways get the same weights of a
head of 1x1 convolutions and the same frozen denoiser without gradients, and are first checked to give the same numbers.

head: forward and backward pass on features of 960 channels, 512, 256, 128 and 64 at 1/8, 1/4, 1/2 and all of the size.
step: noised images to gradients of the head (no optimizer, noise drawn beforehand), on the topology that nnU-Net's
    planner chooses for the size; published: eight timesteps in turn; ours: eight, IMAGES_PER_PASS images in a pass, as
    the trainers with all timesteps; or one timestep drawn for each image, as the default trainer.
prediction: the ensemble's log-probabilities of eight timesteps.

Times: least and median of runs that take turns. Memory: the peak of what torch's allocator holds beyond weights and
inputs while it is done once; scratch memory inside oneDNN and MKL is not counted, for neither way.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from nnunet_diffusion_ensemble.method import PUBLISHED_TIMESTEPS, DiffusionMethod, HeadSettings
from nnunet_diffusion_ensemble.network.ensemble import TimestepEnsembleNetwork
from nnunet_diffusion_ensemble.network.heads import PixelClassifier

PUBLISHED_CHANNELS = (512, 256, 128, 64)
FEATURE_FACTORS = (1, 2, 4, 8, 16, 16, 16)  # nnU-Net's planner: 32 to 512; coarser stages stop at 4 pixels
BLOCKS = (1, 3, 4, 6, 6, 6, 6)
NUM_CLASSES = 2
NUM_TIMESTEPS = len(PUBLISHED_TIMESTEPS)
IMAGES_PER_PASS = 8
WAYS = {"head": ("published", "ours"), "step": ("published", "ours", "drawn"), "prediction": ("published", "ours")}
LABELS = {
    ("head", "ours"): "head",
    ("step", "ours"): "step, eight timesteps",
    ("step", "drawn"): "step, one timestep an image",
    ("prediction", "ours"): "prediction",
}
SIZES = ((128, 128), (256, 256), (32, 32, 32))
BATCHES = (1, 8)
RUNS = (2, 5)  # at least and at most
MAX_SECONDS = 10  # after which a case gets no further run
LEDM_CHANNELS = 8448  # three timesteps, five blocks, 256 x 256, in its authors' code
CASES_IN_SET = (10, 50, 200)
STEPS_OF_TRAINING = 10
Work = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """What is measured: `head`, `step` or `prediction`, on images of a size."""

    what: str
    size: tuple[int, ...]
    batch: int
    base_features: int

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.size))} | {self.batch}"


class PublishedClassifier(nn.Module):
    """Upsampled, concatenated features through 1x1 convolutions at full resolution, with the weights of ours."""

    def __init__(self, ours: PixelClassifier):
        super().__init__()
        projection, *others = ours.seg_layers
        parts = [part for part in projection.modules() if isinstance(part, (nn.Conv2d, nn.Conv3d))]
        weight = torch.cat([part.weight.detach() for part in parts], dim=1)
        convolution = (nn.Conv2d, nn.Conv3d)[weight.ndim - 4](weight.shape[1], weight.shape[0], 1)
        convolution.load_state_dict({"weight": weight, "bias": parts[-1].state_dict()["bias"]})
        self.layers = nn.Sequential(convolution, *[_copy(layer) for layer in others])

    def forward(self, features: list[Tensor]) -> Tensor:
        size = features[-1].shape[2:]
        return self.layers(torch.cat([functional.interpolate(level, size=size) for level in features], dim=1))


def _copy(layer: Any) -> nn.Module:
    if isinstance(layer, nn.ReLU):
        return nn.ReLU()
    arguments = [layer.num_features] if hasattr(layer, "num_features") else [layer.in_channels, layer.out_channels, 1]
    copy = type(layer)(*arguments)
    copy.load_state_dict(layer.state_dict())
    return copy


def make_head(case: Case, way: str) -> tuple[nn.Module, list[Tensor]]:
    """Head and features of one timestep."""
    torch.manual_seed(0)
    ours = PixelClassifier(PUBLISHED_CHANNELS, NUM_CLASSES, len(case.size), HeadSettings(kernel_size=1))
    head = PublishedClassifier(ours) if way == "published" else ours
    torch.manual_seed(1)
    sizes = [[n >> k for n in case.size] for k in reversed(range(len(PUBLISHED_CHANNELS)))]
    return head, [torch.randn(case.batch, c, *size) for c, size in zip(PUBLISHED_CHANNELS, sizes, strict=True)]


def architecture(size: tuple[int, ...], base_features: int) -> dict[str, Any]:
    """As nnU-Net's residual-encoder planner writes it for a patch of that size: stages down to 4 pixels."""
    num_stages, dimension = int(math.log2(min(size))) - 1, len(size)
    arguments = {
        "n_stages": num_stages,
        "features_per_stage": [base_features * factor for factor in FEATURE_FACTORS[:num_stages]],
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


def make_network(case: Case, way: str, images_per_pass: int) -> TimestepEnsembleNetwork:
    torch.manual_seed(0)
    options = {"ensemble.images_per_pass": images_per_pass, "ensemble.head.kernel_size": 1}
    method = DiffusionMethod().with_options(options)
    network = TimestepEnsembleNetwork(architecture(case.size, case.base_features), 1, NUM_CLASSES, method, case.size)
    if way == "published":
        network.head = PublishedClassifier(network.head)
    torch.manual_seed(1)
    return network


def head_work(case: Case, way: str, device: str, images_per_pass: int) -> tuple[Work, nn.Module, list[Tensor]]:
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


def step_work(case: Case, way: str, device: str, images_per_pass: int) -> tuple[Work, nn.Module, list[Tensor]]:
    """Noising, features of the frozen denoiser, head, cross-entropy and its gradient for the timesteps."""
    network = make_network(case, way, images_per_pass).to(device)
    images = torch.randn(case.batch, 1, *case.size).to(device)
    noise = torch.randn(NUM_TIMESTEPS, *images.shape).to(device)
    target = torch.randint(NUM_CLASSES, (case.batch, *case.size)).to(device)
    timesteps = network.timesteps[:, None].expand(-1, case.batch)
    if way == "drawn":
        timesteps = network.timesteps[torch.randint(NUM_TIMESTEPS, (1, case.batch)).to(device)]
    results: list[Tensor] = []

    def published() -> None:
        for steps, one_noise in zip(timesteps, noise, strict=True):
            features = network.denoiser.features(images, one_noise, steps)
            loss = functional.cross_entropy(network.head(features), target)
            del features
            loss.backward()
            results.append(loss.detach())

    def ours() -> None:
        for which in network.passes(case.batch, len(timesteps)):
            rows = slice(which.start, which.stop)
            logits = network(images, noise[rows], timesteps[rows])
            repeated_target = target.expand(len(logits), *target.shape).flatten(0, 1)
            loss = functional.cross_entropy(logits.flatten(0, 1), repeated_target) * len(which)
            loss.backward()
            results.append(loss.detach())

    def work() -> None:
        network.head.zero_grad()
        results.clear()
        (published if way == "published" else ours)()

    return work, network.head, results


def prediction_work(case: Case, way: str, device: str, images_per_pass: int) -> tuple[Work, nn.Module, list[Tensor]]:
    """Log-probability of the ensemble."""
    network = make_network(case, way, images_per_pass).to(device).eval()
    images = torch.randn(case.batch, 1, *case.size).to(device)
    noises = network.noise
    assert noises is not None
    results: list[Tensor] = []

    def published() -> Tensor:
        maps = []
        for t, noise in zip(PUBLISHED_TIMESTEPS, noises, strict=True):
            timesteps = torch.full((case.batch,), t, device=device)
            features = network.denoiser.features(images, noise.expand_as(images), timesteps)
            maps.append(network.head(features).softmax(dim=1))
        return torch.stack(maps).mean(dim=0).log()

    @torch.no_grad()
    def work() -> None:
        results[:] = [published() if way == "published" else network(images)]

    return work, network.head, results


MAKE_WORK = {"head": head_work, "step": step_work, "prediction": prediction_work}


def check_equal(case: Case, device: str) -> float:
    """Runs both ways once; the largest difference of results and gradients, relative to the largest number.

    The heads compute in float64: in float32, rounding moves a few pixels across the kink of a ReLU. Batch norms see one
    timestep at a time in both.
    """
    found = []
    for way in ("ours", "published"):
        work, head, results = MAKE_WORK[case.what](case, way, device, case.batch)
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


def peak_mb(work: Work, device: str) -> float:
    """Most that torch's allocator holds while it is done, beyond what it holds before."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in events), initial=0)) / 1e6


def measure(case: Case, device: str, clock: str, most_runs: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of runs that take turns, and MB, of each way; what measures the memory also warms up."""
    now = time.process_time if clock == "cpu" else time.perf_counter
    works = {way: MAKE_WORK[case.what](case, way, device, IMAGES_PER_PASS)[0] for way in WAYS[case.what]}
    memory = {way: peak_mb(work, device) for way, work in works.items()}
    seconds: dict[str, list[float]] = {way: [] for way in works}
    begin = now()
    for run in range(most_runs):
        if run >= RUNS[0] and now() - begin > MAX_SECONDS:
            break
        for way, work in works.items():
            start = now()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[way].append(now() - start)
    return seconds, memory


def memory_of_training(num_cases: int, device: str) -> float:
    """Peak in MB of steps on batches of 2 from a set of cases on disk, what is read of them counted."""
    case = Case("step", (256, 256), 2, 8)
    network = make_network(case, "ours", IMAGES_PER_PASS).to(device)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(num_cases):
            torch.save(torch.randn(1, *case.size), f"{folder}/{i}.pt")

        def work() -> None:
            for _ in range(STEPS_OF_TRAINING):
                chosen = torch.randint(num_cases, (case.batch,)).tolist()
                images = torch.stack([torch.load(f"{folder}/{i}.pt") for i in chosen]).to(device)
                timesteps = network.timesteps[torch.randint(NUM_TIMESTEPS, (1, case.batch)).to(device)]
                network(images, torch.randn_like(images)[None], timesteps).square().mean().backward()

        return peak_mb(work, device)


def print_comparison(cases: list[Case], device: str, clock: str, most_runs: int) -> None:
    for what in dict.fromkeys(case.what for case in cases):
        found = [check_equal(Case(what, size, 2, 4), device) for size in ((64, 64), (16, 16, 16))]
        print(f"Checked: {what} of both ways equal, largest relative difference {max(found):.0e}", flush=True)
    print("\n| what | image | batch | ours, s | published, s | faster | ours, MB | published, MB | less |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        seconds, memory = measure(case, device, clock, most_runs)
        for way in WAYS[case.what][1:]:
            print(f"| {LABELS[case.what, way]} | {case} | {_columns(seconds, memory, way)} |", flush=True)


def _columns(seconds: dict[str, list[float]], memory: dict[str, float], way: str) -> str:
    both = (way, "published")
    shown = [f"{min(seconds[w]):.3g} ({statistics.median(seconds[w]):.3g})" for w in both]
    shown += [f"{min(seconds['published']) / min(seconds[way]):.1f}x"]
    shown += [f"{memory[w]:.0f}" for w in both] + [f"{memory['published'] / memory[way]:.1f}x"]
    return " | ".join(shown)


def print_number_of_cases(device: str) -> None:
    pixels = 256 * 256
    print("\n| labelled cases, 256 x 256 | ours, MB | LEDM's code, GB: features once | with its copy |")
    print("|---|---|---|---|")
    for count in CASES_IN_SET:
        stored = count * pixels * LEDM_CHANNELS * 4 / 1e9  # float32, by formula
        print(f"| {count} | {memory_of_training(count, device):.1f} | {stored:.0f} | {2 * stored:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest image and batch of each kind")
    parser.add_argument("--only", choices=list(MAKE_WORK), help="only this part of the comparison")
    parser.add_argument("--base-features", type=int, default=16, help="of the denoiser; nnU-Net's planner takes 32")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    clock_help = "cpu: processor time, on busy machines"
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"), help=clock_help)
    args = parser.parse_args()
    device = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} CPU thread(s)"
    of_denoiser = f"{args.base_features} base features in the denoiser, {IMAGES_PER_PASS} images in a pass"
    print(f"torch {torch.__version__}, {device}, {args.clock} time: least (median); {of_denoiser}\n", flush=True)
    sizes, batches = (SIZES[::2], BATCHES[:1]) if args.quick else (SIZES, BATCHES)
    whats = [args.only] if args.only else list(MAKE_WORK)
    cases = [Case(what, size, batch, args.base_features) for what in whats for size in sizes for batch in batches]
    print_comparison(cases, args.device, args.clock, RUNS[0] if args.quick else RUNS[1])
    if not args.only:
        print_number_of_cases(args.device)


if __name__ == "__main__":
    main()
