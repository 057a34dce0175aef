"""Preprocessing of unlabelled images at scale: images a second, memory at 200 and at 1,000, restart after a kill.

    python benchmarks/preprocessing.py DATA WORK [--processes 1] [--counts 200 1000] [--cases-per-shard 100]

Runs `nnunet-diffusion convert`, `plan` and `preprocess` on Montgomery's images and the unlabelled ones (DATA as in
xrays.py), which are packed into shards if the size of these is given.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PLANS, FOLDER = "Preprocessing", "preprocessed/Dataset001_Xrays/nnUNetPlans_2d_unlabelled"
SAMPLED_SECONDS = 0.2


def run(work: Path, *command: object) -> subprocess.Popen:
    """Starts `nnunet-diffusion` with nnU-Net's folders in `work`."""
    folders = {f"nnUNet_{name}": str(work / name) for name in ("raw", "preprocessed", "results")}
    arguments = [sys.executable, "-m", "nnunet_diffusion_ensemble.cli", *map(str, command)]
    with (work / "log.txt").open("a") as log:
        return subprocess.Popen(
            arguments, env=os.environ | folders, stdout=log, stderr=log, start_new_session=True, cwd=work
        )


def check(process: subprocess.Popen) -> None:
    if process.wait():
        sys.exit(f"Failed: {process.args!r}; see log.txt")


def resident_mb(group: int) -> tuple[float, float]:
    """Memory of the first process of a group, and of the largest of the others, in MB (Linux)."""
    sizes = {}
    for status in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(status.name)) == group:
                pages = int((status / "statm").read_text().split()[1])
                sizes[int(status.name)] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        except OSError:
            continue
    return sizes.pop(group, 0.0), max(sizes.values(), default=0.0)


def preprocess(work: Path, processes: int, kill_at: int | None = None) -> tuple[float, float, float]:
    """Seconds and peak memory in MB of the main process and of a worker; killed once so many loose cases are done."""
    folder = work / FOLDER
    process = run(work, "preprocess", "-d", 1, "-p", PLANS, "-c", "2d", "-np", processes)
    start, peaks = time.monotonic(), (0.0, 0.0)
    while process.poll() is None:
        main, worker = resident_mb(process.pid)
        peaks = max(peaks[0], main), max(peaks[1], worker)
        if kill_at is not None and len(list(folder.glob("*.pkl"))) >= kill_at:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            break
        time.sleep(SAMPLED_SECONDS)
    else:
        check(process)
    return time.monotonic() - start, *peaks


def lay_out(data: Path, work: Path, count: int) -> None:
    """A fresh data set with so many unlabelled images, planned."""
    shutil.rmtree(work, ignore_errors=True)
    chosen = work / "chosen"
    chosen.mkdir(parents=True)
    for file in sorted((data / "unlabelled_nih").iterdir())[:count]:
        shutil.copy(file, chosen)
    labelled = ["--images", data / "montgomery" / "images", "--masks", data / "montgomery" / "masks"]
    start = time.monotonic()
    check(run(work, "convert", "Dataset001_Xrays", *labelled, "--labels", "lung=255", "--unlabelled", chosen))
    print(f"  convert: {time.monotonic() - start:.0f} s", flush=True)
    check(run(work, "plan", "-d", 1, "--plans-name", PLANS, "--base-features", 4, "-np", 1))


def pack(work: Path, cases_per_shard: int) -> None:
    """Shards in the place of the loose unlabelled images."""
    images, loose = work / "raw" / "Dataset001_Xrays" / "imagesUn", work / "raw" / "Dataset001_Xrays" / "loose"
    images.rename(loose)
    start = time.monotonic()
    check(run(work, "pack", loose, "-o", images, "--cases-per-shard", cases_per_shard))
    print(f"  pack: {time.monotonic() - start:.0f} s", flush=True)


def measure(data: Path, work: Path, counts: list[int], processes: int, cases_per_shard: int | None) -> None:
    """Prints some lines for each number of images, then what a restart does."""
    for count in counts:
        lay_out(data, work, count)
        if cases_per_shard:
            pack(work, cases_per_shard)
        folder = work / FOLDER
        seconds, main, worker = preprocess(work, processes)
        done = sorted(folder.glob("*.npz" if cases_per_shard else "*.pkl"), key=lambda file: file.stat().st_mtime)
        rate = (len(done) - 1) * (cases_per_shard or 1) / (done[-1].stat().st_mtime - done[0].stat().st_mtime)
        size = sum(file.stat().st_size for file in folder.iterdir()) / count / 1024
        print(f"{count} images, {processes} worker(s): {rate:.1f} images/s once they work, {seconds:.0f} s in all")
        print(f"  peak memory {main:.0f} MB main, {worker:.0f} MB worker; {size:.0f} KB on disk an image", flush=True)
        again, *_ = preprocess(work, processes)
        print(f"  again, all done: {again:.0f} s with start-up and labelled images", flush=True)
    if not cases_per_shard:
        measure_restart(work, processes, counts[-1] // 3)


def measure_restart(work: Path, processes: int, kill_at: int) -> None:
    folder = work / FOLDER
    shutil.rmtree(folder)
    preprocess(work, processes, kill_at)
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.pkl")}
    preprocess(work, processes)
    after = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.pkl")}
    redone = sum(after[name] != changed for name, changed in before.items())
    print(f"killed with {len(before)} done, run again: {len(after)} done, {redone} of the {len(before)} done anew")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with montgomery/ and unlabelled_nih/")
    parser.add_argument("work", type=Path, help="folder to work in; it is emptied")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--counts", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--cases-per-shard", type=int, help="pack the images; nothing is killed then")
    args = parser.parse_args()
    measure(args.data.resolve(), args.work.resolve(), args.counts, args.processes, args.cases_per_shard)


if __name__ == "__main__":
    main()
