"""Averaging of predictions over timesteps.

nnU-Net adds up logits of tiles, mirrored copies and folds in float16 and applies softmax or sigmoid at the end. So the
mean probability is handed over as the number that softmax or sigmoid turns back into it.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

# exp(-15) = 3e-7. Times nnU-Net's weight of 10 and dozens of overlapping tiles it stays far below float16's 65504.
LARGEST_LOGIT = 15.0


def mean_softmax(logits: Tensor) -> Tensor:
    """Logarithm of the mean over timesteps of the class probabilities; (T, N, C, *space) to (N, C, *space)."""
    log_probabilities = functional.log_softmax(logits.float(), dim=2)
    return (torch.logsumexp(log_probabilities, dim=0) - math.log(len(logits))).clamp_min(-LARGEST_LOGIT)


def mean_sigmoid(logits: Tensor) -> Tensor:
    """Logit of the mean over timesteps of each region's probability; (T, N, C, *space) to (N, C, *space)."""
    logits = logits.float()
    log_inside = torch.logsumexp(functional.logsigmoid(logits), dim=0)
    log_outside = torch.logsumexp(functional.logsigmoid(-logits), dim=0)
    return (log_inside - log_outside).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)


AVERAGE = {"softmax": mean_softmax, "sigmoid": mean_sigmoid}
