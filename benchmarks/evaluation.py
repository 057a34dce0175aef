"""Time and memory of the evaluation beside `nnUNetv2_evaluate_folder`, whole processes with two workers each.

    python benchmarks/evaluation.py make FOLDER           cases of 256 x 256: two lungs of one label
    python benchmarks/evaluation.py time FOLDER --rounds 5     both ways in turn, for 1,000 cases
    python benchmarks/evaluation.py memory FOLDER         of 250, 1,000 and 4,000 cases
    python benchmarks/evaluation.py evaluate FOLDER METRIC ...    ours, once: results.csv and summary.json

`make` draws 250 cases; those beyond are links to them.
"""

import argparse
import csv
import ctypes
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
from scipy.ndimage import gaussian_filter

DRAWN, SIZES, SIDE = 250, (250, 1000, 4000), 256
PR_SET_CHILD_SUBREAPER = 36  # of Linux: processes whose parent ends become ours
PARTS = {"references": ".png", "prediction": ".png", "prediction/probability/1_lung": ".tif"}
OVERLAP = ("Dice", "IoU", "precision", "recall", "volume_error")
SURFACE = ("HD95", "ASSD", "NSD")
ALL = (*OVERLAP, *SURFACE, "ECE", "Brier")
DATASET = {"labels": {"background": 0, "lung": 1}, "file_ending": ".png", "channel_names": {"0": "X-ray"}}


def lungs(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """A reference, and the probability that a segmentation with another boundary would have."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    distance = np.ones((SIDE, SIDE))
    for centre in (0.3, 0.7):
        radii = random.uniform(0.25, 0.35), random.uniform(0.1, 0.15)
        distance = np.minimum(distance, np.hypot((rows - 0.5) / radii[0], (columns - centre) / radii[1]) - 1)
    noise = gaussian_filter(random.randn(SIDE, SIDE), 8)
    return distance < 0, 1 / (1 + np.exp(20 * (distance + 0.1 * noise / noise.std())))


def make(folder: Path) -> None:
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    from nnunet_diffusion_ensemble.prediction.folder import PROBABILITY, PredictionFolder

    random, reader, properties = np.random.RandomState(0), NaturalImage2DIO(), {"spacing": (999, 1, 1)}
    for size, part in product(SIZES, PARTS):
        (folder / str(size) / part).mkdir(parents=True)
    targets = {size: PredictionFolder(folder / str(size) / "prediction", ".png", reader) for size in SIZES}
    for target in targets.values():
        target.begin({}, {"label_manager": "LabelManager"}, DATASET)
    for name in (f"case_{number:04d}" for number in range(DRAWN)):
        reference, probability = lungs(random)
        file = folder / str(DRAWN) / "references" / f"{name}.png"
        reader.write_seg(reference[None].astype(np.uint8), str(file), properties)
        with targets[DRAWN].new_case(name) as files:
            files.write_segmentation((probability > 0.5)[None].astype(np.uint8), properties)
            files.write_map(probability[None], properties, PROBABILITY, "1_lung")
    for size in SIZES[1:]:
        for number, (part, ending) in product(range(size), PARTS.items()):
            drawn = folder / str(DRAWN) / part / f"case_{number % DRAWN:04d}{ending}"
            os.link(drawn, folder / str(size) / part / f"case_{number:04d}{ending}")


def evaluate(folder: Path, metrics: Sequence[str]) -> None:
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    from nnunet_diffusion_ensemble.evaluation.cases import EvaluatedCase, evaluate_folder
    from nnunet_diffusion_ensemble.evaluation.settings import EvaluationSettings
    from nnunet_diffusion_ensemble.evaluation.summary import write_summary

    cases = {file.stem: file for file in sorted((folder / "references").iterdir())}
    settings = EvaluationSettings(metrics=tuple(metrics), unit="px", num_processes=2)
    found = evaluate_folder(folder / "prediction", cases, DATASET, NaturalImage2DIO(), settings)
    evaluated = [case for case in found if isinstance(case, EvaluatedCase)]  # one that fails ends it
    with (folder / "results.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(astuple(score) for case in evaluated for score in case.scores)
    write_summary(folder / "prediction" / "summary.json", evaluated)


def command(folder: Path, metrics: Sequence[str]) -> list[str]:
    """Ours, or nnU-Net's where there are no metrics to choose."""
    if metrics:
        return [sys.executable, __file__, "evaluate", str(folder), *metrics]
    prediction = folder / "prediction"
    files = ["-djfile", prediction / "dataset.json", "-pfile", prediction / "plans.json"]
    script = Path(sys.executable).with_name("nnUNetv2_evaluate_folder")
    return [*map(str, (script, folder / "references", prediction, *files)), "-np", "2"]


@dataclass(frozen=True)
class Cost:
    """Of a process with all its descendants: time, time of all processors, and memory that they share counted once."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run(arguments: Sequence[str], watch_memory: bool = False) -> Cost:
    start, before, peak = time.perf_counter(), cpu_seconds(), 0.0
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while watch_memory and process.poll() is None:
            peak = max(peak, proportional_memory(process.pid))
            time.sleep(0.3)
        _, errors = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(errors)
    with suppress(ChildProcessError):  # until there is none
        while True:
            os.wait()  # processes that it left behind are ours, see `main`, and count once they have ended
    return Cost(seconds, cpu_seconds() - before, peak / 1e6)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def proportional_memory(pid: int) -> float:
    """Of a process and its descendants, in bytes; what n processes share counts as 1/n of each (Linux)."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    own = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return own * 1024 + sum(proportional_memory(int(child)) for child in children)


def compare_times(folder: Path, rounds: int) -> None:
    ways = {"nnUNetv2_evaluate_folder": (), "ours, overlap": OVERLAP}
    ways |= {"ours, overlap and surface": (*OVERLAP, *SURFACE), "ours, everything": ALL}
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, metrics in ways.items():
            costs[way].append(run(command(folder / "1000", metrics)))
            print(f"  {way}: {costs[way][-1]}", file=sys.stderr, flush=True)
    summaries = []
    for metrics in (OVERLAP, ()):
        run(command(folder / "1000", metrics))
        summaries.append((folder / "1000" / "prediction" / "summary.json").read_text())
    print(f"The same summary.json: {summaries[0] == summaries[1]}")
    print("| 1,000 cases | CPU seconds, median (least to most) | of nnU-Net's | seconds | of nnU-Net's |")
    print("|---|---|---|---|---|")
    for way in ways:
        cells = [way]
        for kind in ("cpu_seconds", "seconds"):
            stock, ours = ([getattr(cost, kind) for cost in costs[name]] for name in ("nnUNetv2_evaluate_folder", way))
            cells += [f"{median(ours):.1f} ({min(ours):.1f} to {max(ours):.1f})", f"{median(ours) / median(stock):.2f}"]
        print(f"| {' | '.join(cells)} |")


def compare_memory(folder: Path) -> None:
    print("| cases | nnU-Net's, MB | ours, overlap, MB | ours, everything, MB |\n|---|---|---|---|")
    for size in SIZES:
        peaks = [run(command(folder / str(size), metrics), True).peak_mb for metrics in ((), OVERLAP, ALL)]
        print(f"| {size:,} | {' | '.join(f'{peak:.0f}' for peak in peaks)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "time", "memory", "evaluate"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("metrics", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    if args.what == "make":
        make(args.folder)
    elif args.what == "evaluate":
        evaluate(args.folder, args.metrics)
    elif args.what == "time":
        compare_times(args.folder, args.rounds)
    else:
        compare_memory(args.folder)


if __name__ == "__main__":
    main()
