"""Step `export`: weights, samples, curves and log of the pretraining, also of one that was ended early."""

import os
import shutil
from pathlib import Path

from common import SMALL, step_arguments
from results import add_result

from nnunet_diffusion_ensemble import load_denoiser

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")


def main() -> None:
    args = step_arguments(__doc__)
    trained = Path(os.environ["nnUNet_results"]) / args.dataset / f"DiffusionPretrainTrainer__{SMALL}__2d" / "fold_all"
    checkpoint = next((trained / name for name in CHECKPOINTS if (trained / name).is_file()), None)
    if checkpoint is None:
        raise FileNotFoundError(f"There is no checkpoint in {trained}: pretrain first.")
    denoiser = args.output / f"denoiser-{args.size}.pth"
    load_denoiser(checkpoint).export(denoiser, half=True)
    for name in ("progress.png", "samples.png"):
        if (trained / name).is_file():
            shutil.copy(trained / name, args.output / name)
    logs = sorted(trained.glob("training_log*.txt"))
    (args.output / "training_log.txt").write_text("".join(log.read_text() for log in logs))
    size = denoiser.stat().st_size / 1e6
    add_result(args.output, "denoiser", {"file": denoiser.name, "MB": size, "of": checkpoint.name})


if __name__ == "__main__":
    main()
