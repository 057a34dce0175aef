"""The loss of a student: cross-entropy and Dice with probabilities as targets, true labels being certain ones.

Soft targets as Hinton et al. 2015 (arXiv 1503.02531) have them, with nnU-Net's own combination of losses.
"""

from dataclasses import dataclass

import torch
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.helpers import softmax_helper_dim1
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Target:
    """What to learn of a batch.

    Attributes:
        probabilities: (N, classes or regions, *space).
        counted: (N, 1, *space), 0 where a pixel is ignored, else 1.
    """

    probabilities: Tensor
    counted: Tensor


def true_target(target: Tensor, labels: LabelManager) -> Target:
    """True labels as certain probabilities.

    Args:
        target: as nnU-Net's loader gives it: (N, 1, *space) labels, or (N, regions, *space) masks, of which with an
            ignore label the last is that of ignored pixels.
        labels: what they stand for.
    """
    if labels.has_regions:
        if labels.has_ignore_label:
            return Target(target[:, :-1].float(), 1 - target[:, -1:].float())
        return Target(target.float(), torch.ones_like(target[:, :1], dtype=torch.float32))
    values = target[:, 0].long()
    counted = torch.ones_like(values) if labels.ignore_label is None else (values != labels.ignore_label).long()
    one_hot = functional.one_hot(values * counted, labels.num_segmentation_heads).movedim(-1, 1)
    return Target(one_hot.float(), counted[:, None].float())


def with_predicted(target: Target, rows: Tensor, probabilities: Tensor) -> Target:
    """A target with the probabilities of a teacher at some images of a batch, all pixels of which count.

    Args:
        target: of the whole batch.
        rows: positions of those images in it.
        probabilities: (rows, classes or regions, *space).
    """
    mixed, counted = target.probabilities.clone(), target.counted.clone()
    mixed[rows], counted[rows] = probabilities.to(mixed.dtype), 1
    return Target(mixed, counted)


class SoftTargetLoss(nn.Module):
    """Mean cross-entropy over counted pixels plus nnU-Net's Dice loss.

    Args:
        are_regions: binary cross-entropy of each region, else that of classes that exclude each other.
        batch_dice: Dice over the batch as one image.
        ddp: with `batch_dice`, over the batches of all processes.
    """

    def __init__(self, are_regions: bool, batch_dice: bool, ddp: bool = False):
        super().__init__()
        self.are_regions = are_regions
        nonlinearity = torch.sigmoid if are_regions else softmax_helper_dim1
        self.dice = MemoryEfficientSoftDiceLoss(nonlinearity, batch_dice, do_bg=are_regions, smooth=1e-5, ddp=ddp)

    def forward(self, logits: Tensor, target: Target) -> Tensor:
        """Logits (N, classes or regions, *space)."""
        if self.are_regions:
            entropy = functional.binary_cross_entropy_with_logits(logits, target.probabilities, reduction="none").mean(
                1
            )
        else:
            entropy = -(target.probabilities * functional.log_softmax(logits, 1)).sum(1)
        counted = target.counted
        mean_entropy = (entropy * counted[:, 0]).sum() / counted.sum().clamp_min(1)
        return mean_entropy + self.dice(logits, target.probabilities, loss_mask=counted)
