"""Processes that take the next job of a list until the time is up."""

import json
import os
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from nnunet_diffusion_ensemble.denoiser.source import denoiser_file
from shift_study.data import LABEL_COUNTS, SEEDS, Data
from shift_study.pretraining import PRETRAININGS, pretrain
from shift_study.training import Run, study
from shift_study.variants import Variant

SHIPPED, WAIT_SECONDS = "chest-xray-64", 0.5


class Workplace:
    """The folder in which the processes find data, denoisers and each other's claims.

    Args:
        folder: holds `denoisers/`, `claims/`, `results.jsonl`, `pretraining.jsonl`.
        packed: the packed data.
        device: `cuda` or `cpu`.
        recorded: whether steps are recorded CUDA graphs.
        most_images: of each kind; None: all.
    """

    def __init__(self, folder: Path, packed: Path, device: str, recorded: bool, most_images: int | None = None):
        self.folder, self.packed, self.device, self.recorded = folder, packed, torch.device(device), recorded
        self.most_images = most_images
        self._data: dict[int, Data] = {}
        for name in ("denoisers", "claims"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def data(self, size: int) -> Data:
        if size not in self._data:
            self._data[size] = Data(self.packed, size, self.device, self.most_images)
        return self._data[size]

    def denoiser(self, name: str) -> Path:
        return denoiser_file(SHIPPED) if name == "shipped" else self.folder / "denoisers" / f"{name}.pth"

    def is_settled(self, name: str) -> bool:
        """Whether the pretraining of a denoiser has ended, well or not."""
        return self.denoiser(name).is_file() or (self.folder / "claims" / f"failed_{name}").exists()

    def claim(self, name: str) -> bool:
        """Whether the job is this process's from now on."""
        file = self.folder / "claims" / "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def append(self, file: str, row: dict[str, Any]) -> None:
        """One write a line, so that lines of several processes do not mix."""
        line = (json.dumps(row) + "\n").encode()
        target = os.open(self.folder / file, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(target, line)
        os.close(target)


def prepare_process(number: int) -> None:
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(number)


def pretrain_job(number: int, place: Workplace, name: str, seconds: float) -> None:
    """A process that pretrains one denoiser."""
    prepare_process(number)
    settings = PRETRAININGS[name]
    output = place.denoiser(name)
    try:
        numbers = pretrain(
            settings, place.data(settings.size), output, seconds, place.denoiser("shipped"), place.recorded
        )
        place.append("pretraining.jsonl", {"denoiser": name, "seconds": seconds, **numbers})
    except Exception:
        place.append("errors.jsonl", {"job": name, "error": traceback.format_exc()})
        place.claim(f"failed_{name}")


def work(number: int, place: Workplace, variants: dict[str, Variant], expected: tuple[str, ...], deadline: float,
         waits: bool) -> None:  # fmt: skip
    """A process that trains variants; one that `waits` begins when the pretrainings are done."""
    prepare_process(number)
    while waits and time.time() < deadline and not all(map(place.is_settled, expected)):
        time.sleep(WAIT_SECONDS)
    while time.time() < deadline:
        name = next_job(place, variants)
        if name is None:
            if all(map(place.is_settled, expected)):
                return
            time.sleep(WAIT_SECONDS)
            continue
        try:
            run_job(place, name, variants[name], deadline)
        except Exception:
            place.append("errors.jsonl", {"job": name, "error": traceback.format_exc()})
        if place.device.type == "cuda":
            torch.cuda.empty_cache()


def next_job(place: Workplace, variants: dict[str, Variant]) -> str | None:
    """The first unclaimed one whose denoiser is there."""
    for name, variant in variants.items():
        is_ready = variant.denoiser is None or place.denoiser(variant.denoiser).is_file()
        if is_ready and place.claim(name):
            return name
    return None


def run_job(place: Workplace, name: str, variant: Variant, deadline: float) -> None:
    checkpoint = place.denoiser(variant.denoiser) if variant.denoiser else None
    size = PRETRAININGS[variant.denoiser].size if variant.denoiser in PRETRAININGS else 64
    cases = [(seed, number) for number in LABEL_COUNTS for seed in SEEDS]
    runs = [Run(variant, place.data(size), *case, checkpoint, place.recorded) for case in cases]
    study(name, runs, deadline, lambda row: place.append("results.jsonl", row))
