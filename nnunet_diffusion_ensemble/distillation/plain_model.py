"""The student as a results folder of nnU-Net's own trainer, with plans that know nothing of this package."""

import json
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.distillation.settings import KEY
from nnunet_diffusion_ensemble.method import PLANS_KEY
from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint, write_checkpoint
from nnunet_diffusion_ensemble.system.atomic import bring_back_folder, replace_folder
from nnunet_diffusion_ensemble.system.guard import alone_at
from nnunet_diffusion_ensemble.system.json_files import read_object

STOCK = "nnUNetTrainer"
UNFINISHED = ".unfinished_"
KEPT = ("network_weights", "inference_allowed_mirroring_axes")


def plain_plans(plans: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the plans without settings of this package."""
    stripped = deepcopy(dict(plans))
    for configuration in stripped["configurations"].values():
        for key in (PLANS_KEY, KEY):
            configuration.pop(key, None)
    return stripped


def write_plain_model(trained: Path, folds: Sequence[int | str], output: Path) -> None:
    """Writes the folder that `nnUNetv2_predict` reads, whole or not at all; an earlier one is replaced.

    Args:
        trained: results folder of `DistillationTrainer`.
        folds: those to take over, all trained to the end.
        output: results folder of `nnUNetTrainer`.

    Raises:
        FileNotFoundError: a fold is not trained to the end.
        AtWorkError: another process writes it.
    """
    with alone_at(output):
        _write_plain_model(trained, folds, output)


def _write_plain_model(trained: Path, folds: Sequence[int | str], output: Path) -> None:
    bring_back_folder(output)
    unfinished = output.with_name(f"{UNFINISHED}{output.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    plans = plain_plans(read_object(trained / "plans.json"))
    for fold in folds:
        checkpoint = read_checkpoint(trained / f"fold_{fold}" / "checkpoint_final.pth", trusted=True)
        arguments = {**checkpoint["init_args"], "plans": plans}
        plain = {"init_args": arguments, "trainer_name": STOCK, **{key: checkpoint[key] for key in KEPT}}
        (unfinished / f"fold_{fold}").mkdir(parents=True)
        write_checkpoint(plain, unfinished / f"fold_{fold}" / "checkpoint_final.pth")
    (unfinished / "plans.json").write_text(json.dumps(plans, indent=4))
    for name in ("dataset.json", "dataset_fingerprint.json"):
        shutil.copy(trained / name, unfinished / name)
    replace_folder(unfinished, output)
