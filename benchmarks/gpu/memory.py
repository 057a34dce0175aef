"""Step `memory`: the planner's memory target beside the memory that is used with the batch that it derives from it.

That is `images_per_pass` of the plans: what nnU-Net's rule allows, whatever the size of the data set.
"""

import gc
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from common import DRY_BATCH_SIZE, PLANNED, StepArguments, Work, peak_mb, step_arguments
from results import add_result
from speed import TRAINERS

from nnunet_diffusion_ensemble.method import PLANS_KEY

TARGET_GB = 8  # nnU-Net's default, for which the plans were made


def works(args: StepArguments, images: int) -> Iterator[tuple[str, Work]]:
    """A training step of each trainer with so many images in a pass."""
    fits = {"ensemble.images_per_pass": images, "pretraining.batch_size": images}
    size = args.plans(PLANNED)["configurations"]["2d"]["patch_size"]
    for name, (trainer_class, options) in TRAINERS.items():
        trainer = args.trainer(trainer_class, args.plans(PLANNED, fits | options, batch_size=images))
        scales = trainer._get_deep_supervision_scales()
        zeros = torch.zeros(images, 1, *size)
        targets: Any = [zeros[..., :: round(1 / a), :: round(1 / b)] for a, b in scales] if scales else zeros
        batch = {"data": torch.randn(images, 1, *size), "target": targets}
        yield name, partial(trainer.train_step, batch)


def main() -> None:
    args = step_arguments(__doc__)
    planned = args.plans(PLANNED)["configurations"]["2d"][PLANS_KEY]["ensemble"]["images_per_pass"]
    images = DRY_BATCH_SIZE if args.is_dry_run else planned
    for name, work in works(args, images):
        used = peak_mb(work, args.device) / 1e3
        row = {"card": args.card, "what": name, "images in a pass": images, "target, GB": TARGET_GB, "peak, GB": used}
        add_result(args.output, "memory target", {**row, "peak / target": used / TARGET_GB})
        del work
        gc.collect()
        if args.device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
