"""Noise that is the same wherever it is drawn."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def fixed_noise(seed: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise that is the same on every device and with every version of the libraries.

    NumPy promises that of `RandomState`, torch of no generator.
    """
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))
