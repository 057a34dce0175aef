"""Pretraining of a denoiser within a time limit, and its checkpoint as the package reads it."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunet_diffusion_ensemble.denoiser.pretrained import TRAINER_NAME, read_pretrained
from nnunet_diffusion_ensemble.method import PLANS_KEY, DiffusionMethod
from nnunet_diffusion_ensemble.nnunet.checkpoint import write_checkpoint
from nnunet_diffusion_ensemble.nnunet.pretrainings import DENOISER, PRETRAINS
from nnunet_diffusion_ensemble.training.denoising_network import PretrainingNetwork, WeightAverage, widen_range
from shift_study.augmentation import Augmentation
from shift_study.data import Data
from shift_study.networks import architecture_of
from shift_study.steps import Step, make_optimizer

WARM_UP_SHARE, GRADIENT_CLIP, WEIGHT_DECAY, SHOWN_BATCHES = 0.03, 1.0, 1e-2, 20
WAIT_EVERY = 20  # steps, for the device

# nnU-Net's spatial augmentation, which the package's pretraining has today.
NNUNET_SPATIAL = Augmentation(rotation=180, scale=0.35, spatial_probability=0.3, padding="grey")
SHIFT = Augmentation(rotation=15, scale=0.3, stretch=0.15, translation=0.15, spatial_probability=0.8)
SHIFT_INTENSITY = replace(
    SHIFT, gamma=0.7, gamma_probability=0.8, contrast=0.4, brightness=0.2, contrast_probability=0.8
)


@dataclass(frozen=True)
class Pretraining:
    """Settings of a pretraining; `with_target`: on the unlabelled images of Shenzhen as well."""

    augmentation: Augmentation = SHIFT_INTENSITY
    features: tuple[int, ...] = (16, 32, 64, 128, 256)
    with_target: bool = False
    batch_size: int = 128
    learning_rate: float = 1e-3
    ema_decay: float = 0.9999
    size: int = 64


PRETRAININGS = {
    "intensity": Pretraining(),
    "shift": Pretraining(augmentation=SHIFT),
    "wide": Pretraining(features=(24, 48, 96, 192, 384)),
    "intensity-target": Pretraining(with_target=True),
    "wide-target": Pretraining(features=(24, 48, 96, 192, 384), with_target=True),
    "nnunet": Pretraining(augmentation=NNUNET_SPATIAL),
    "large-128": Pretraining(features=(16, 32, 64, 128, 256, 256), size=128),
}


def cosine(share: float) -> float:
    """Warm-up, then half a cosine."""
    return min(share / WARM_UP_SHARE, 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def pretrain(
    settings: Pretraining, data: Data, output: Path, seconds: float, shipped: Path, recorded: bool
) -> dict[str, Any]:
    """Trains for some seconds and writes the checkpoint; returns numbers about it.

    Args:
        settings: what is trained.
        data: all images.
        output: the checkpoint to write.
        seconds: wall-clock time, the first steps included.
        shipped: a denoiser of the package, whose plans are those of this one but for what `settings` changes.
        recorded: whether steps are recorded CUDA graphs.
    """
    torch.manual_seed(0)
    device, images = data.device, data.for_pretraining(settings.with_target)
    stream = torch.cuda.Stream() if device.type == "cuda" else None
    plans = plans_of(settings, shipped)
    architecture = plans["configurations"]["2d"]["architecture"]
    method = DiffusionMethod.from_plans(plans["configurations"]["2d"])
    network: Any = PretrainingNetwork(architecture, 1, method.denoiser).to(device)
    optimizer = make_optimizer(
        "AdamW", [{"params": list(network.parameters()), "lr": settings.learning_rate}], WEIGHT_DECAY
    )
    last = torch.zeros((), device=device)

    def loss() -> Tensor:
        value = denoising_loss(network.denoiser, batch_of(images, settings))
        last.copy_(value.detach())
        return value

    start = time.time()
    step = Step(loss, optimizer, recorded, stream, cosine, GRADIENT_CLIP)
    averaged = WeightAverage(network, settings.ema_decay)
    iterations, share, losses = 0, 0.0, []
    while share < 1:
        step(share)
        with torch.cuda.stream(stream):
            averaged.update_parameters(network)
        iterations += 1
        if iterations % WAIT_EVERY == 0 or stream is None:
            if stream is not None:
                stream.synchronize()
            losses.append(float(last))
        share = (time.time() - start) / seconds
    if stream is not None:
        stream.synchronize()
    write(output, averaged.module, plans, images, settings, iterations)
    tail = losses[-max(1, len(losses) // 10) :]
    return {
        "iterations": iterations,
        "images": iterations * settings.batch_size,
        "loss": round(sum(tail) / len(tail), 5),
    }


def batch_of(images: Tensor, settings: Pretraining) -> Tensor:
    which = torch.randint(len(images), (settings.batch_size,), device=images.device)
    return settings.augmentation(images[which])[0]


def denoising_loss(denoiser: Any, images: Tensor) -> Tensor:
    """Of the velocity, weighted by min-SNR."""
    timesteps = torch.randint(len(denoiser.schedule.alpha_bar), (len(images),), device=images.device)
    noise = torch.randn_like(images)
    # A recorded step must not find weights in the cache of an earlier one.
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda, cache_enabled=False):
        prediction, target = denoiser(images, noise, timesteps)
    weights = denoiser.schedule.loss_weights(timesteps, "min_snr", 5.0)
    return (weights * (prediction.float() - target).square().flatten(1).mean(1)).mean()


def plans_of(settings: Pretraining, shipped: Path) -> dict[str, Any]:
    """The shipped denoiser's plans with this one's topology and settings."""
    pretrained = read_pretrained(shipped)
    changes = {
        "pretraining.batch_size": settings.batch_size,
        "pretraining.learning_rate": settings.learning_rate,
        "pretraining.ema_decay": settings.ema_decay,
        "pretraining.precision": "bfloat16",
    }
    configuration = {
        **pretrained.configuration,
        "architecture": architecture_of(settings.features),
        "patch_size": [settings.size] * 2,
        PLANS_KEY: DiffusionMethod.from_plans(pretrained.configuration).with_options(changes).to_plans(),
    }
    return {**pretrained.plans, "configurations": {"2d": configuration}}


@torch.no_grad()
def write(
    output: Path, network: Any, plans: dict[str, Any], images: Tensor, settings: Pretraining, iterations: int
) -> None:
    """A checkpoint as `nnunet-diffusion export` writes them."""
    denoiser = network.denoiser
    for _ in range(SHOWN_BATCHES):
        widen_range(denoiser.intensity_range, denoiser.scaled(batch_of(images, settings)))
    denoiser.trained_iterations.fill_(iterations)
    checkpoint = {
        "network_weights": network.cpu().state_dict(),
        "init_args": {"plans": plans, "configuration": "2d"},
        "trainer_name": TRAINER_NAME,
        PRETRAINS: DENOISER,
    }
    write_checkpoint(checkpoint, output)
