"""What is tried: names and settings, in the order of expected gain."""

from dataclasses import dataclass, field, replace
from typing import Any

from shift_study.augmentation import NNUNET, SIMPLE, STRONG, Augmentation

PLAN_FEATURES = (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Variant:
    """A way of training.

    Attributes:
        denoiser: name of a pretrained denoiser; None: a plain U-Net of `features` and `norm`.
        fine_tuned: what of the denoiser is trained: `none`, `decoder`, `all`, at `denoiser_rate`.
        highest: timesteps are drawn below it; None: from the eight published ones.
        ensemble: the timesteps whose mean is the teacher's prediction.
        denoising: weight of the denoising loss, kept on unlabelled images.
        pseudo_rounds: rounds of pseudo-labels.
        continued: whether a student starts from its teacher, or as its teacher did.
        consistency: weight of the loss between a weakly and a strongly augmented unlabelled image.
        with_target: whether unlabelled images of Shenzhen are used here (of the denoiser, its name says it).
        averaged: decay of the weights' average that predicts; 0: none.
        gentle: images for the denoising loss are augmented in space alone.
    """

    denoiser: str | None = None
    features: tuple[int, ...] = PLAN_FEATURES
    norm: str = "instance"
    fine_tuned: str = "none"
    denoiser_rate: float = 1e-4
    highest: int | None = None
    ensemble: str = "eight"
    head: dict[str, Any] = field(default_factory=dict)
    augmentation: Augmentation = SIMPLE
    iterations: int = 2500
    batch_size: int = 12
    optimizer: str = "AdamW"
    rate: float = 1e-3
    weight_decay: float = 1e-2
    denoising: float = 0.0
    pseudo_rounds: int = 0
    continued: bool = False
    certain: float = 0.9
    consistency: float = 0.0
    with_target: bool = False
    averaged: float = 0.0


PLAIN = Variant()
WIDE = replace(PLAIN, features=(24, 48, 96, 192))
WIDER = replace(PLAIN, features=(32, 64, 128, 256, 512))
SGD = replace(PLAIN, optimizer="SGD", rate=1e-2, weight_decay=3e-5)
FROZEN = Variant(denoiser="shipped")
FINE = Variant(denoiser="shipped", fine_tuned="all", highest=400, ensemble="to 400")
MIXED = replace(SIMPLE, padding="mixed")
PRODUCT = replace(MIXED, of_the_product=True)

# Those that need no new denoiser come first: they fill the time while the denoisers are pretrained.
EARLY = {
    "plain, nnU-Net aug.": replace(PLAIN, augmentation=NNUNET),
    "plain, simple aug.": PLAIN,
    "plain, product's aug.": replace(PLAIN, augmentation=PRODUCT),
    "fine-tuned 1e-4, product's aug.": replace(FINE, augmentation=PRODUCT),
    "plain, strong aug.": replace(PLAIN, augmentation=STRONG),
    "frozen, simple aug.": FROZEN,
    "fine-tuned 1e-4, simple aug.": FINE,
    "fine-tuned 1e-4, pseudo-labels": replace(FINE, pseudo_rounds=1),
    "plain 32, simple aug.": WIDER,
    "plain, pseudo-labels": replace(PLAIN, pseudo_rounds=2),
    "fine-tuned 3e-4": replace(FINE, denoiser_rate=3e-4),
    "fine-tuned 3e-5": replace(FINE, denoiser_rate=3e-5),
    "fine-tuned, denoising kept": replace(FINE, denoising=0.3),
    "plain, SGD": SGD,
    "plain 24, 4 stages": WIDE,
    "plain, batch norm": replace(PLAIN, norm="batch"),
    "fine-tuned, strong aug.": replace(FINE, augmentation=STRONG),
    "frozen, strong aug.": replace(FROZEN, augmentation=STRONG),
    "fine-tuned, averaged weights": replace(FINE, averaged=0.995),
    "plain, averaged weights": replace(PLAIN, averaged=0.995),
    "plain, consistency": replace(PLAIN, consistency=1.0),
}


def on_denoiser(name: str) -> dict[str, Variant]:
    """What is tried with a new denoiser."""
    fine, frozen = replace(FINE, denoiser=name), replace(FROZEN, denoiser=name)
    target = name.endswith("target")
    return {
        f"{name}: fine-tuned 1e-4": fine,
        f"{name}: frozen": frozen,
        f"{name}: fine-tuned, pseudo-labels": replace(fine, pseudo_rounds=2, with_target=target),
    }


def late(name: str) -> dict[str, Variant]:
    """Further ones, with the denoiser that is expected to be best."""
    fine, frozen = replace(FINE, denoiser=name), replace(FROZEN, denoiser=name)
    return {
        f"{name}: fine-tuned, consistency": replace(fine, consistency=1.0),
        f"{name}: fine-tuned, denoising kept": replace(fine, denoising=0.3),
        f"{name}: fine-tuned 3e-4": replace(fine, denoiser_rate=3e-4),
        f"{name}: fine-tuned, strong aug.": replace(fine, augmentation=STRONG),
        f"{name}: decoder fine-tuned": replace(fine, fine_tuned="decoder"),
        f"{name}: fine-tuned, eight timesteps": replace(fine, highest=None, ensemble="eight"),
        f"{name}: fine-tuned, strong aug., pseudo-labels": replace(fine, augmentation=STRONG, pseudo_rounds=2),
        f"{name}: fine-tuned, pseudo-labels and consistency": replace(fine, pseudo_rounds=1, consistency=1.0),
        f"{name}: fine-tuned, student continued": replace(fine, pseudo_rounds=1, continued=True),
        f"{name}: frozen, pseudo-labels": replace(frozen, pseudo_rounds=1),
        f"{name}: fine-tuned, pseudo-labels at .8": replace(fine, pseudo_rounds=1, certain=0.8),
        f"{name}: fine-tuned, product's aug., pseudo-labels": replace(fine, augmentation=PRODUCT, pseudo_rounds=1),
        f"{name}: fine-tuned, 1x1 head": replace(fine, head={"ensemble.head.kernel_size": 1}),
        f"{name}: fine-tuned, 6000 iterations": replace(fine, iterations=6000),
    }


LAST = {
    "plain 32, strong aug., pseudo-labels": replace(WIDER, augmentation=STRONG, pseudo_rounds=2),
    "plain, mixed padding": replace(PLAIN, augmentation=MIXED),
    "plain, simple aug., 6000 iterations": replace(PLAIN, iterations=6000),
    "plain, nnU-Net aug., 6000 iterations": replace(PLAIN, augmentation=NNUNET, iterations=6000),
}


def variants(denoisers: tuple[str, ...]) -> dict[str, Variant]:
    """All of them, in order.

    Args:
        denoisers: names of those to be pretrained; the first is expected to be best.
    """
    found = dict(EARLY)
    for name in denoisers:
        found |= on_denoiser(name)
    if denoisers:
        found |= late(denoisers[0])
    return found | LAST
