"""Training of a variant, its prediction, and its rounds of pseudo-labels; several trainings side by side."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from shift_study.augmentation import STRONG, random_rectangles
from shift_study.data import Cases, Data, z_score
from shift_study.networks import (
    ENSEMBLES,
    TIMESTEPS,
    DiffusionSegmentation,
    PlainUNet,
    SegmentationNetwork,
    architecture_of,
    mean_probability,
    probabilities,
)
from shift_study.steps import Step, Teacher, make_optimizer, segmentation_loss
from shift_study.variants import Variant

LABELS_ONLY = 0.85  # of a student's training; what follows is on labels alone
BEST_SHARE, AREA_RANGE = 0.75, (0.5, 2.0)  # of pseudo-labelled images; of the labelled areas' range
CONFIDENT, TEACHER_DECAY, RAMP = 0.95, 0.99, 0.3  # of the consistency loss


def drawn(number: int, size: int, device: torch.device) -> Tensor:
    """Positions of a batch, with replacement."""
    return torch.randint(number, (size,), device=device)


class Run:
    """One training: a variant with its labelled cases.

    Args:
        variant: the way of training.
        data: all images.
        seed, number: which cases are labelled.
        checkpoint: of the variant's denoiser.
        recorded: whether steps are recorded CUDA graphs.
    """

    def __init__(
        self, variant: Variant, data: Data, seed: int, number: int, checkpoint: Path | None, recorded: bool
    ) -> None:
        self.variant, self.data, self.seed, self.number = variant, data, seed, number
        self.checkpoint, self.recorded, self.device = checkpoint, recorded, data.device
        self.stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        self.labelled = data.labelled(seed, number)
        self.unlabelled = data.unlabelled(variant.with_target)
        self.pseudo: Cases | None = None
        self.ramp = torch.zeros((), device=self.device)
        self.network: Any = self._fresh()

    def _fresh(self) -> SegmentationNetwork:
        variant = self.variant
        if variant.denoiser is None:
            network: SegmentationNetwork = PlainUNet(architecture_of(variant.features, variant.norm))
        else:
            assert self.checkpoint is not None
            network = DiffusionSegmentation(self.checkpoint, variant.fine_tuned, variant.highest, variant.head)
        return network.to(self.device).train()

    # ---- losses

    def _supervised(self, cases: Cases, size: int) -> tuple[Tensor, Tensor]:
        """An augmented batch."""
        which = drawn(len(cases.images), size, self.device)
        assert cases.masks is not None
        images, masks = self.variant.augmentation(cases.images[which], cases.masks[which])
        assert masks is not None
        return images, masks

    def loss_of_labels(self) -> Tensor:
        images, masks = self._supervised(self.labelled, self.variant.batch_size)
        return self._with_others(segmentation_loss(self.network.logits_for_loss(images), masks))

    def loss_of_both(self) -> Tensor:
        """Half of the batch is labelled, half pseudo-labelled."""
        assert self.pseudo is not None
        half = self.variant.batch_size // 2
        parts = [self._supervised(cases, half) for cases in (self.labelled, self.pseudo)]
        images, masks = (torch.cat(part) for part in zip(*parts, strict=True))
        return self._with_others(segmentation_loss(self.network.logits_for_loss(images), masks))

    def _with_others(self, loss: Tensor) -> Tensor:
        if self.variant.denoising:
            which = drawn(len(self.unlabelled), self.variant.batch_size, self.device)
            images, _ = self.variant.augmentation.spatial(self.unlabelled[which])
            loss = loss + self.variant.denoising * self.network.denoising_loss(z_score(images))
        return loss + self.ramp * self._consistency() if self.variant.consistency else loss

    def _consistency(self) -> Tensor:
        """Cross entropy of strongly augmented, cut and mixed images with what the teacher says of the weak ones."""
        which = drawn(len(self.unlabelled), self.variant.batch_size, self.device)
        weak, _ = self.variant.augmentation.spatial(self.unlabelled[which])
        with torch.no_grad():
            weak_images = z_score(weak)
            said = [self.teacher.copy.logits_for_loss(weak_images).softmax(1) for _ in range(2)]
            believed = torch.stack(said).mean(0)
            inside = random_rectangles(weak, 0.15, 0.6)
            believed = torch.where(inside, believed.roll(1, 0), believed)
            strong = STRONG.intensity(weak)
            strong = torch.where(inside, strong.roll(1, 0), strong)
            certainty, label = believed.max(1)
        losses = functional.cross_entropy(self.network.logits_for_loss(z_score(strong)), label, reduction="none")
        return (losses * (certainty >= CONFIDENT)).mean()

    # ---- training

    def start(self) -> None:
        """Makes optimiser and teacher; the first step follows."""
        variant = self.variant
        groups = self.network.parameter_groups(variant.rate, variant.denoiser_rate)
        self.optimizer = make_optimizer(variant.optimizer, groups, variant.weight_decay)
        if variant.consistency or variant.averaged:
            self.teacher = Teacher(self.network, self._fresh(), variant.averaged or TEACHER_DECAY)
        self._step_on(self.loss_of_labels if self.pseudo is None else self.loss_of_both)
        self.is_on_labels_only = self.pseudo is None

    def _step_on(self, loss: Callable[[], Tensor]) -> None:
        self.one_step = Step(loss, self.optimizer, self.recorded, self.stream)

    def step(self, share: float) -> None:
        if not self.is_on_labels_only and share >= LABELS_ONLY:
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            self._step_on(self.loss_of_labels)
            self.is_on_labels_only = True
        if self.variant.consistency:
            with torch.cuda.stream(self.stream):
                self.ramp.fill_(self.variant.consistency * min(1.0, share / RAMP))
        self.one_step(share)
        if self.variant.consistency or self.variant.averaged:
            with torch.cuda.stream(self.stream):
                self.teacher.update()

    def finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        if self.variant.averaged:
            self.network.load_state_dict(self.teacher.copy.state_dict())
        del self.one_step, self.optimizer

    # ---- prediction

    @property
    def timesteps(self) -> tuple[int, ...]:
        return ENSEMBLES[self.variant.ensemble]

    def scores(self) -> dict[str, Any]:
        """Mean Dice of each hospital, of each ensemble, and at home of images as nnU-Net prepares them."""
        row: dict[str, Any] = {}
        for name, cases in (("home", self.data.at_home(self.seed)), ("shenzhen", self.data.shenzhen)):
            assert cases.masks is not None
            by_timestep = probabilities(self.network, z_score(cases.images), TIMESTEPS)
            for ensemble, timesteps in ENSEMBLES.items():
                dice = mean_dice(mean_probability(by_timestep, TIMESTEPS, timesteps) > 0.5, cases.masks)
                row[f"{name} {ensemble}"] = dice
            row[name] = row[f"{name} {self.variant.ensemble}"]
        prepared = self.data.at_home_cropped(self.seed)  # hardly any image of Shenzhen has a black border
        assert prepared.masks is not None
        probability = probabilities(self.network, prepared.images, self.timesteps).mean(0)
        return row | {"home cropped": mean_dice(probability > 0.5, prepared.masks)}

    def label_the_unlabelled(self) -> dict[str, Any]:
        """Pseudo-labels for the next round; what was kept, in numbers."""
        by_timestep = probabilities(self.network, z_score(self.unlabelled), self.timesteps)
        probability = by_timestep.mean(0)
        found = probability > 0.5
        assert self.labelled.masks is not None
        areas, own = found.float().mean((1, 2)), (self.labelled.masks == 1).float().mean((1, 2))
        agrees = self._agreement(by_timestep, found)
        kept = (agrees >= agrees.quantile(1 - BEST_SHARE)) & (areas >= AREA_RANGE[0] * own.min())
        kept &= areas <= AREA_RANGE[1] * own.max()
        certain, labels = self.variant.certain, torch.full_like(probability, -1, dtype=torch.long)
        labels[probability >= certain], labels[probability <= 1 - certain] = 1, 0
        self.pseudo = Cases(self.unlabelled[kept], labels[kept]) if kept.any() else None
        return {
            "kept": int(kept.sum()),
            "of": len(kept),
            "area": round(float(areas[kept].mean()), 4) if kept.any() else None,
        }

    def _agreement(self, by_timestep: Tensor, found: Tensor) -> Tensor:
        """(N,): of timesteps with their mean, as Dice; of one prediction, its certainty (less its entropy)."""
        if len(by_timestep) > 1:
            return torch.stack([dice_of_each(one > 0.5, found) for one in by_timestep]).mean(0)
        p = by_timestep[0].clamp(1e-6, 1 - 1e-6)
        return (p * p.log() + (1 - p) * (1 - p).log()).mean((1, 2))

    def next_round(self) -> None:
        if not self.variant.continued:
            self.network = self._fresh()


def dice_of_each(found: Tensor, truth: Tensor) -> Tensor:
    """(N,) of bool masks (N, H, W); 1 where both are empty."""
    both, total = (found & truth).sum((1, 2)), found.sum((1, 2)) + truth.sum((1, 2))
    return torch.where(total > 0, 2 * both / total.clamp_min(1), torch.ones_like(both, dtype=torch.float))


def mean_dice(found: Tensor, masks: Tensor) -> float:
    return round(float(dice_of_each(found & (masks >= 0), masks == 1).mean()), 4)


def train_together(runs: Sequence[Run], deadline: float) -> tuple[int, bool]:
    """Trains all runs step by step in turns; the iterations made, and whether the deadline cut them short."""
    iterations = runs[0].variant.iterations
    for run in runs:
        run.start()
    iteration, is_cut = 0, False
    for iteration in range(iterations):
        is_cut = iteration % 20 == 0 and time.time() > deadline
        if is_cut:
            break
        for run in runs:
            run.step(iteration / iterations)
    for run in runs:
        run.finish()
    return iteration + (not is_cut), is_cut


def study(name: str, runs: Sequence[Run], deadline: float, write: Callable[[dict[str, Any]], None]) -> None:
    """Trains a variant with all its labelled cases, with its rounds of pseudo-labels; a row for each."""
    kept: list[dict[str, Any]] = [{} for _ in runs]
    for number in range(runs[0].variant.pseudo_rounds + 1):
        start = time.time()
        iterations, is_cut = train_together(runs, deadline)
        seconds = round(time.time() - start, 1)
        for run, numbers in zip(runs, kept, strict=True):
            what = {"variant": name, "round": number, "n": run.number, "seed": run.seed}
            made = {"iterations": iterations, "seconds": seconds, "cut": is_cut, **numbers}
            write(what | run.scores() | made)
        if is_cut:
            return
        if number < runs[0].variant.pseudo_rounds:
            kept = [run.label_the_unlabelled() for run in runs]
            for run in runs:
                run.next_round()
