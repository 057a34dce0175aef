"""A distilled student beside its ensemble, and its prediction's time beside that of stock nnU-Net.

    python benchmarks/distil.py STUDENT ENSEMBLE --fold 0 --cases Montgomery IMAGES REFERENCES --cases Shenzhen ...

STUDENT is a results folder that `nnunet-diffusion distil` wrote, ENSEMBLE that of its teacher. Stock is the network
that nnU-Net's own trainer builds from the student's plans, with random weights: what it predicts is not looked at. Each
model predicts the cases of all domains; times are medians of `--repeats` rounds in which the models take turns.
"""

import argparse
import contextlib
import io
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder2
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint, write_checkpoint
from nnunet_diffusion_ensemble.nnunet.raw_cases import number_of_channels

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
CHECKPOINT = "checkpoint_final.pth"


def make_stock(student: Path, fold: int | str, folder: Path) -> Path:
    """nnU-Net's own model of the student's plans, untrained."""
    shutil.copytree(student, folder, ignore=shutil.ignore_patterns("fold_*"))
    checkpoint = read_checkpoint(student / f"fold_{fold}" / CHECKPOINT)
    plans, dataset_json = (json.loads((student / name).read_text()) for name in ("plans.json", "dataset.json"))
    manager = PlansManager(plans)
    network = nnUNetTrainer.build_network_architecture(
        manager,
        manager.get_configuration(checkpoint["init_args"]["configuration"]),
        number_of_channels(dataset_json),
        manager.get_label_manager(dataset_json).num_segmentation_heads,
        False,
    )
    (folder / f"fold_{fold}").mkdir()
    write_checkpoint({**checkpoint, "network_weights": network.state_dict()}, folder / f"fold_{fold}" / CHECKPOINT)
    return folder


def predictor_of(model: Path, fold: int | str, device: str) -> nnUNetPredictor:
    predictor = nnUNetPredictor(
        device=torch.device(device), perform_everything_on_device=device == "cuda", allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(model), (fold,))
    return predictor


def predict(predictor: nnUNetPredictor, images: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    predictor.predict_from_files_sequential(str(images), str(output), overwrite=True)


def mean_dice(model: Path, references: Path, predictions: Path) -> float:
    described = (str(model / "dataset.json"), str(model / "plans.json"), str(predictions / "summary.json"))
    compute_metrics_on_folder2(str(references), str(predictions), *described, num_processes=1)
    return json.loads((predictions / "summary.json").read_text())["foreground_mean"]["Dice"]


def measure(args: argparse.Namespace, work: Path) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Mean Dice by model and domain, and seconds by model."""
    stock = make_stock(args.student, args.fold, work / "stock_model")
    models = {"student": args.student, "ensemble": args.ensemble, "stock": stock}
    predictors = {name: predictor_of(folder, args.fold, args.device) for name, folder in models.items()}
    domains = [(name, Path(images), Path(references)) for name, images, references in args.cases]
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for is_measured in (False, *(True for _ in range(args.repeats))):
        for name, predictor in predictors.items():
            start = CLOCKS[args.clock]()
            for domain, images, _ in domains:
                predict(predictor, images, work / name / domain)
            seconds[name] += [CLOCKS[args.clock]() - start] * is_measured
    dice = {
        name: {domain: mean_dice(models[name], labels, work / name / domain) for domain, _, labels in domains}
        for name in ("ensemble", "student")
    }
    return dice, {name: median(values) for name, values in seconds.items()}


def table(dice: dict[str, dict[str, float]], seconds: dict[str, float]) -> list[str]:
    lines = [
        f"{domain}: Dice of the ensemble {of_ensemble:.4f}, of the student {dice['student'][domain]:.4f} "
        f"({100 * (dice['student'][domain] - of_ensemble):+.2f} points)"
        for domain, of_ensemble in dice["ensemble"].items()
    ]
    for name in ("student", "ensemble"):
        ratio = seconds[name] / seconds["stock"]
        lines.append(f"Time of the {name} / stock: {seconds[name]:.2f} s / {seconds['stock']:.2f} s = {ratio:.3f}")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path)
    parser.add_argument("ensemble", type=Path)
    parser.add_argument("--fold", default=0, type=lambda text: text if text == "all" else int(text))
    parser.add_argument("--cases", nargs=3, action="append", required=True, metavar=("NAME", "IMAGES", "REFERENCES"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: where other things run as well")
    parser.add_argument("--device", default="cpu")
    args: Any = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        with contextlib.redirect_stdout(io.StringIO()):
            result = measure(args, Path(work))
        print(*table(*result), sep="\n")


if __name__ == "__main__":
    main()
