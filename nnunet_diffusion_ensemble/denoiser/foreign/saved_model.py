"""A model of another library as it lies on disk, read into one form; weights with a JSON beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nnunet_diffusion_ensemble.nnunet.checkpoint import read_state_dict

WEIGHT_SUFFIXES = (".pt", ".pth")
IMAGE_RANGE = (-1.0, 1.0)
LEARNED_VARIANCES = ("learned", "learned_range")


@dataclass(frozen=True)
class SavedModel:
    """A model as its library saved it.

    Attributes:
        arguments: of the U-Net's constructor, as JSON; `in_channels` and `out_channels` among them.
        weights: state dict of the U-Net.
        alpha_bar: (timesteps,).
        prediction_type: in diffusers' words, which are ours.
        learns_variance: the second half of the output channels is a variance.
        image_range: of the images that it was trained on.
        native_size: spatial size of these images, if it is known.
    """

    arguments: dict[str, Any]
    weights: dict[str, Tensor]
    alpha_bar: Tensor
    prediction_type: str
    learns_variance: bool = False
    image_range: tuple[float, float] = IMAGE_RANGE
    native_size: tuple[int, ...] | None = None


def find_weights(path: Path, json_example: str) -> tuple[Path, Path]:
    """The file of weights, which may be named by its folder if it is the only one, and the JSON beside it.

    Args:
        path: file or folder.
        json_example: what the JSON should hold, for the message if it is missing.

    Raises:
        FileNotFoundError: if one of them is missing.
        ValueError: if the folder holds several files of weights.
    """
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in WEIGHT_SUFFIXES)
        if not found:
            raise FileNotFoundError(f"There is no state dict ({' or '.join(WEIGHT_SUFFIXES)}) in {path}.")
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise ValueError(f"{path} holds several files of weights: {names}. Name the one that is meant.")
        path = found[0]
    elif not path.is_file():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    description = path.with_suffix(".json")
    if not description.is_file():
        raise FileNotFoundError(
            f"{description} is missing: a state dict does not say which network it belongs to. Write one like\n"
            f"  {json_example}"
        )
    return path, description


def read_weights(file: Path) -> dict[str, Tensor]:
    """A state dict in single precision, without the prefix `module.` that data-parallel training leaves.

    Raises:
        ValueError: if the file is something else or truncated.
    """
    weights = read_state_dict(file)
    is_parallel = all(name.startswith("module.") for name in weights)
    return {name.removeprefix("module.") if is_parallel else name: w.float() for name, w in weights.items()}


def image_range_of(values: Mapping[str, Any], description: Path) -> tuple[float, float]:
    """`image_range` of a JSON beside weights; IMAGE_RANGE if it says nothing.

    Raises:
        ValueError: if it is not a lower and a higher number.
    """
    image_range = values.get("image_range", IMAGE_RANGE)
    if not _are_numbers(image_range, 2) or not image_range[0] < image_range[1]:
        raise ValueError(f"image_range in {description} must be [lowest, highest], got {image_range!r}.")
    return float(image_range[0]), float(image_range[1])


def image_size_of(values: Mapping[str, Any], dimension: Any, description: Path) -> tuple[int, ...] | None:
    """`image_size` of a JSON beside weights; None if it says nothing.

    Raises:
        ValueError: if it is not one number for each axis.
    """
    size = values.get("image_size")
    if size is not None and not _are_numbers(size, dimension):
        raise ValueError(f"image_size in {description} must be {dimension} numbers, [64, 64, ...], got {size!r}.")
    return None if size is None else tuple(map(int, size))


def _are_numbers(value: Any, length: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == length and all(isinstance(v, int | float) for v in value)
