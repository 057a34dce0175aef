"""Preprocessing of unlabelled images at scale: images a second, memory at 200 and at 1,000, restart after a kill.

    python benchmarks/preprocessing.py DATA WORK [--processes 1] [--counts 200 1000]      # DATA as in xrays.py
    python benchmarks/preprocessing.py start WORK --cases 100000         # until a training finds all complete

The first runs `nnunet-diffusion convert`, `plan` and `preprocess` on Montgomery's images and the unlabelled ones.
"""

import argparse
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import timeit
import tracemalloc
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
    """Seconds and peak memory in MB of the main process and of a worker; killed once so many cases are done."""
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


def measure(data: Path, work: Path, counts: list[int], processes: int) -> None:
    """Prints a line for each number of images, then what a restart does."""
    for count in counts:
        lay_out(data, work, count)
        folder = work / FOLDER
        seconds, main, worker = preprocess(work, processes)
        done = sorted(folder.glob("*.pkl"), key=lambda file: file.stat().st_mtime)
        rate = (len(done) - 1) / (done[-1].stat().st_mtime - done[0].stat().st_mtime)
        size = sum(file.stat().st_size for file in folder.iterdir()) / len(done) / 1024
        print(f"{len(done)} images, {processes} worker(s): {rate:.1f} images/s once they work, {seconds:.0f} s in all")
        print(f"  peak memory {main:.0f} MB main, {worker:.0f} MB worker; {size:.0f} KB on disk an image", flush=True)
        again, *_ = preprocess(work, processes)
        print(f"  again, all done: {again:.0f} s with start-up and labelled images", flush=True)
    shutil.rmtree(folder)
    preprocess(work, processes, kill_at=counts[-1] // 3)
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.pkl")}
    preprocess(work, processes)
    after = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.pkl")}
    redone = sum(after[name] != changed for name, changed in before.items())
    print(f"killed with {len(before)} done, run again: {len(after)} done, {redone} of the {len(before)} done anew")


def measure_start(work: Path, num_cases: int) -> None:
    """Time that finding all cases complete takes, with records as preprocessing writes them beside small files; memory
    of the list of cases, and time to draw a batch from it as nnU-Net's data loader does."""
    import numpy as np

    from nnunet_diffusion_ensemble.data import unlabelled
    from nnunet_diffusion_ensemble.nnunet.raw_cases import find_unlabelled_cases

    raw, folder = work / "raw", work / "preprocessed"
    images = raw / "imagesUn"
    for made in (raw / "imagesTr", images, folder):
        made.mkdir(parents=True)
    for case in (f"case_{i:06d}" for i in range(num_cases)):
        image = images / f"{case}_0000.png"
        image.write_bytes(b"image")
        for ending in (".b2nd", "_seg.b2nd"):
            (folder / f"{case}{ending}").write_bytes(b"array")
        record = {"files": unlabelled._source_state(case, [image]), "preprocessing": "plans", "written_sizes": [5, 5]}
        (folder / f"{case}.pkl").write_bytes(pickle.dumps({"spacing": (999.0, 1.0, 1.0), unlabelled.RECORD: record}))
    job = unlabelled.PreprocessingJob(folder, None, None, {}, "plans")
    channels = {"channel_names": {"0": "x"}, "file_ending": ".png"}
    start = time.monotonic()
    cases = find_unlabelled_cases(raw, channels)
    listed = time.monotonic()
    done = sum(
        unlabelled._is_complete(job, case, unlabelled._source_state(case, files)) for case, files in cases.items()
    )
    print(f"{done} cases: listed in {listed - start:.1f} s, found complete in {time.monotonic() - listed:.1f} s")
    tracemalloc.start()
    cases = find_unlabelled_cases(raw, channels)
    print(f"the list takes {tracemalloc.get_traced_memory()[0] / 1e6:.0f} MB")
    tracemalloc.stop()
    names = np.array(list(cases))
    drawing = timeit.timeit(lambda: np.random.choice(names, 16), number=2000) / 2000
    print(f"a batch of 16 names is drawn in {1e6 * drawing:.0f} microseconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder with montgomery/ and unlabelled_nih/, or the word start")
    parser.add_argument("work", type=Path, help="folder to work in; it is emptied")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--counts", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--cases", type=int, default=100_000)
    args = parser.parse_args()
    if args.data == "start":
        shutil.rmtree(args.work, ignore_errors=True)
        measure_start(args.work, args.cases)
    else:
        measure(Path(args.data).resolve(), args.work.resolve(), args.counts, args.processes)


if __name__ == "__main__":
    main()
