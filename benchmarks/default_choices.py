"""Which way of training should be the default? Variants of the method in equal CPU time, Dice on both hospitals.

    python benchmarks/default_choices.py run WORK PLANS FOLD VARIANT... [--seconds 120]   # none named: all variants
    python benchmarks/default_choices.py table WORK

Needs the data set, its folds and the test sets of `benchmarks/xrays.py prepare DATA WORK`, and plans that name a
pretrained denoiser (`nnunet-diffusion plan -d 64 --denoiser chest-xray-64 --no-fine-tune-denoiser`). nnU-Net's loader
augments in this process, so that its time counts. The test images are as large as the patch: one tile, no mirroring.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.denoiser.noise import fixed_noise
from nnunet_diffusion_ensemble.denoiser.pretrained import load_into_network
from nnunet_diffusion_ensemble.denoiser.source import denoiser_file
from nnunet_diffusion_ensemble.method import PUBLISHED_TIMESTEPS, DiffusionMethod, HeadSettings
from nnunet_diffusion_ensemble.network.averaging import mean_softmax
from nnunet_diffusion_ensemble.network.heads import PixelClassifier

DATASET, DOMAINS, LABEL_COUNTS = "Dataset064_Lungs", ("montgomery", "shenzhen"), (1, 3, 6, 12, 24)
# Sets of timesteps that a trained head is tried with.
ENSEMBLES = {
    "eight": PUBLISHED_TIMESTEPS,
    "1 50 200 400": (1, 50, 200, 400),
    "1 10 25 50": (1, 10, 25, 50),
    "1": (1,),
}
CLASSES, IMAGES_AT_ONCE, RAMP = 2, 32, 0.05


@dataclass(frozen=True)
class Variant:
    """A way of training.

    Attributes:
        drawn: timesteps that each image is noised to in an iteration, of the eight or of the range; 0: all eight.
        highest: a range from 0 to this timestep in the place of the eight.
        frozen: share of the time in which only the head is trained; 1: the denoiser is never fine-tuned.
        rate: learning rate of the denoiser.
        kernel_size: of the head's convolutions after the first.
        ensemble_loss: whether the mean prediction has a loss as well.
        learned_weights: whether that mean is weighted by learned weights of the timesteps.
        augmented: whether nnU-Net augments.
        network: `ours`; `scratch`, the same U-Net without diffusion; `nnunet`, nnU-Net's own training.
    """

    drawn: int = 1
    highest: int | None = None
    frozen: float = 1.0
    rate: float = 3e-5
    kernel_size: int = 3
    ensemble_loss: bool = False
    learned_weights: bool = False
    augmented: bool = True
    network: str = "ours"


VARIANTS = {
    "TEDM": Variant(drawn=0, kernel_size=1),
    "TEDM, one timestep an image": Variant(kernel_size=1),
    "TEDM, learned weights, loss of their mean": Variant(
        drawn=0, kernel_size=1, ensemble_loss=True, learned_weights=True
    ),
    "one timestep, neighbourhood": Variant(),
    "... without augmentation": Variant(augmented=False),
    "... from a range up to 400": Variant(highest=400),
    "... two timesteps, loss of their mean": Variant(drawn=2, ensemble_loss=True),
    "... then fine-tuned at 3e-5": Variant(frozen=0.5),
    "fine-tuned at 3e-4, range up to 400, 1x1": Variant(highest=400, frozen=0.1, rate=3e-4, kernel_size=1),
    "fine-tuned at 1e-4, range up to 400, 1x1": Variant(highest=400, frozen=0.1, rate=1e-4, kernel_size=1),
    "half frozen, then 3e-5, range up to 400, 1x1": Variant(highest=400, frozen=0.5, kernel_size=1),
    "U-Net from scratch": Variant(network="scratch"),
    "nnUNetTrainer": Variant(network="nnunet"),
}


class TriedNetwork(nn.Module):
    """Denoiser, frozen or not, head, and weights of the eight timesteps."""

    def __init__(self, configuration: dict[str, Any], variant: Variant):
        super().__init__()
        method = DiffusionMethod.from_plans(configuration)
        self.denoiser = Denoiser(configuration["architecture"], 1, method.denoiser)
        settings = HeadSettings(kernel_size=variant.kernel_size)
        self.head = PixelClassifier(self.denoiser.unet.feature_channels, CLASSES, 2, settings)
        self.log_weights = nn.Parameter(torch.zeros(len(PUBLISHED_TIMESTEPS)))
        checkpoint = denoiser_file(str(method.pretrained_checkpoint))
        load_into_network(self, checkpoint, configuration["architecture"])
        self.is_frozen = True

    def forward(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        with torch.set_grad_enabled(not self.is_frozen and torch.is_grad_enabled()):
            features = self.denoiser.features(images, noise, timesteps)
        return self.head(features)


def make_trainer(plans: str, fold: int, variant: Variant) -> Any:
    name = "nnUNetTrainer" if variant.network == "nnunet" else "ScratchTrainer"
    trainer = get_trainer_from_args(DATASET, "2d", fold, name, plans, device=torch.device("cpu"))
    trainer.print_to_log_file = lambda *_, **__: None
    if not variant.augmented:
        choose = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size
        trainer.get_training_transforms = lambda *_, **__: trainer.get_validation_transforms(None)
        patch_size = tuple(trainer.configuration_manager.patch_size)
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size = lambda: (
            *choose()[:2],
            patch_size,
            choose()[3],
        )
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    return trainer


def train(trainer: Any, variant: Variant, seconds: float) -> tuple[nn.Module, int]:
    """Trains for that CPU time with nnU-Net's decay of the learning rate; the network and the iterations."""
    configuration = trainer.configuration_manager.configuration
    optimizer = trainer.optimizer
    if variant.network == "ours":
        network: Any = TriedNetwork(configuration, variant)
        head = [*network.head.parameters(), network.log_weights]
        groups = [{"params": head, "lr": 1e-3}, {"params": list(network.denoiser.parameters()), "lr": variant.rate}]
        optimizer = torch.optim.AdamW(groups, weight_decay=1e-2)
    elif variant.network == "scratch":
        a = configuration["architecture"]
        names = (a["network_class_name"], a["arch_kwargs"], a["_kw_requires_import"])
        network = get_network_from_plans(*names, 1, CLASSES, allow_init=True, deep_supervision=False)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
    else:
        network = trainer.network
    rates = [group["lr"] for group in optimizer.param_groups]
    network.train()
    iterations, start = 0, time.process_time()
    while (share := (time.process_time() - start) / seconds) < 1:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - share) ** 0.9
        if variant.network == "ours":
            network.is_frozen = share < variant.frozen
            optimizer.param_groups[1]["lr"] *= min(1, max(0, share - variant.frozen) / RAMP)
        batch = next(trainer.dataloader_train)
        optimizer.zero_grad(set_to_none=True)
        loss_of(network, trainer.loss, batch["data"], batch["target"], variant).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        iterations += 1
    return network.eval(), iterations


def loss_of(network: Any, loss: Any, images: Tensor, target: Any, variant: Variant) -> Tensor:
    if variant.network != "ours":
        return loss(network(images), target)
    timesteps = draw(len(images), variant)
    repeated, targets = images.repeat(len(timesteps), 1, 1, 1), target.repeat(len(timesteps), 1, 1, 1)
    logits = network(repeated, torch.randn_like(repeated), timesteps.flatten())
    total = loss(logits, targets)
    if variant.ensemble_loss:
        each = logits.log_softmax(1).unflatten(0, timesteps.shape)
        if variant.learned_weights:
            each = each + (network.log_weights.log_softmax(0) + np.log(len(each)))[:, None, None, None, None]
        total = total + loss(each.logsumexp(0) - np.log(len(each)), target)
    return total


def draw(num_images: int, variant: Variant) -> Tensor:
    """(timesteps, N)."""
    if variant.highest is not None:
        return torch.randint(0, variant.highest + 1, (variant.drawn, num_images))
    eight = torch.tensor(PUBLISHED_TIMESTEPS)
    if not variant.drawn:
        return eight[:, None].expand(-1, num_images)
    return torch.stack([eight[torch.randperm(len(eight))[: variant.drawn]] for _ in range(num_images)], dim=1)


def test_cases(trainer: Any, folder: Path) -> Iterator[tuple[Tensor, np.ndarray, tuple[slice, ...]]]:
    """Preprocessed images padded to the patch, as nnU-Net pads them, with reference and the part that is the image."""
    plans, configuration = trainer.plans_manager, trainer.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    for file in sorted((folder / "imagesTr").iterdir()):
        reference = folder / "labelsTr" / f"{file.name.removesuffix('_0000.png')}.png"
        data, target, _ = preprocessor.run_case([str(file)], str(reference), plans, configuration, trainer.dataset_json)
        before = [(n - m) // 2 for n, m in zip(configuration.patch_size, data.shape[2:], strict=True)]
        inside = tuple(slice(b, b + m) for b, m in zip(before, data.shape[2:], strict=True))
        image = torch.zeros(1, *configuration.patch_size)
        image[0][inside] = torch.as_tensor(data[0, 0])
        yield image, target[0, 0], inside


@torch.no_grad()
def dice_of(network: Any, cases: list, variant: Variant) -> dict[str, float]:
    """Mean Dice of each ensemble, or of the one prediction."""
    images = torch.stack([image for image, _, _ in cases])
    chunks = images.split(IMAGES_AT_ONCE)
    if variant.network != "ours":
        return {"prediction": mean_dice(torch.cat([network(chunk) for chunk in chunks]).argmax(1), cases)}
    logits = {}
    for timestep in PUBLISHED_TIMESTEPS:
        noise = fixed_noise(timestep, images.shape[1:])
        told = [torch.full((len(chunk),), timestep) for chunk in chunks]
        passes = [network(c, noise.expand_as(c), t) for c, t in zip(chunks, told, strict=True)]
        logits[timestep] = torch.cat(passes)
    found = {
        name: mean_dice(mean_softmax(torch.stack([logits[t] for t in timesteps])).argmax(1), cases)
        for name, timesteps in ENSEMBLES.items()
    }
    if variant.learned_weights:
        weights = network.log_weights.softmax(0)
        mean = sum(w * logits[t].softmax(1) for w, t in zip(weights, PUBLISHED_TIMESTEPS, strict=True))
        found["eight"] = mean_dice(mean.argmax(1), cases)
    return found


def mean_dice(segmentations: Tensor, cases: list) -> float:
    scores = []
    for segmentation, (_, target, inside) in zip(segmentations.numpy(), cases, strict=True):
        found, truth = segmentation[inside] == 1, target == 1
        scores.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    return round(float(np.mean(scores)), 4)


def run(work: Path, plans: str, fold: int, names: list[str], seconds: float) -> None:
    torch.set_num_threads(1)
    results = work / "default_choices"
    results.mkdir(exist_ok=True)
    for name in names or VARIANTS:
        torch.manual_seed(0)
        np.random.seed(0)
        trainer = make_trainer(plans, fold, VARIANTS[name])
        network, iterations = train(trainer, VARIANTS[name], seconds)
        if VARIANTS[name].network == "nnunet":
            trainer.set_deep_supervision_enabled(False)
        row: dict[str, Any] = {"variant": name, "fold": fold, "seconds": seconds, "iterations": iterations}
        for domain in DOMAINS:
            cases = list(test_cases(trainer, work / f"Dataset999_{domain}"))
            row[domain] = dice_of(network, cases, VARIANTS[name])
        (results / f"{list(VARIANTS).index(name):02d}_{fold}.json").write_text(json.dumps(row))
        print(json.dumps(row), flush=True)


def table(work: Path) -> str:
    """Dice on both hospitals by seed and number of labels; of the eight timesteps where there are several."""
    rows = [json.loads(file.read_text()) for file in sorted((work / "default_choices").glob("*.json"))]
    folds = sorted({row["fold"] for row in rows}, key=lambda fold: (fold % 5, fold))
    heads = [f"n = {LABEL_COUNTS[fold % 5]}, seed {fold // 5}" for fold in folds]
    lines = ["| " + " | ".join(["variant", *heads, "iterations"]) + " |", "|---" * (len(heads) + 2) + "|"]
    for name in VARIANTS:
        of_fold = {row["fold"]: row for row in rows if row["variant"] == name}
        if not of_fold:
            continue
        cells = [" / ".join(_cell(of_fold.get(fold), domain) for domain in DOMAINS) for fold in folds]
        iterations = round(np.mean([row["iterations"] for row in of_fold.values()]))
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {iterations} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None, domain: str) -> str:
    if row is None:
        return ""
    return f"{row[domain].get('eight', row[domain].get('prediction')):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("run", "table"))
    parser.add_argument("work", type=Path)
    parser.add_argument("rest", nargs="*", help="PLANS FOLD VARIANT...")
    parser.add_argument("--seconds", type=float, default=120)
    args = parser.parse_args()
    if args.step == "table":
        print(table(args.work))
        return
    os.environ["nnUNet_n_proc_DA"] = "0"
    plans, fold, *names = args.rest
    run(args.work, plans, int(fold), names, args.seconds)


if __name__ == "__main__":
    main()
