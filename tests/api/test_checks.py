"""Spacing as a user may write it."""

from typing import Any

import numpy as np
import pytest
import torch

from nnunet_diffusion_ensemble.api.checks import spacing_of


@pytest.mark.parametrize("spacing", [(1, 2), [1.0, 2.0], np.array([1, 2]), np.float32([1, 2]), torch.tensor([1, 2])])
def test_spacing_may_come_in_any_list(spacing: Any) -> None:
    assert spacing_of(spacing) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("spacing", "error", "message"),
    [
        (1, TypeError, r"must be two or three numbers, such as \(1, 1\), got 1"),
        ("11", TypeError, "must be two or three numbers.*got '11'"),
        ({1: 1, 2: 2}, TypeError, "must be two or three numbers"),
        ((1,), ValueError, r"two \(rows, columns\) or three \(slices, rows, columns\) numbers above 0, got \(1,\)"),
        ((1, 1, 1, 1), ValueError, r"above 0, got \(1, 1, 1, 1\)"),
        ((1, -1), ValueError, r"above 0, got \(1, -1\)"),
        ((1, None), ValueError, r"above 0, got \(1, None\)"),
        ((1, np.inf), ValueError, r"above 0, got \(1, inf\)"),
        ((1, np.nan), ValueError, r"above 0, got \(1, nan\)"),
    ],
)
def test_what_is_no_spacing_is_refused(spacing: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        spacing_of(spacing)
