"""Checking what a user hands to the Python API: what came, what is allowed, what to do."""

from collections.abc import Iterable, Sequence
from numbers import Real
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

AXES = {2: ("height", "width"), 3: ("depth", "height", "width")}
LARGEST_SEED = 2**32 - 1  # NumPy's


def whole_number(value: Any, name: str, smallest: int, largest: int | None = None) -> int:
    """A whole number in a range, `largest` included.

    Raises:
        TypeError: it is no whole number.
        ValueError: it lies outside.
    """
    try:
        number = index(value)
    except TypeError as error:
        raise TypeError(f"{name} must be a whole number, got {value!r}.") from error
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value}.")
    if number < smallest or (largest is not None and number > largest):
        allowed = f"{smallest} or more" if largest is None else f"from {smallest} to {largest}"
        raise ValueError(f"{name} must be {allowed}, got {number}.")
    return number


def whole_numbers(values: Any, name: str, smallest: int, largest: int | None = None) -> tuple[int, ...]:
    """One or more whole numbers in a range.

    Raises:
        TypeError: it is no list, or holds something else.
        ValueError: it is empty, or one lies outside.
    """
    if isinstance(values, str) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) != 1:
        raise TypeError(f"{name} must be a list of whole numbers, such as [1, 50], got {values!r}.")
    numbers = tuple(whole_number(value, f"Each of {name}", smallest, largest) for value in values)
    if not numbers:
        raise ValueError(f"{name} must be one or more whole numbers, got none.")
    return numbers


def float_array(image: Any, name: str) -> np.ndarray:
    """An array or tensor of any real type, on any device, as float32.

    Raises:
        TypeError: it is neither, or holds something else than real numbers.
        ValueError: it is empty, or holds NaN or infinity, also as a consequence of float32.
    """
    if isinstance(image, Tensor):
        kind, is_real = str(image.dtype), not image.is_complex() and not image.is_quantized
        array = image.detach().cpu().float().numpy() if is_real else None
    elif isinstance(image, np.ndarray):
        kind, is_real = image.dtype.name, image.dtype.kind in "biuf"
        with np.errstate(over="ignore"):  # told below
            array = image.astype(np.float32) if is_real else None
    else:
        raise TypeError(f"{name} must be a NumPy array or a tensor, got {type(image).__name__}.")
    if array is None:
        raise TypeError(f"{name} must hold real numbers (whole numbers or floats of any size), got {kind}.")
    if not array.size:
        raise ValueError(f"{name} must hold at least one pixel, got the shape {array.shape}.")
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise ValueError(f"{name} must be finite in float32: {wrong} of {array.size} values are NaN or infinite.")
    return array


def image_batch(images: Any, channels: int, dimension: int) -> Tensor:
    """Images as one float32 tensor (N, C, *space) on the CPU.

    Args:
        images: array or tensor: (*space) or (C, *space), one image, or (N, C, *space).
        channels: that they must have.
        dimension: number of spatial axes, 2 or 3.

    Raises:
        TypeError, ValueError: it is none of these, has other channels, or values that are no finite numbers.
    """
    array = float_array(images, "images")
    space = ", ".join(AXES[dimension])
    missing = dimension + 2 - array.ndim
    if missing not in (0, 1, 2):
        raise ValueError(
            f"images must have the axes ({space}), (channels, {space}) or (images, channels, {space}), got the shape "
            f"{array.shape}."
        )
    batch = array.reshape(*[1] * missing, *array.shape)
    if batch.shape[1] != channels:
        read_as = ("images, channels", "channels")[missing] if missing < 2 else "one channel"
        hint = f" Several images of one channel have the shape (images, 1, {space})." if missing == 1 else ""
        raise ValueError(
            f"images of the shape {array.shape} have {batch.shape[1]} channel(s) (axes: {read_as}, {space}), the "
            f"denoiser takes {channels}.{hint}"
        )
    return torch.from_numpy(batch)


def spacing_of(spacing: Any) -> tuple[float, ...]:
    """Two or three positive numbers.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if not isinstance(spacing, Sequence | np.ndarray | Tensor) or isinstance(spacing, str):
        raise TypeError(f"spacing must be two or three numbers, such as (1, 1), got {spacing!r}.")
    values = tuple(float(value) if isinstance(value, Real | Tensor) else float("nan") for value in spacing)
    if len(values) not in AXES or not all(0 < value < float("inf") for value in values):
        raise ValueError(
            "spacing must be two (rows, columns) or three (slices, rows, columns) numbers above 0, got "
            f"{tuple(spacing)}."
        )
    return values
