"""nnU-Net's own prediction, which ours is compared with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer


def _computed_once(predict_logits: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same image has the same logits, with probabilities and without."""
    seen: dict[bytes, Tensor] = {}

    def predict(data: Tensor) -> Tensor:
        key = data.numpy().tobytes()
        if key not in seen:
            seen[key] = predict_logits(data)
        return seen[key].clone()

    return predict


def stock(
    images: Path, output: Path, model: Path, trainer_class: type = DiffusionEnsembleTrainer, **options: Any
) -> Path:
    """nnU-Net's predictor as `nnUNetv2_predict --save_probabilities` or, if `probabilities=False`, without."""
    folds = options.pop("folds", (0,))
    checkpoints = [torch.load(model / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False) for fold in folds]
    plans, dataset = (json.loads((model / name).read_text()) for name in ("plans.json", "dataset.json"))
    manager = PlansManager(plans)
    heads, channels = manager.get_label_manager(dataset).num_segmentation_heads, len(dataset["channel_names"])
    network = trainer_class.build_network_architecture(manager, manager.get_configuration("2d"), channels, heads, False)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, **options)
    weights, axes = [c["network_weights"] for c in checkpoints], checkpoints[0]["inference_allowed_mirroring_axes"]
    predictor.manual_initialization(
        network, manager, manager.get_configuration("2d"), weights, dataset, trainer_class.__name__, axes
    )
    predictor.predict_logits_from_preprocessed_data = _computed_once(predictor.predict_logits_from_preprocessed_data)
    names = sorted({file.name[: -len("_0000.nii.gz")] for file in images.iterdir()})
    files = [[str(file) for file in sorted(images.glob(f"{name}_*"))] for name in names]
    for kind in (False, True):
        (output / str(kind)).mkdir(parents=True)
        results = [str(output / str(kind) / name) for name in names]
        predictor.predict_from_files_sequential(files, results, save_probabilities=kind)
    return output
