"""What the steps of a run share: their arguments, the data set, plans, trainers and the clock of the GPU."""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_diffusion_ensemble.method import PLANS_KEY, DiffusionMethod

# The planner's own topology, and one whose denoiser fits into few megabytes: wide where the image is large.
PLANNED, SMALL = "GpuPlanned", "GpuSmall"
SMALL_FEATURES, TINY_FEATURES = (32, 64, 128, 160, 160, 160), (4, 4, 4, 4, 4, 4)
BATCH_SIZE, DRY_BATCH_SIZE = 32, 2
ROUNDS, WARM_UP_STEPS, STEPS_AT_ONCE = 3, 10, 20
Work = Callable[[], Any]


@dataclass(frozen=True)
class StepArguments:
    """Of a step, as run.py gives them. `seconds` is the time after which run.py ends it."""

    work: Path
    output: Path
    images: Path
    device: torch.device
    size: int
    seconds: float
    is_dry_run: bool
    compiled: bool

    @property
    def dataset_id(self) -> int:
        return self.size

    @property
    def dataset(self) -> str:
        return f"Dataset{self.size:03d}_Lungs"

    @property
    def batch_size(self) -> int:
        return DRY_BATCH_SIZE if self.is_dry_run else BATCH_SIZE

    @property
    def card(self) -> str:
        return torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"

    def plans(self, name: str, options: Mapping[str, Any] | None = None, **configuration: Any) -> dict[str, Any]:
        """Plans that the step `data` made, with changed settings of the method and of the configuration 2d."""
        file = Path(os.environ["nnUNet_preprocessed"]) / self.dataset / f"{name}.json"
        plans = json.loads(file.read_text())
        plans["continue_training"] = False
        resolved = PlansManager({**plans}).get_configuration("2d").configuration
        method = DiffusionMethod.from_plans(resolved).with_options(options or {})
        plans["configurations"]["2d"] |= {PLANS_KEY: method.to_plans(), **configuration}
        return plans

    def trainer(self, trainer_class: type, plans: dict[str, Any]) -> Any:
        """An initialized trainer of all images, at the start of an epoch."""
        base = Path(os.environ["nnUNet_preprocessed"]) / self.dataset
        dataset_json = json.loads((base / "dataset.json").read_text())
        trainer = trainer_class(plans, "2d", "all", dataset_json, self.device)
        trainer.initialize()
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
        trainer.on_train_epoch_start()
        return trainer


def step_arguments(description: str | None) -> StepArguments:
    parser = argparse.ArgumentParser(description=description)
    for name in ("--work", "--output", "--images"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--compiled", action="store_true")
    values = vars(parser.parse_args())
    if values["device"].type == "cpu":
        torch.set_num_threads(1)
    return StepArguments(is_dry_run=values.pop("dry_run"), **values)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def rates(works: Mapping[str, Work], device: torch.device, seconds: float) -> dict[str, float]:
    """How often a second each of several works is done: the median of rounds in which they take turns.

    Args:
        works: names and what to do once.
        device: that they run on, and that is waited for.
        seconds: that all of it takes; 0 does each of them once in a round.
    """
    for work in works.values():
        for _ in range(WARM_UP_STEPS if seconds else 1):
            work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            found[name].append(_rate(work, device, seconds / ROUNDS / len(works)))
    return {name: statistics.median(values) for name, values in found.items()}


def _rate(work: Work, device: torch.device, seconds: float) -> float:
    wait_for(device)
    start, count = time.perf_counter(), 0
    while True:
        for _ in range(STEPS_AT_ONCE if seconds else 1):
            work()
            count += 1
        wait_for(device)
        passed = time.perf_counter() - start
        if passed >= seconds:
            return count / passed


def peak_mb(work: Work, device: torch.device) -> float:
    """Most that torch's allocator holds while a work is done for the second time; NaN on a CPU."""
    work()
    if device.type != "cuda":
        work()
        return float("nan")
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 1e6
