"""Folders of trained models whose weights are random, and images to predict with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer

SPACING_MM, ORIGIN_MM = (0.8, 1.1, 2.0), (-20.0, 15.0, 100.0)  # columns, rows, slices
DIRECTION = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
RESAMPLING = {
    f"resampling_fn_{kind}{suffix}": value
    for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1))
    for suffix, value in (
        ("", "resample_data_or_seg_to_shape"),
        ("_kwargs", {"is_seg": kind == "seg", "order": order, "order_z": 0, "force_separate_z": None}),
    )
}
POINTWISE = {"ensemble.head.kernel_size": 1}  # the borders of an image have no say in what random weights predict


@pytest.fixture
def model_folder(make_trainer: Callable, randomise: Callable, tmp_path: Path) -> Callable[..., Path]:
    """`model_folder(folds=(0, 1), reader="SimpleITKIO", transpose=(0, 1, 2), channels=1, **of make_trainer)`."""

    def make(
        trainer_class: type = DiffusionEnsembleTrainer,
        options: dict[str, Any] | None = None,
        folds: tuple[int | str, ...] = (0,),
        name: str = "model",
        reader: str = "SimpleITKIO",
        file_ending: str = ".nii.gz",
        transpose: tuple[int, ...] = (0, 1, 2),
        channels: int = 1,
        mirror_axes: tuple[int, ...] | None = (0, 1),
        **arguments: Any,
    ) -> Path:
        folder = tmp_path / name
        for seed, fold in enumerate(folds):
            normalisation = {
                "normalization_schemes": ["ZScoreNormalization"] * channels,
                "use_mask_for_norm": [False] * channels,
            }
            settings = POINTWISE | (options or {})
            trainer = make_trainer(trainer_class, settings, **(RESAMPLING | normalisation | arguments))
            trainer.dataset_json["channel_names"] = {str(i): f"c{i}" for i in range(channels)}
            trainer.dataset_json["file_ending"] = file_ending
            trainer.initialize()
            _with_varied_predictions(randomise(trainer.network, seed))
            trainer.inference_allowed_mirroring_axes = mirror_axes
            (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)  # nnU-Net may have made it
            trainer.save_checkpoint(str(folder / f"fold_{fold}" / "checkpoint_final.pth"))
        plans = trainer.plans_manager.plans | {
            "image_reader_writer": reader,
            "transpose_forward": list(transpose),
            "transpose_backward": np.argsort(transpose).tolist(),
            "foreground_intensity_properties_per_channel": {str(i): {} for i in range(channels)},
        }
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(trainer.dataset_json))
        return folder

    return make


def _with_varied_predictions(network: Any) -> None:
    """Centres and scales the head's last layer: random weights are certain of one class everywhere."""
    if not hasattr(network, "timestep_logits"):
        return
    size = [2 * divisor for divisor in network.denoiser.unet.size_divisors]
    channels = network.denoiser.input_scale.shape[1]
    image = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))
    last = network.head.seg_layers[-1]
    with torch.no_grad():
        of_class = network.eval().timestep_logits(image).transpose(0, 2).flatten(1)
        std = of_class.std(1)
        gain = torch.where(std > 0, 2 / std, 1)  # a constant stays as it is
        last.weight.mul_(gain.reshape(-1, *[1] * (last.weight.ndim - 1)))
        last.bias.mul_(gain).sub_(gain * of_class.median(1).values)


def save_volume(file: Path, seed: int, shape: tuple[int, ...] = (2, 22, 19)) -> None:
    """Noise with a geometry of its own, and an empty border for nnU-Net to crop."""
    values = np.random.RandomState(seed).normal(100, 20, shape).astype(np.float32)
    values[:, :2] = values[..., :3] = 0
    volume = sitk.GetImageFromArray(values)
    volume.SetSpacing(SPACING_MM)
    volume.SetOrigin(ORIGIN_MM)
    volume.SetDirection(DIRECTION)
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(volume, str(file))


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """`images(num_cases=2, channels=1, shape=(2, 22, 19))`: a folder of volumes case_0_0000.nii.gz, ..."""

    def make(num_cases: int = 2, channels: int = 1, shape: tuple[int, ...] = (2, 22, 19)) -> Path:
        for case in range(num_cases):
            for channel in range(channels):
                save_volume(tmp_path / "images" / f"case_{case}_{channel:04d}.nii.gz", 10 * case + channel, shape)
        return tmp_path / "images"

    return make
