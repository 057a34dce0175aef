"""Few labelled X-rays of one hospital, tested on another: trainings of equal wall-clock time, Dice of each timestep.

    python benchmarks/xrays.py prepare DATA WORK --size 64       # DATA: the folder with montgomery/, shenzhen/, ...
    python benchmarks/xrays.py train WORK nnUNetTrainer PLANS FOLD --seconds 1800
    python benchmarks/xrays.py evaluate WORK TRAINER PLANS FOLD [--timesteps]

`prepare` makes Dataset064_Lungs with the folds of few_label_splits.json (fold = 5 * seed + position of n in 1, 3, 6,
12, 24). The variables nnUNet_raw, nnUNet_preprocessed and nnUNet_results must be set.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

LABEL_COUNTS = (1, 3, 6, 12, 24)
ITERATIONS_PER_EPOCH = 50
MEASURED_ITERATIONS = 10


def prepare(data: Path, work: Path, size: int, dataset: str) -> None:
    """Converts Montgomery's pool (labelled), the unlabelled images and both test sets."""
    from nnunet_diffusion_ensemble.convert import convert

    protocol = json.loads((data / "few_label_splits.json").read_text())
    test = set(protocol["in_domain_test"])
    sources = {"pool": lambda name: name not in test, "montgomery": lambda name: name in test}
    for target, belongs in sources.items():
        for kind in ("images", "masks"):
            (work / target / kind).mkdir(parents=True, exist_ok=True)
            for file in (data / "montgomery" / kind).iterdir():
                if belongs(file.stem):
                    shutil.copy(file, work / target / kind / file.name)
    unlabelled = [data / "unlabelled_nih", data / "unlabelled_shenzhen"]
    raw = Path(os.environ["nnUNet_raw"])
    pool, options = work / "pool", {"labels": {"lung": 255}, "resize": (size, size), "overwrite": True}
    print(convert(pool / "images", pool / "masks", unlabelled, raw / dataset, **options))
    for name, folder in (("montgomery", work / "montgomery"), ("shenzhen", data / "shenzhen")):
        converted = work / f"Dataset999_{name}"
        print(convert(folder / "images", folder / "masks", [], converted, **options))
    names = sorted(file.stem for file in (pool / "images").iterdir())
    splits = []
    for seed in protocol["seeds"].values():
        rest = [name for name in names if name not in seed["train_order"]]
        splits += [{"train": seed["train_order"][:n], "val": rest[:4]} for n in LABEL_COUNTS]
    (raw / dataset / "splits_final.json").write_text(json.dumps(splits))


def make_trainer(dataset: str, trainer: str, plans: str, fold: int):
    """A fresh trainer on the CPU or the first GPU."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = get_trainer_from_args(dataset, "2d", fold, trainer, plans, device=device)
    made.num_iterations_per_epoch, made.num_val_iterations_per_epoch = ITERATIONS_PER_EPOCH, 1
    return made


def train(dataset: str, trainer: str, plans: str, fold: int, seconds: float, batch_size: int | None) -> None:
    """Measures an iteration, then trains for as many epochs as fit, so that the learning rate falls to its end."""
    probe = make_trainer(dataset, trainer, plans, fold)
    _set_batch_size(probe, batch_size)
    probe.on_train_start()
    probe.on_train_epoch_start()
    start = time.time()
    for i in range(MEASURED_ITERATIONS + 2):
        if i == 2:
            start = time.time()
        probe.train_step(next(probe.dataloader_train))
    per_iteration = (time.time() - start) / MEASURED_ITERATIONS
    del probe
    made = make_trainer(dataset, trainer, plans, fold)
    _set_batch_size(made, batch_size)
    made.num_epochs = max(1, round(seconds / per_iteration / (ITERATIONS_PER_EPOCH + 1)))
    print(f"{per_iteration:.3f} s an iteration: {made.num_epochs} epochs of {ITERATIONS_PER_EPOCH} iterations")
    start = time.time()
    made.run_training()
    print(f"Trained for {time.time() - start:.0f} s")


def _set_batch_size(trainer, batch_size: int | None) -> None:
    if batch_size is not None:
        trainer.configuration_manager.configuration["batch_size"] = batch_size


def evaluate(work: Path, dataset: str, trainer: str, plans: str, fold: int, per_timestep: bool) -> None:
    """Prints mean Dice on both hospitals' test cases; per timestep by naming one timestep in the model's plans."""
    model = Path(os.environ["nnUNet_results"]) / dataset / f"{trainer}__{plans}__2d"
    choices: list[list[int] | None] = [None]
    if per_timestep:
        settings = json.loads((model / "plans.json").read_text())["configurations"]["2d"]["diffusion"]
        choices += [[t] for t in settings["ensemble"]["timesteps"]]
    for timesteps in choices:
        row = {name: predict_and_score(model, work, name, fold, timesteps) for name in ("montgomery", "shenzhen")}
        print(f"{trainer} {plans} fold {fold} timesteps {timesteps or 'all'}: {json.dumps(row)}", flush=True)


def predict_and_score(model: Path, work: Path, domain: str, fold: int, timesteps: list[int] | None) -> float:
    """Mean Dice of nnU-Net's prediction with its defaults."""
    reduced = work / "models" / f"{model.name}_{'all' if timesteps is None else timesteps[0]}"
    shutil.rmtree(reduced, ignore_errors=True)
    shutil.copytree(model, reduced, ignore=lambda _, names: [n for n in names if n.startswith("fold_")])
    (reduced / f"fold_{fold}").symlink_to((model / f"fold_{fold}").resolve())
    if timesteps is not None:
        plans = json.loads((reduced / "plans.json").read_text())
        plans["configurations"]["2d"]["diffusion"]["ensemble"]["timesteps"] = timesteps
        (reduced / "plans.json").write_text(json.dumps(plans))
    output = work / "predictions" / f"{reduced.name}_{fold}_{domain}"
    data = work / f"Dataset999_{domain}"
    run = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as f; f()"
    arguments = ["-i", data / "imagesTr", "-o", output, "-m", reduced, "-f", fold, "-device", "cpu"]
    subprocess.run(
        [sys.executable, "-c", run, *map(str, arguments)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder2

    found = compute_metrics_on_folder2(
        str(data / "labelsTr"),
        str(output),
        str(reduced / "dataset.json"),
        str(reduced / "plans.json"),
        str(output / "summary.json"),
        num_processes=1,
    )
    summary = found or json.loads((output / "summary.json").read_text())
    return round(summary["foreground_mean"]["Dice"], 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("prepare", "train", "evaluate"))
    parser.add_argument("paths", nargs="+", help="see above")
    parser.add_argument("--dataset", default="Dataset064_Lungs")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--timesteps", action="store_true")
    args = parser.parse_args()
    if args.step == "prepare":
        prepare(Path(args.paths[0]), Path(args.paths[1]), args.size, args.dataset)
        return
    work, trainer, plans, fold = args.paths
    if args.step == "train":
        train(args.dataset, trainer, plans, int(fold), args.seconds, args.batch_size)
    else:
        evaluate(Path(work), args.dataset, trainer, plans, int(fold), args.timesteps)


if __name__ == "__main__":
    main()
