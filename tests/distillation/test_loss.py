"""The loss with soft targets, beside nnU-Net's own with hard ones, and by formula."""

import math

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_diffusion_ensemble.distillation.loss import SoftTargetLoss, Target, true_target, with_predicted

TWO = LabelManager({"background": 0, "a": 1, "b": 2}, None)
IGNORING = LabelManager({"background": 0, "a": 1, "b": 2, "ignore": 3}, None)
REGIONS = LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])
REGIONS_IGNORING = LabelManager({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, [1, 2])
DICE = {"batch_dice": False, "smooth": 1e-5, "ddp": False}


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))


def labels_up_to(highest: int) -> torch.Tensor:
    return torch.randint(0, highest + 1, (2, 1, 5, 6), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("labels", "highest", "ignore"), [(TWO, 2, None), (IGNORING, 3, 3)])
def test_on_true_labels_it_is_nnunets_loss(
    logits: torch.Tensor, labels: LabelManager, highest: int, ignore: int | None
) -> None:
    target = labels_up_to(highest)
    nnunets = DC_and_CE_loss({**DICE, "do_bg": False}, {}, ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss)
    found = SoftTargetLoss(False, batch_dice=False)(logits, true_target(target, labels))
    assert found.item() == pytest.approx(nnunets(logits, target).item(), rel=1e-5)


@pytest.mark.parametrize("labels", [REGIONS, REGIONS_IGNORING])
def test_on_true_regions_it_is_nnunets_loss(logits: torch.Tensor, labels: LabelManager) -> None:
    channels = 2 + labels.has_ignore_label
    masks = torch.rand(2, channels, 5, 6, generator=torch.Generator().manual_seed(2)) > 0.6
    nnunets = DC_and_BCE_loss(
        {}, {**DICE, "do_bg": True}, use_ignore_label=labels.has_ignore_label, dice_class=MemoryEfficientSoftDiceLoss
    )
    found = SoftTargetLoss(True, batch_dice=False)(logits[:, :2], true_target(masks, labels))
    expected = nnunets(logits[:, :2], masks.clone()).item()
    if labels.has_ignore_label:  # nnU-Net adds up regions and divides by pixels; without, it takes the mean
        counted = ~masks[:, -1:]
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(
            logits[:, :2], masks[:, :2].float(), reduction="none"
        )
        expected -= 0.5 * float((entropy * counted).sum() / counted.sum())
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_cross_entropy_of_soft_targets_is_least_at_the_teachers_probabilities() -> None:
    target = Target(torch.tensor([0.3, 0.7]).reshape(1, 2, 1, 1), torch.ones(1, 1, 1, 1))
    logits = torch.tensor([0.3, 0.7]).log().reshape(1, 2, 1, 1)
    dice = (2 * 0.7 * 0.7 + 1e-5) / (0.7 + 0.7 + 1e-5)
    entropy = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert SoftTargetLoss(False, False)(logits, target).item() == pytest.approx(entropy - dice, rel=1e-5)


def test_ignored_pixels_have_no_gradient(logits: torch.Tensor) -> None:
    target = labels_up_to(3)
    logits.requires_grad_()
    SoftTargetLoss(False, False)(logits, true_target(target, IGNORING)).backward()
    ignored = (target == 3).expand_as(logits)
    assert logits.grad is not None
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).all()


def test_the_teacher_replaces_labels_of_its_images_alone() -> None:
    target = true_target(labels_up_to(3), IGNORING)
    probabilities = torch.full((1, 3, 5, 6), 1 / 3)
    mixed = with_predicted(target, torch.tensor([1]), probabilities)
    assert torch.equal(mixed.probabilities[0], target.probabilities[0])
    assert torch.equal(mixed.counted[0], target.counted[0])
    assert torch.equal(mixed.probabilities[1], probabilities[0])
    assert (mixed.counted[1] == 1).all()
