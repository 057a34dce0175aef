"""Step `study`: few labelled X-rays, several trainers side by side, many trainings at a time, tested on both hospitals.

The commands of docs/explanation/results.md, with `nnunet-diffusion few-label` in several processes. Rounds of more
labels come first; what a round has found is kept when the time runs out in the next one.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from common import StepArguments, step_arguments
from results import add_result

PLANS, SHIPPED = "Study", "chest-xray-64"
TRAINERS = (
    *("DiffusionEnsembleTrainer", "ScratchTrainer", "nnUNetTrainerShiftAugmentation", "nnUNetTrainer"),
    *("TEDMTrainer", "nnUNetTrainerDA5"),
)
ROUNDS, SEEDS, BATCH_SIZE = (6, 1, 12, 3), (0, 1, 2), 12
MINUTES, ITERATIONS_PER_EPOCH, CORES_PER_PROCESS = 0.75, 100, 2
COMMAND = (sys.executable, "-m", "nnunet_diffusion_ensemble.cli")


def denoiser_for(args: StepArguments) -> str:
    """The one of the step `export`, else the shipped one."""
    exported = args.output / f"denoiser-{args.size}.pth"
    return str(exported) if exported.is_file() else SHIPPED


def make_plans(args: StepArguments) -> None:
    named = ("-d", str(args.dataset_id), "-p", PLANS)
    batch = ("--batch-size", str(2 if args.is_dry_run else BATCH_SIZE))
    subprocess.run([*COMMAND, "plan", *named, "--denoiser", denoiser_for(args), *batch], check=True)
    subprocess.run([*COMMAND, "preprocess", *named, "-c", "2d"], check=True)


def study_command(args: StepArguments, num_labels: int, output: Path) -> list[str]:
    trainers, seeds = (TRAINERS[:1], SEEDS[:1]) if args.is_dry_run else (TRAINERS, SEEDS)
    minutes, iterations = (0.01, 1) if args.is_dry_run else (MINUTES, ITERATIONS_PER_EPOCH)
    options: dict[str, Sequence[object]] = {
        "-d": [args.dataset_id],
        "-p": [PLANS],
        "--labels": [num_labels],
        "--seeds": seeds,
        "--trainers": trainers,
        "--splits": [args.work / f"images_{args.size}" / "few_label_splits.json"],
        "--minutes": [minutes],
        "--iterations-per-epoch": [iterations],
        "--benchmark": [args.work / f"xrays_{args.size}" / "domains.yaml"],
        "-o": [output],
        "-device": [args.device],
    }
    return [*COMMAND, "few-label", *(str(part) for name, values in options.items() for part in (name, *values))]


def run_study(args: StepArguments, num_labels: int) -> None:
    """Trains in several processes, the last of which runs the benchmark; raises CalledProcessError."""
    output, processes = args.work / f"study_n{num_labels}", (os.cpu_count() or 1) // CORES_PER_PROCESS
    processes = 1 if args.is_dry_run else max(1, processes)
    command, environment = study_command(args, num_labels, output), {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["nnUNet_n_proc_DA"] = "0" if args.is_dry_run else "1"
    parts = [
        subprocess.Popen([*command, "--part", str(part), "--parts", str(processes)], env=environment)
        for part in range(processes)
    ]
    if any([part.wait() for part in parts]):
        raise subprocess.CalledProcessError(1, command)
    found = output / "benchmark" / "results.csv"
    shutil.copy(found, args.output / f"study_{args.size}_n{num_labels}.csv")
    for row in mean_dice(found):
        add_result(args.output, "study", {"card": args.card, "size": args.size, "minutes": MINUTES, **row})


def mean_dice(file: Path) -> list[dict[str, object]]:
    """Mean over cases and seeds of each trainer."""
    results = pd.read_csv(file)
    dice = results[(results["metric"] == "Dice") & results["timestep"].isna()]
    table = dice.groupby(["model", "labelled_cases", "domain"])["value"].mean().unstack("domain").reset_index()
    return table.to_dict("records")


def main() -> None:
    args = step_arguments(__doc__)
    make_plans(args)
    for num_labels in (1,) if args.is_dry_run else ROUNDS:
        run_study(args, num_labels)


if __name__ == "__main__":
    main()
