"""Step `data`: the packed X-rays become a data set of nnU-Net, with both plans, preprocessed."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from common import PLANNED, SMALL, SMALL_FEATURES, TINY_FEATURES, StepArguments, step_arguments
from PIL import Image

from nnunet_diffusion_ensemble.planning.plan import plan, preprocess
from nnunet_diffusion_ensemble.planning.planner import PlanningOptions

sys.path.append(str(Path(__file__).parents[1]))
import xrays

SETTINGS = {"mirror_axes": (), "pretraining.loss_weighting": "min_snr"}  # left is left; as the shipped denoiser
TINY_SETTINGS = {"pretraining.num_samples": 2, "pretraining.num_sampling_steps": 2, "ensemble.timesteps": (1, 50)}


def unpack_images(packed: Path, target: Path) -> None:
    """Writes the folders of X-rays and masks that prepare.py packed."""
    with np.load(packed) as arrays:
        for folder in [name for name in arrays.files if f"{name}/names" in arrays.files]:
            (target / folder).mkdir(parents=True)
            for pixels, name in zip(arrays[folder], arrays[f"{folder}/names"], strict=True):
                Image.fromarray(pixels).save(target / folder / str(name))
        (target / "few_label_splits.json").write_text(str(arrays["splits"]))


def set_features(plans_file: Path, features: tuple[int, ...]) -> None:
    """The widths of the stages, as far as the plans have stages."""
    plans = json.loads(plans_file.read_text())
    arguments = plans["configurations"]["2d"]["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = list(features[: arguments["n_stages"]])
    plans_file.write_text(json.dumps(plans, indent=1))


def main() -> None:
    args = step_arguments(__doc__)
    raw, preprocessed = (Path(os.environ[f"nnUNet_{name}"]) for name in ("raw", "preprocessed"))
    for folder in (raw, preprocessed):
        folder.mkdir(exist_ok=True)
    images = args.work / f"images_{args.size}"
    unpack_images(args.images / f"{args.size}.npz", images)
    xrays.prepare(images, args.work / f"xrays_{args.size}", args.size, args.dataset)
    make_plans(args, preprocessed / args.dataset)


def make_plans(args: StepArguments, folder: Path) -> None:
    settings = {**SETTINGS, "pretraining.batch_size": args.batch_size}
    if args.is_dry_run:
        settings |= TINY_SETTINGS
    processes = 1 if args.is_dry_run else os.cpu_count() or 1
    base = TINY_FEATURES[0] if args.is_dry_run else None
    for name, blocks in ((PLANNED, 1 if args.is_dry_run else None), (SMALL, 1)):
        options = PlanningOptions(
            base_features=base, blocks_per_stage=blocks, batch_size=args.batch_size, method=settings
        )
        plan(args.dataset_id, options, name, num_processes=processes)
    set_features(folder / f"{SMALL}.json", TINY_FEATURES if args.is_dry_run else SMALL_FEATURES)
    preprocess(args.dataset_id, ["2d"], PLANNED, processes)  # both plans share it


if __name__ == "__main__":  # workers import this file
    main()
