"""What a million X-rays and 100,000 CT volumes cost: rates measured here, and the table that is reckoned from them.

    python benchmarks/scale.py measure WORK [--only xrays]      # minutes; processor time of one core
    python benchmarks/scale.py table

`measure` packs synthetic images into shards, plans, preprocesses and loads batches as a pretraining does. `table` takes
the rates below, which are those of docs/how-to/scale.md.
"""

import argparse
import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rates:
    """Of one kind of images. `measure` prints them, but the rate of a GPU.

    Attributes:
        cases: how many there shall be.
        core_seconds: of preprocessing a case.
        raw_mb, preprocessed_mb: of a case on disk.
        patch_mb: of what is read of it for a batch; of volumes without a memory map, which reads less.
        batch_size: images of a batch on one GPU.
        loading_seconds: of a core, for a batch with its augmentation.
        steps_per_second: of one GPU.
        parameters: of the denoiser, in millions.
    """

    cases: int
    core_seconds: float
    raw_mb: float
    preprocessed_mb: float
    patch_mb: float
    batch_size: int
    loading_seconds: float
    steps_per_second: float
    parameters: float

    def column(self, num_gpus: int) -> list[str]:
        """The table's figures for so many GPUs, each with a batch of its own; see `ROWS`."""
        images_per_second = self.batch_size * self.steps_per_second * num_gpus
        gradients = 2 * 4 * self.parameters * 1e6 * self.steps_per_second  # bytes that a ring moves at each GPU
        return [
            duration(self.cases * self.core_seconds / (CORES_PER_GPU * num_gpus)),
            f"{self.cases * self.raw_mb / 1000:,.0f} GB",
            f"{self.cases * self.preprocessed_mb / 1000:,.0f} GB",
            duration(self.cases / images_per_second),
            duration(PLANNED_STEPS / self.steps_per_second),
            f"{PLANNED_STEPS * self.batch_size * num_gpus / self.cases:.0f}",
            f"{self.loading_seconds * self.steps_per_second:.2g}",
            f"{images_per_second:,.0f}, {images_per_second * self.patch_mb / 1000:.2g} GB/s",
            f"{gradients * 8 / 1e9:.0f} Gbit/s",
        ]


def duration(seconds: float) -> str:
    """In minutes or hours."""
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


ROWS = (
    "preprocessing",
    "raw on disk",
    "preprocessed on disk",
    "one pass over all images",
    "250,000 steps (the default)",
    "passes in these",
    "cores that load, a GPU",
    "reads a second, all GPUs",
    "gradients, each way at each GPU",
)
PLANNED_STEPS = 250_000
CORES_PER_GPU = 16  # of the machine on which the GPU was measured
# Of that GPU in a pretraining of X-rays, steps a second x TFLOP a step; for a network that was not measured there.
TFLOPS = 10.5 * 1.52
XRAYS = Rates(1_000_000, 0.013, 0.011, 0.033, 0.042, 32, 0.08, 10.5, 76.7)
CT = Rates(100_000, 29.3, 56, 96, 40, 2, 0.31, TFLOPS / 9.76, 105.9)


def print_table() -> None:
    """In Markdown, a column for each kind of images and number of GPUs."""
    kinds = {"1,000,000 X-rays": XRAYS, "100,000 CT volumes": CT}
    print("|" + "".join(f" | {name}, {num} GPUs" for name in kinds for num in (8, 64)) + " |")
    print("|---" * (1 + 2 * len(kinds)) + "|")
    columns = [rates.column(num) for rates in kinds.values() for num in (8, 64)]
    for row, cells in zip(ROWS, zip(*columns, strict=True), strict=True):
        print(f"| {row} | {' | '.join(cells)} |")


# ---- measuring


def xrays(folder: Path, count: int) -> dict[str, Any]:
    """Smooth grey pictures of 128 x 128 with noise; returns dataset.json."""
    import imageio.v3 as imageio
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(0)
    for case in range(count):
        smooth = gaussian_filter(random.normal(size=(128, 128)), 8)
        pixels = 128 + 60 * smooth / smooth.std() + random.normal(0, 4, smooth.shape)
        imageio.imwrite(folder / f"xray_{case:04d}_0000.png", pixels.clip(1, 255).astype(np.uint8))
    return {"channel_names": {"0": "X-ray"}, "file_ending": ".png"}


def volumes(folder: Path, count: int) -> dict[str, Any]:
    """Bodies of 512 x 512 x 200 voxels of 0.7 x 0.7 x 2 mm; returns dataset.json."""
    import SimpleITK

    random = np.random.default_rng(0)
    rows, columns = np.mgrid[-1:1:512j, -1:1:512j]
    body = (rows / 0.6) ** 2 + (columns / 0.8) ** 2 < 1
    for case in range(count):
        slices = [np.where(body, 40, -1000) + random.normal(0, 20, body.shape) for _ in range(200)]
        image = SimpleITK.GetImageFromArray(np.array(slices, np.int16))
        image.SetSpacing((0.7, 0.7, 2.0))
        SimpleITK.WriteImage(image, str(folder / f"ct_{case:04d}_0000.nii.gz"))
    return {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}


@dataclass(frozen=True)
class Kind:
    """Images to measure with: what makes them, how many, how they are planned, and how many batches are loaded."""

    make: Callable[[Path, int], dict[str, Any]]
    count: int
    configuration: str
    options: dict[str, Any]
    num_batches: int


KINDS = {
    "xrays": Kind(xrays, 200, "2d", {"method": {"pretraining.batch_size": 32}}, 20),
    "ct": Kind(volumes, 2, "3d_fullres", {"target_spacing": (2.5, 0.8, 0.8)}, 5),  # so that all are resampled
}


def measure(work: Path, kind: str) -> None:
    """Prints rates of one kind of images."""
    from nnunet_diffusion_ensemble.data.pack import pack
    from nnunet_diffusion_ensemble.planning.options import PlanningOptions
    from nnunet_diffusion_ensemble.planning.plan import plan

    images = KINDS[kind]
    shutil.rmtree(work, ignore_errors=True)
    raw, loose = work / "raw" / "Dataset001_Made", work / "made"
    for folder in (raw, loose, work / "preprocessed", work / "results"):
        folder.mkdir(parents=True)
    (raw / "dataset.json").write_text(json.dumps(images.make(loose, images.count)))
    pack(loose, raw / "imagesUn", images.count)
    plan(1, PlanningOptions(**images.options), "Made", 1, unlabelled=True)
    print(f"{kind}: {megabytes(raw / 'imagesUn', images.count):.3f} MB raw", flush=True)
    measure_preprocessing(images.configuration, images.count)
    measure_loading(work, images.configuration, images.num_batches)
    shutil.rmtree(work)


def megabytes(folder: Path, count: int) -> float:
    """Of a case in a folder."""
    return sum(file.stat().st_size for file in folder.iterdir()) / count / 1e6


def measure_preprocessing(configuration: str, count: int) -> None:
    from nnunet_diffusion_ensemble.data.unlabelled import preprocess_unlabelled

    start = time.process_time()
    folder = preprocess_unlabelled(1, configuration, "Made", 0, show_progress_bar=False)
    seconds = (time.process_time() - start) / count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  preprocessing: {seconds:.3f} s a case, {megabytes(folder, count):.3f} MB on disk, peak {peak:.0f} MB")


def measure_loading(work: Path, configuration: str, num_batches: int) -> None:
    """What a loader's process does for a batch, and the network that it is for."""
    import torch

    from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

    os.environ |= {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"}
    folder = work / "preprocessed" / "Dataset001_Made"
    plans, dataset_json = (json.loads((folder / name).read_text()) for name in ("Made.json", "dataset.json"))
    plans["continue_training"] = False
    fold: Any = "all"  # nnU-Net's trainers call it a number
    trainer = DiffusionPretrainTrainer(plans, configuration, fold, dataset_json, torch.device("cpu"))
    trainer.initialize()
    loader, _ = trainer.get_dataloaders()
    next(loader)
    start, read = time.process_time(), read_mb()
    for _ in range(num_batches):
        batch = next(loader)
    seconds = (time.process_time() - start) / num_batches
    read = (read_mb() - read) / num_batches / len(batch["data"])
    parameters = sum(p.numel() for p in trainer.network.parameters() if p.requires_grad)
    print(f"  batch of {tuple(batch['data'].shape)}: {seconds:.2f} s, {read:.3f} MB read an image")
    flops = step_flops(trainer.network, batch["data"].shape)
    print(f"  {parameters / 1e6:.1f} million parameters, {flops / 1e12:.2f} TFLOP a step", flush=True)


def read_mb() -> float:
    """What this process has read from files (Linux)."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"]) / 1e6


def step_flops(network: Any, shape: tuple[int, ...]) -> float:
    """Operations of convolutions and matrix products in a step: the forward pass, and twice that for gradients."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        images = torch.empty(1, *shape[1:])
        network.to("meta").denoiser(images, images, torch.zeros(1, dtype=torch.long))
    return 3.0 * shape[0] * counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "table"))
    parser.add_argument("work", type=Path, nargs="?", default=Path("scale"), help="folder to work in; it is emptied")
    parser.add_argument("--only", choices=tuple(KINDS), nargs="+", default=list(KINDS))
    args = parser.parse_args()
    if args.what == "table":
        print_table()
        return
    work = args.work.resolve()
    os.environ |= {f"nnUNet_{kind}": str(work / kind) for kind in ("raw", "preprocessed", "results")}
    for kind in args.only:
        measure(work, kind)


if __name__ == "__main__":
    main()
