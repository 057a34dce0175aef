"""What a start of a pretraining costs where all is preprocessed already: cases in files of their own, and in shards.

    python benchmarks/preprocessing_start.py WORK [--cases 200000] [--cases-per-shard 1000] [--size 128]

Writes synthetic raw and preprocessed cases, which nothing ever preprocessed, and then does in a process of its own what
a pretraining does before its first batch: looks whether anything has changed, lists, holds out, makes the pool. Then it
draws batches of 32 names, and opens and reads their images. WORK is emptied before and afterwards; files are in the
system's cache.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

NAME, BATCH, DRAWN = "Dataset001_Synthetic", 32, 200
DIFFERENT_CASES = 50
PLANS: dict[str, Any] = {
    "dataset_name": NAME,
    "plans_name": "Plans",
    "transpose_forward": [0, 1, 2],
    "image_reader_writer": "NaturalImage2DIO",
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {},
    "configurations": {
        "2d": {
            "data_identifier": "Plans_2d",
            "preprocessor_name": "DefaultPreprocessor",
            "patch_size": [128, 128],
            "spacing": [1.0, 1.0],
            "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [False],
            "architecture": {},
        }
    },
}


# ---- making


def lay_out(work: Path) -> Path:
    """Empty data set with plans; returns its `imagesUn`."""
    images, preprocessed = work / "raw" / NAME / "imagesUn", work / "preprocessed" / NAME
    for folder in (images, preprocessed / "Plans_2d_unlabelled"):
        folder.mkdir(parents=True)
    (preprocessed / "Plans.json").write_text(json.dumps(PLANS))
    described = {"channel_names": {"0": "X-ray"}, "labels": {"background": 0}, "numTraining": 0, "file_ending": ".png"}
    (preprocessed / "dataset.json").write_text(json.dumps(described))
    return images


def contents(job: Any, size: int) -> list[dict[str, bytes]]:
    """The files of some preprocessed cases, by their endings."""
    from nnunet_diffusion_ensemble.data.loose_cases import CASE_FILE_ENDINGS
    from nnunet_diffusion_ensemble.data.preprocessing_job import PreprocessedCase

    random, truncated, found = np.random.default_rng(0), str(job.folder / "made"), []
    for _ in range(DIFFERENT_CASES):
        image = random.integers(0, 255, (1, 1, size, size)).astype(np.float32)
        job.write(PreprocessedCase(image, np.zeros((1, 1, size, size), np.int16), {"spacing": (999, 1, 1)}), truncated)
        files = {ending: Path(truncated + ending) for ending in CASE_FILE_ENDINGS}
        found.append({ending: file.read_bytes() for ending, file in files.items()})
        for file in files.values():
            file.unlink()
    return found


def make_loose(job: Any, images: Path, cases: list[str], size: int) -> None:
    import pickle

    from nnunet_diffusion_ensemble.data.loose_cases import RECORD, source_state

    made = contents(job, size)
    for number, case in enumerate(cases):
        image = images / f"{case}_0000.png"
        image.write_bytes(b"image")
        files = dict(made[number % len(made)])
        sizes = [len(files[".b2nd"]), len(files["_seg.b2nd"])]
        record = {"files": source_state(case, [image]), "preprocessing": job.fingerprint, "written_sizes": sizes}
        files[".pkl"] = pickle.dumps({"spacing": (999.0, 1.0, 1.0), RECORD: record})
        for ending, content in files.items():
            (job.folder / f"{case}{ending}").write_bytes(content)


def make_shards(job: Any, images: Path, cases: list[str], size: int, cases_per_shard: int) -> None:
    from nnunet_diffusion_ensemble.data.loose_cases import CASE_FILE_ENDINGS
    from nnunet_diffusion_ensemble.data.packed_shards import FORMAT, PackedShard
    from nnunet_diffusion_ensemble.system.records import stamp

    made = contents(job, size)
    for start in range(0, len(cases), cases_per_shard):
        inside, file = cases[start : start + cases_per_shard], f"xrays-{start // cases_per_shard:06d}.tar"
        write_tar(images / file, ((f"{case}_0000.png", b"image") for case in inside))
        members = (
            (case + ending, made[number % len(made)][ending])
            for number, case in enumerate(inside)
            for ending in CASE_FILE_ENDINGS
        )
        extents = np.array(write_tar(job.folder / file, members), np.int64).reshape(-1, 3, 2)
        written_size = (job.folder / file).stat().st_size
        record = {"format": FORMAT, "source": stamp(images / file), "preprocessing": job.fingerprint}
        PackedShard(job.folder / file, np.array(inside), extents, record | {"written_size": written_size}).write_index()


def write_tar(file: Path, members: Iterator[tuple[str, bytes]]) -> list[tuple[int, int]]:
    """Returns offset and size of each member."""
    import tarfile

    extents = []
    with file.open("wb") as stream:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            stream.write(member.tobuf())
            extents.append((stream.tell(), len(content)))
            stream.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
        stream.write(bytes(2 * tarfile.BLOCKSIZE))
    return extents


# ---- measuring, in a process of its own


def seconds(what: str, function: Callable[[], Any], times: int = 1) -> Any:
    """Prints CPU time and wall clock of one call."""
    cpu, wall = time.process_time(), time.monotonic()
    for _ in range(times):
        result = function()
    cpu, wall = (time.process_time() - cpu) / times, (time.monotonic() - wall) / times
    unit, factor = ("s", 1) if cpu > 0.1 else ("ms", 1000)
    print(f"  {what}: {factor * cpu:.2f} {unit} of CPU, {factor * wall:.2f} {unit} in all", flush=True)
    return result


def peak_mb() -> float:
    """Most memory of this process since `forget_peak` (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def forget_peak() -> float:
    """Memory of this process now, in MB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def private_mb() -> float:
    """Memory of this process that it shares with nobody (Linux)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def measure() -> None:
    """What a pretraining does before its first batch, and batches."""
    from nnunet_diffusion_ensemble.data.image_dataset import ImageDataset
    from nnunet_diffusion_ensemble.data.unlabelled import preprocess_unlabelled
    from nnunet_diffusion_ensemble.data.unlabelled_dataset import UnlabelledDataset
    from nnunet_diffusion_ensemble.training.held_out import hold_out

    before = forget_peak()
    folder = seconds("looks for changes", lambda: preprocess_unlabelled(1, "2d", "Plans", 0, False))
    unlabelled = seconds("lists", lambda: UnlabelledDataset(folder))
    pool = seconds(
        "holds out, makes the pool",
        lambda: ImageDataset("", [], unlabelled, hold_out(unlabelled.identifiers, 0.05, 12345)[0]),
    )
    print(f"  {len(unlabelled.identifiers)} cases; peak memory beyond imports {peak_mb() - before:.0f} MB")
    worker = multiprocessing.get_context("fork").Process(target=measure_batches, args=(pool,))
    worker.start()
    worker.join()


def measure_batches(pool: Any) -> None:
    """In a forked process, as those of nnU-Net's loader are."""
    before = private_mb()
    names = seconds(f"draws {BATCH} names", lambda: np.random.choice(pool.identifiers, BATCH), DRAWN)

    def read() -> None:
        for case in np.random.choice(pool.identifiers, BATCH):
            image, mask, *_ = pool.load_case(case)
            np.asarray(image[:]), np.asarray(mask[:])

    assert len(names) == BATCH
    seconds(f"opens and reads {BATCH} images", read, DRAWN)
    print(f"  a loader's process: {private_mb() - before:.0f} MB of its own after {DRAWN * BATCH} images")


def measure_planning(work: Path) -> None:
    """What planning does: lists names, of shards from their headers."""
    from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import find_unlabelled_cases

    described = {"channel_names": {"0": "X-ray"}, "file_ending": ".png"}
    seconds("planning lists names", lambda: find_unlabelled_cases(work / "raw" / NAME, described))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder to work in; it is emptied")
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--cases-per-shard", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128, help="of the images, in pixels")
    parser.add_argument("--ways", nargs="+", choices=("loose", "shards"), default=["loose", "shards"])
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    work = args.work.resolve()
    os.environ |= {f"nnUNet_{kind}": str(work / kind) for kind in ("raw", "preprocessed", "results")}
    if args.measure:
        measure()
        return
    from nnunet_diffusion_ensemble.data.preprocessing_job import PreprocessingJob

    cases = [f"case_{i:07d}" for i in range(args.cases)]
    for way in args.ways:
        shutil.rmtree(work, ignore_errors=True)
        images = lay_out(work)
        job = PreprocessingJob.load(NAME, "2d", "Plans")
        if way == "loose":
            make_loose(job, images, cases, args.size)
        else:
            make_shards(job, images, cases, args.size, args.cases_per_shard)
        files = [file for folder in (images, job.folder) for file in os.scandir(folder)]
        room = sum(file.stat().st_blocks * 512 for file in os.scandir(job.folder)) / args.cases / 1000
        print(f"{way}: {len(files)} files, {room:.1f} KB a preprocessed case on disk", flush=True)
        subprocess.run([sys.executable, __file__, work, "--measure"], check=True)
        measure_planning(work)
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
