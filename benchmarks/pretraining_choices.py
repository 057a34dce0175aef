"""Which objective should pretraining have? One denoiser per variant, then a fixed short head training on six labels.

    python benchmarks/pretraining_choices.py run WORK VARIANT...     # all variants if none is named
    python benchmarks/pretraining_choices.py table WORK

Needs the data set and the test sets of `benchmarks/xrays.py prepare DATA WORK`. Denoised-image error: root mean
square of (image estimated from the noised image - image) on held-out images, at equal signal-to-noise ratios, so that
it can be compared between predictions and schedules, which the training losses cannot.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path

DATASET_ID, DATASET = 64, "Dataset064_Lungs"
FOLDS = (2, 7)  # six labels, seeds 0 and 1 of the few-label protocol
ALPHA_BAR = (0.999, 0.99, 0.9, 0.5, 0.1, 0.01)
VARIANTS = {
    "EpsCosine": ["--prediction-type", "epsilon", "--schedule", "cosine", "--loss-weighting", "prediction"],
    "VCosine": ["--prediction-type", "v_prediction", "--schedule", "cosine", "--loss-weighting", "prediction"],
    "VCosineMinSNR": ["--prediction-type", "v_prediction", "--schedule", "cosine", "--loss-weighting", "min_snr"],
    "VCosineNoise": ["--prediction-type", "v_prediction", "--schedule", "cosine", "--loss-weighting", "noise"],
    "VLinear": ["--prediction-type", "v_prediction", "--schedule", "linear", "--loss-weighting", "prediction"],
}
COMMON = "--base-features 16 --blocks-per-stage 1 --mirror-axes -1 --epochs 3 --iterations 100 --pretraining-epochs 10"
COMMON += " --pretraining-batch-size 16 --pretraining-learning-rate 5e-4"


def run(work: Path, variant: str) -> None:
    """Plans, pretrains, trains a head per seed and evaluates on both hospitals; what is finished is not done again."""
    log = work / f"{variant}.log"
    plans = Path(os.environ["nnUNet_preprocessed"]) / DATASET / f"{variant}.json"
    if not plans.is_file():
        _call(log, f"nnunet-diffusion plan -d {DATASET_ID} -p {variant} {COMMON}", *VARIANTS[variant])
    if not (plans.parent / "nnUNetPlans_2d").is_dir():  # the same data for all variants
        _call(log, f"nnunet-diffusion preprocess -d {DATASET_ID} -c 2d -p {variant}")
    train = f"nnUNetv2_train {DATASET_ID} 2d {{}} -tr {{}} -p {variant} -device cpu"
    if not _checkpoint("DiffusionPretrainTrainer", variant, "all").is_file():
        _call(log, train.format("all", "DiffusionPretrainTrainer"))
    benchmark = Path(__file__).with_name("xrays.py")
    for fold in FOLDS:
        if not _checkpoint("TEDMTrainer", variant, fold).is_file():
            _call(log, train.format(fold, "TEDMTrainer"))
        if f"{variant} fold {fold}: {{" not in log.read_text():
            _call(log, f"python {benchmark} evaluate {work} TEDMTrainer {variant} {fold}")


def _call(log: Path, command: str, *more: str) -> None:
    with log.open("a") as file:
        subprocess.run([*command.split(), *more], check=True, stdout=file, stderr=subprocess.STDOUT)


def _checkpoint(trainer: str, variant: str, fold: int | str) -> Path:
    model = Path(os.environ["nnUNet_results"]) / DATASET / f"{trainer}__{variant}__2d"
    return model / f"fold_{fold}" / "checkpoint_final.pth"


def table(work: Path) -> None:
    """Prints Markdown: denoised-image error at equal signal-to-noise ratios, Dice per hospital (mean over seeds)."""
    print("| variant | " + " | ".join(f"error at {a}" for a in ALPHA_BAR) + " | Montgomery | Shenzhen |")
    print("|---|" + "---|" * (len(ALPHA_BAR) + 2))
    for variant in VARIANTS:
        if not _checkpoint("DiffusionPretrainTrainer", variant, "all").is_file():
            continue
        errors = [f"{error:.4f}" for error in denoising_errors(variant)]
        rows = [
            line
            for line in (work / f"{variant}.log").read_text().splitlines()
            if line.startswith("TEDMTrainer ") and "{" in line
        ]
        dice = [json.loads(row[row.index("{") :]) for row in rows]
        means = [f"{sum(d[name] for d in dice) / len(dice):.3f}" for name in ("montgomery", "shenzhen")] if dice else []
        print(f"| {variant} | " + " | ".join([*errors, *means]) + " |", flush=True)


def denoising_errors(variant: str) -> list[float]:
    """Root-mean-square error of the estimated image at each of ALPHA_BAR, over the held-out images."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    from nnunet_diffusion_ensemble.denoiser.noise import fixed_noise
    from nnunet_diffusion_ensemble.denoiser.pretrained import read_pretrained

    cpu = torch.device("cpu")
    trainer = get_trainer_from_args(DATASET, "2d", "all", "DiffusionPretrainTrainer", variant, device=cpu)
    trainer.disable_checkpointing = True
    trainer.initialize()
    _, held_out = trainer.get_dataloaders()
    denoiser = read_pretrained(_checkpoint("DiffusionPretrainTrainer", variant, "all")).module()
    errors = []
    for alpha_bar in ALPHA_BAR:
        t = int((denoiser.schedule.alpha_bar - alpha_bar).abs().argmin())
        squares = []
        for batch in [next(held_out) for _ in range(trainer.num_val_iterations_per_epoch)]:
            images = denoiser.scaled(batch["data"])
            noise, timesteps = fixed_noise(batch["index"], images.shape), torch.full((len(images),), t)
            with torch.no_grad():
                noised = denoiser.schedule.add_noise(images, noise, timesteps)
                estimate = denoiser.schedule.predicted_image(denoiser.unet(noised, timesteps), noised, timesteps)
            squares.append((estimate - images).square().flatten(1).mean(1))
        errors.append(torch.cat(squares).mean().sqrt().item())
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("run", "table"))
    parser.add_argument("work", type=Path)
    parser.add_argument("variants", nargs="*", choices=[[], *VARIANTS], default=[])
    args = parser.parse_args()
    if args.step == "table":
        table(args.work)
        return
    for variant in args.variants or VARIANTS:
        run(args.work, variant)


if __name__ == "__main__":
    main()
