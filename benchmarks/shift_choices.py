"""What helps with few labels in another hospital: many ways of training, compared in one go on one machine.

    python benchmarks/shift_choices.py pack DATA PACKED.npz          # DATA: the folder with montgomery/, shenzhen/, ...
    python benchmarks/shift_choices.py run PACKED.npz OUTPUT --device cuda --minutes 8 --pretrain intensity wide
    python benchmarks/shift_choices.py table OUTPUT

`run` pretrains the named denoisers side by side, then trains the variants of `shift_study/variants.py` in their order
until the time is up. Each is trained with 1 and 6 labelled cases of Montgomery in the orders 3 and 4 of the few-label
protocol; orders 0 to 2 and the source's test cases are left for the results. `home` is the mean Dice on Montgomery's
other cases, `shenzhen` that on the other hospital.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from shift_study.data import SEEDS, pack
from shift_study.jobs import Workplace, pretrain_job, work
from shift_study.pretraining import PRETRAININGS
from shift_study.variants import Variant, variants

from nnunet_diffusion_ensemble import load_denoiser

MEASURES = ("home", "home cropped", "shenzhen", "shenzhen 1")


def chosen_variants(args: argparse.Namespace) -> dict[str, Variant]:
    found = variants(tuple(args.pretrain) + tuple(args.denoisers))
    if args.only:
        found = {name: found[name] for name in args.only}
    if args.iterations:
        found = {name: replace(variant, iterations=args.iterations) for name, variant in found.items()}
    return found


def recording_works(device: str) -> bool:
    """Whether steps can be recorded as CUDA graphs here; tried in a process of its own, which may fail."""
    if device != "cuda":
        return False
    command = [sys.executable, __file__, "try-recording"]
    try:
        return subprocess.run(command, timeout=60, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def try_recording() -> None:
    """Fails unless a recorded step trains as an eager one does."""
    from shift_study.networks import PlainUNet, architecture_of
    from shift_study.steps import Step, make_optimizer, segmentation_loss

    losses = []
    for recorded in (False, True):
        torch.manual_seed(0)
        network = PlainUNet(architecture_of((8, 16))).cuda()
        images, masks = torch.randn(4, 1, 32, 32).cuda(), torch.randint(2, (4, 32, 32)).cuda()
        optimizer = make_optimizer("AdamW", network.parameter_groups(1e-3, 0), 0.0)

        def loss(
            network: PlainUNet = network, images: torch.Tensor = images, masks: torch.Tensor = masks
        ) -> torch.Tensor:
            return segmentation_loss(network.logits_for_loss(images), masks)

        step = Step(loss, optimizer, recorded, torch.cuda.Stream())
        for _ in range(20):
            step(0.0)
        torch.cuda.synchronize()
        losses.append(float(loss()))
    print("losses after eager and recorded steps:", losses, flush=True)
    if not abs(losses[0] - losses[1]) < 0.02 * abs(losses[0]) + 0.02:
        raise SystemExit(1)


def run(args: argparse.Namespace) -> None:
    start = time.time()
    deadline = start + 60 * args.minutes
    recorded = recording_works(args.device) if args.graphs == "auto" else args.graphs == "yes"
    print(f"recorded steps: {recorded}", flush=True)
    if args.workers is None:
        args.workers = 1 if args.device == "cpu" else 8 if recorded else 14
    place = Workplace(args.output, args.packed, args.device, recorded, args.most_images)
    context = torch.multiprocessing.get_context("spawn")
    processes = []
    for number, name in enumerate(args.pretrain):
        pretraining = (number, place, name, args.pretrain_seconds)
        processes.append(context.Process(target=pretrain_job, args=pretraining))
    expected, found = tuple(args.pretrain), chosen_variants(args)
    for number in range(args.workers):
        waits = bool(expected) and number >= args.workers_while_pretraining
        arguments = (100 + number, place, found, expected, deadline, waits)
        processes.append(context.Process(target=work, args=arguments))
    for process in processes:
        process.start()
    for process in processes:
        process.join(max(1.0, deadline + args.grace - time.time()))
        if process.is_alive():
            process.kill()
    print(f"{time.time() - start:.0f} s", flush=True)
    for file in ("pretraining.jsonl", "errors.jsonl"):
        if (args.output / file).is_file():
            print((args.output / file).read_text(), flush=True)
    for file in sorted((args.output / "denoisers").glob("*.pth")):
        load_denoiser(file).export(args.output / f"{file.stem}-half.pth", half=True)
    text = table(args.output)
    (args.output / "table.md").write_text(text)
    print(text, flush=True)


def table(output: Path) -> str:
    """Mean Dice over the seeds, by variant and round, with 1 and 6 labelled cases."""
    file = output / "results.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    heads = [f"{measure}, n = {n}" for n in (1, 6) for measure in MEASURES]
    lines = ["| " + " | ".join(["variant", *heads, "iterations", "s"]) + " |", "|---" * (len(heads) + 3) + "|"]
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["variant"], row["round"]), []).append(row)
    for (name, number), group in groups.items():
        cells = [_cell(group, n, measure) for n in (1, 6) for measure in MEASURES]
        label = name if number == 0 else f"{name}, round {number}"
        ends = [f"{group[0]['iterations']}{' (cut)' if group[0]['cut'] else ''}", f"{group[0]['seconds']:.0f}"]
        lines.append("| " + " | ".join([label, *cells, *ends]) + " |")
    return "\n".join(lines)


def _cell(group: list[dict[str, Any]], number: int, measure: str) -> str:
    values = [row[measure] for row in group if row["n"] == number]
    if not values:
        return ""
    each = f" ({', '.join(f'{v:.3f}' for v in values)})" if len(values) == len(SEEDS) and measure == "shenzhen" else ""
    return f"{sum(values) / len(values):.4f}{each}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("data", type=Path)
    packing.add_argument("output", type=Path)
    packing.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    running = commands.add_parser("run")
    running.add_argument("packed", type=Path)
    running.add_argument("output", type=Path)
    running.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    running.add_argument("--minutes", type=float, default=8)
    running.add_argument("--grace", type=float, default=20, help="seconds for the last scores")
    running.add_argument("--workers", type=int, help="default: 8 with recorded steps, else 14; 1 on the CPU")
    running.add_argument("--workers-while-pretraining", type=int, default=2)
    running.add_argument("--pretrain", nargs="*", default=[], choices=PRETRAININGS, help="best expected first")
    running.add_argument("--pretrain-seconds", type=float, default=160)
    running.add_argument("--denoisers", nargs="*", default=[], help="names of files in OUTPUT/denoisers")
    running.add_argument("--only", nargs="*", default=[], help="variants, by name")
    running.add_argument("--iterations", type=int, help="in the place of each variant's own")
    running.add_argument("--most-images", type=int, help="of each kind, for trying this out")
    running.add_argument("--graphs", default="auto", choices=("auto", "yes", "no"))
    tabulating = commands.add_parser("table")
    tabulating.add_argument("output", type=Path)
    commands.add_parser("try-recording")
    args = parser.parse_args()
    if args.command == "pack":
        pack(args.data, args.output, tuple(args.sizes))
    elif args.command == "run":
        run(args)
    elif args.command == "table":
        print(table(args.output))
    else:
        try_recording()


if __name__ == "__main__":
    main()
