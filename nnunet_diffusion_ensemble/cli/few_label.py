"""`nnunet-diffusion few-label`: a whole label-efficiency study, from the splits to the benchmark."""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_diffusion_ensemble.cli import benchmark as cli_benchmark
from nnunet_diffusion_ensemble.cli import train as cli_train
from nnunet_diffusion_ensemble.cli.argument_types import not_negative, positive

if TYPE_CHECKING:
    from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
    from nnunet_diffusion_ensemble.study.few_label import LabelledDataset, Study, Training
    from nnunet_diffusion_ensemble.study.label_orders import LabelOrders
    from nnunet_diffusion_ensemble.system.child_processes import Screen

HELP = "train several trainers on few labelled cases, several draws, and benchmark them"
ORDERS = "label_orders.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("-d", "--dataset", required=True, help="number or name of the data set, preprocessed")
    parser.add_argument("-c", "--configuration", default="2d", help="e.g. 2d, 3d_fullres (%(default)s)")
    parser.add_argument("-p", "--plans-name", default="nnUNetDiffusionEnsemblePlans", help="%(default)s")
    parser.add_argument(
        "--labels", type=positive, nargs="+", default=[1, 3, 6, 12, 24], help="numbers of labelled cases"
    )
    parser.add_argument("--seeds", type=not_negative, nargs="+", default=[0, 1, 2], help="draws of cases (0 1 2)")
    parser.add_argument(
        "--trainers", nargs="+", required=True, metavar="TRAINER[:PLANS]", help="with plans of its own if it needs them"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for logs and the benchmark")
    parser.add_argument("--splits", type=Path, help="JSON with the order of labelled cases for each seed")
    parser.add_argument(
        "--hold-out", type=positive, default=0, help="without --splits: cases to test on, never trained on"
    )
    parser.add_argument("--benchmark", type=Path, help="specification without models: the domains to test on")
    parser.add_argument("--part", type=not_negative, default=0, help="which part of the trainings to run here (0)")
    parser.add_argument("--parts", type=positive, default=1, help="into how many they are shared out (1)")
    parser.add_argument("--dry-run", action="store_true", help="only say what there is to do")
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="%(default)s")
    cli_train.add_length(parser)


def run(args: argparse.Namespace) -> int:
    """Trains what is not there yet of this part; after the last training of all it runs the benchmark."""
    from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
    from nnunet_diffusion_ensemble.study.few_label import (
        LabelledDataset,
        add_folds,
        check_trainers,
        make_study,
        read_rivals,
    )
    from nnunet_diffusion_ensemble.system.atomic import write_text
    from nnunet_diffusion_ensemble.system.child_processes import Screen
    from nnunet_diffusion_ensemble.system.guard import alone_in
    from nnunet_diffusion_ensemble.system.places import refuse_file

    refuse_file(args.output)
    PredictionSettings(device=args.device)  # refuses one that is not there
    dataset = LabelledDataset.find(args.dataset)
    rivals = read_rivals(args.trainers, args.plans_name)
    dataset.check_plans(rivals, args.configuration)
    check_trainers(rivals)
    orders = _orders(args, dataset)
    limit = None if args.minutes is None else cli_train.budget(args)
    labels = sorted(set(args.labels))
    study = make_study(dataset, args.configuration, rivals, labels, orders, limit)
    part, screen = study.part(args.part, args.parts), Screen()
    spec = _specification(study, dataset, orders, args)
    screen.say(_plan(study, part, args))
    if args.dry_run:
        return 0
    add_folds(dataset, labels, orders)
    with alone_in(args.output, wait=True):  # several parts may begin at once
        write_text(args.output / ORDERS, json.dumps(orders.to_json(), indent=2))
    _train(part, args, screen)
    if to_do := study.to_do():
        screen.say(f"{len(to_do)} training(s) elsewhere are not done yet. Run this again when they are.")
    elif spec is None:
        screen.say("All trained. There is nothing to test on: use --benchmark, or --hold-out.")
    else:
        output = cli_benchmark.run_and_show(spec)
        with alone_in(output.folder, wait=True):
            write_text(output.study_file, args.command_line)
    return 0


def _specification(
    study: "Study", dataset: "LabelledDataset", orders: "LabelOrders", args: argparse.Namespace
) -> "BenchmarkSpec | None":
    """The benchmark of all trainings; None if there is nothing to test on."""
    from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
    from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec

    held_out = [dataset.held_out(orders.held_out)] if orders.held_out else []
    output = (args.output / "benchmark").absolute()
    if args.benchmark:
        values = read_spec(args.benchmark, output, study.models()).model_dump()
    elif held_out:
        values = {"output": output, "models": study.models(), "domains": []}
    else:
        return None
    values |= {"domains": [*values["domains"], *held_out], "device": args.device}
    spec = BenchmarkSpec.read(values)
    dataset.check_untouched(spec.domains, orders)
    return spec


def _orders(args: argparse.Namespace, dataset: "LabelledDataset") -> "LabelOrders":
    from nnunet_diffusion_ensemble.study.label_orders import draw_orders, read_orders

    if args.splits and args.hold_out:
        raise ValueError("--hold-out draws cases, --splits names them (in_domain_test). Use one of them.")
    seeds, cases = sorted(set(args.seeds)), dataset.cases()
    return read_orders(args.splits, cases, seeds) if args.splits else draw_orders(cases, seeds, args.hold_out)


def _plan(study: "Study", part: "Study", args: argparse.Namespace) -> str:
    """What there is, what is done and how long that took, and what will be run here."""
    from nnunet_diffusion_ensemble.system.child_processes import clock

    length = f", each {study.limit}" if study.limit else ""
    lines = [f"{len(study.trainings)} trainings{length}:"]
    for name, progress in study.progress().items():
        lines.append(f"  {name}: {progress.done} of {progress.total} done in {clock(progress.seconds)}")
    if others := study.of_unknown_length():
        lines.append(
            f"{len(others)} of the finished ones, such as {others[0].folder}, were made in another way: whether they "
            "had the same time is for you to know."
        )
    if args.parts > 1:
        lines.append(f"Part {args.part} of {args.parts} has {len(part.trainings)} of them.")
    to_do = part.to_do()
    left = study.seconds_for(to_do)
    if to_do:
        time = "" if left is None else f", which takes about {clock(left)}"
        lines.append(f"To do here{time}:")
        lines += [f"  $ {training.command(args.device, study.limit)}" for training in to_do]
    return "\n".join(lines)


def _train(part: "Study", args: argparse.Namespace, screen: "Screen") -> None:
    from nnunet_diffusion_ensemble.study.few_label import claimed
    from nnunet_diffusion_ensemble.system.child_processes import Job, TrainingProgress, run_jobs
    from nnunet_diffusion_ensemble.system.signals import ending_on_signals

    logs = args.output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    to_do = part.to_do()
    with ending_on_signals():
        for number, (training, is_ours) in enumerate(claimed(to_do), 1):
            title = f"{training.rival.name}, {training.num_labels} labelled, seed {training.seed}"
            screen.say(f"[{number}/{len(to_do)}] {title}{'' if is_ours else ': another process has it'}")
            if is_ours:  # Ctrl-C ends it; the same command goes on with it
                job = Job(training.command(args.device, part.limit), logs / _log(training), TrainingProgress())
                run_jobs([job], Path.cwd(), _environment(), screen)


def _log(training: "Training") -> str:
    from nnunet_diffusion_ensemble.benchmark.results import as_name

    return f"{as_name(training.rival.name)}_n{training.num_labels:03d}_seed{training.seed}.txt"


def _environment() -> Mapping[str, str]:
    from nnunet_diffusion_ensemble.nnunet.register import EXTERNAL_VARIABLE, external_folders

    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", EXTERNAL_VARIABLE: external_folders()}
