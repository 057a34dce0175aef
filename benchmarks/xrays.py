"""Few labelled X-rays of one hospital, tested on another: trainings of equal CPU time, Dice of each timestep.

    python benchmarks/xrays.py prepare DATA WORK --size 64       # DATA: the folder with montgomery/, shenzhen/, ...
    python benchmarks/xrays.py study WORK PLANS --trainers nnUNetTrainer TEDMTrainer --folds 0 2 --seconds 150
    python benchmarks/xrays.py evaluate WORK TRAINER PLANS FOLD [--timesteps]

`prepare` makes Dataset064_Lungs with the folds of few_label_splits.json (fold = 5 * seed + position of n in 1, 3, 6,
12, 24). `study` trains and tests what is not there yet (several processes may share the work) and prints the table so
far. Seconds are those of one CPU core. The variables nnUNet_raw, nnUNet_preprocessed and nnUNet_results must be set.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import time
from pathlib import Path
from statistics import mean

LABEL_COUNTS = (1, 3, 6, 12, 24)
ITERATIONS_PER_EPOCH = 100
MEASURED_ITERATIONS = 20
DOMAINS = ("montgomery", "shenzhen")
LENGTH = ("iterations", "seconds")


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
    """A fresh trainer on the CPU; with nnUNet_n_proc_DA=0 it augments in its own process, which then counts, too."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    made = get_trainer_from_args(dataset, "2d", fold, trainer, plans, device=torch.device("cpu"))
    made.num_iterations_per_epoch, made.num_val_iterations_per_epoch = ITERATIONS_PER_EPOCH, 1
    return made


def train(dataset: str, trainer: str, plans: str, fold: int, num_epochs: int) -> dict[str, float]:
    """Trains, and says how long that took."""
    made = make_trainer(dataset, trainer, plans, fold)
    made.num_epochs = num_epochs
    start = time.process_time()
    made.run_training()
    return {"seconds": round(time.process_time() - start), "iterations": num_epochs * ITERATIONS_PER_EPOCH}


def epochs_in(seconds: float, dataset: str, trainer: str, plans: str, fold: int) -> int:
    """Measures some iterations; so many epochs fit that the learning rate falls to its end in that time."""
    probe = make_trainer(dataset, trainer, plans, fold)
    probe.on_train_start()
    probe.on_train_epoch_start()
    for i in range(MEASURED_ITERATIONS + 2):
        if i == 2:
            start = time.process_time()
        probe.train_step(next(probe.dataloader_train))
    per_iteration = (time.process_time() - start) / MEASURED_ITERATIONS
    return max(1, round(seconds / per_iteration / (ITERATIONS_PER_EPOCH + 1)))


def study(
    work: Path,
    dataset: str,
    plans: str,
    trainers: list[str],
    folds: list[int],
    seconds: float,
    num_epochs: int | None,
) -> None:
    """One training and its Dice on both hospitals for each trainer and fold; a file for each, so that it can go on."""
    results = work / "study"
    results.mkdir(exist_ok=True)
    for fold in folds:
        for trainer in trainers:
            file = results / f"{trainer}__{plans}__{fold}.json"
            try:
                file.touch(exist_ok=False)  # taken: another process leaves it alone
            except FileExistsError:
                continue
            try:
                epochs = num_epochs or epochs_in(seconds, dataset, trainer, plans, fold)
                row = train(dataset, trainer, plans, fold, epochs)
                model = Path(os.environ["nnUNet_results"]) / dataset / f"{trainer}__{plans}__2d"
                row |= {domain: predict_and_score(model, work, domain, fold, None) for domain in DOMAINS}
                file.write_text(json.dumps(row))
            except BaseException:
                file.unlink()
                raise
    print(table(results, plans, trainers, folds))


def table(results: Path, plans: str, trainers: list[str], folds: list[int]) -> str:
    """Mean Dice over seeds (lowest to highest), for each number of labels and hospital."""
    counts = sorted({LABEL_COUNTS[fold % len(LABEL_COUNTS)] for fold in folds})
    heads = [f"n = {n}, {domain.capitalize()}" for n in counts for domain in DOMAINS]
    lines = ["| " + " | ".join(["trainer", *heads, *LENGTH]) + " |", "|---" * (len(heads) + 3) + "|"]
    for trainer in trainers:
        cells, trainings = [], []
        for n in counts:
            files = [results / f"{trainer}__{plans}__{f}.json" for f in folds if LABEL_COUNTS[f % 5] == n]
            rows = [json.loads(file.read_text()) for file in files if file.is_file() and file.stat().st_size]
            trainings += rows
            for domain in DOMAINS:
                dice = [row[domain] for row in rows]
                cells.append(f"{mean(dice):.3f} ({min(dice):.3f}-{max(dice):.3f})" if dice else "")
        length = [f"{round(mean(row[key] for row in trainings))}" if trainings else "" for key in LENGTH]
        lines.append(f"| {trainer} | " + " | ".join([*cells, *length]) + " |")
    return "\n".join(lines)


def evaluate(work: Path, dataset: str, trainer: str, plans: str, fold: int, per_timestep: bool) -> None:
    """Prints mean Dice on both hospitals' test cases; per timestep by naming one timestep in the model's plans."""
    model = Path(os.environ["nnUNet_results"]) / dataset / f"{trainer}__{plans}__2d"
    choices: list[list[int] | None] = [None]
    if per_timestep:
        settings = json.loads((model / "plans.json").read_text())["configurations"]["2d"]["diffusion"]
        choices += [[t] for t in settings["ensemble"]["timesteps"]]
    for timesteps in choices:
        row = {name: predict_and_score(model, work, name, fold, timesteps) for name in DOMAINS}
        print(f"{trainer} {plans} fold {fold} timesteps {timesteps or 'all'}: {json.dumps(row)}", flush=True)


def predict_and_score(model: Path, work: Path, domain: str, fold: int, timesteps: list[int] | None) -> float:
    """Mean Dice of nnU-Net's prediction with its defaults, one case after another."""
    import torch
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder2
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    if timesteps is not None:
        reduced = work / "models" / f"{model.name}_{timesteps[0]}"
        shutil.rmtree(reduced, ignore_errors=True)
        shutil.copytree(model, reduced, ignore=lambda _, names: [n for n in names if n.startswith("fold_")])
        (reduced / f"fold_{fold}").symlink_to((model / f"fold_{fold}").resolve())
        plans = json.loads((reduced / "plans.json").read_text())
        plans["configurations"]["2d"]["diffusion"]["ensemble"]["timesteps"] = timesteps
        (reduced / "plans.json").write_text(json.dumps(plans))
        model = reduced
    output, data = work / "predictions" / f"{model.name}_{fold}_{domain}", work / f"Dataset999_{domain}"
    output.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(model), (fold,))
        predictor.predict_from_files_sequential(str(data / "imagesTr"), str(output), overwrite=True)
        compute_metrics_on_folder2(
            str(data / "labelsTr"),
            str(output),
            str(model / "dataset.json"),
            str(model / "plans.json"),
            str(output / "summary.json"),
            num_processes=1,
        )
    return round(json.loads((output / "summary.json").read_text())["foreground_mean"]["Dice"], 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("prepare", "study", "evaluate"))
    parser.add_argument("paths", nargs="+", help="see above")
    parser.add_argument("--dataset", default="Dataset064_Lungs")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--trainers", nargs="+", default=[])
    parser.add_argument("--folds", type=int, nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--epochs", type=int, help=f"of {ITERATIONS_PER_EPOCH} iterations, instead of --seconds")
    parser.add_argument("--timesteps", action="store_true")
    args = parser.parse_args()
    work = Path(args.paths[0])
    if args.step == "prepare":
        prepare(work, Path(args.paths[1]), args.size, args.dataset)
    elif args.step == "study":
        study(work, args.dataset, args.paths[1], args.trainers, args.folds, args.seconds, args.epochs)
    else:
        trainer, plans, fold = args.paths[1:]
        evaluate(work, args.dataset, trainer, plans, int(fold), args.timesteps)


if __name__ == "__main__":
    main()
