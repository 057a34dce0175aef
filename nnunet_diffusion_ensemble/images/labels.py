"""Label maps beside what dataset.json allows, and beside the image that they belong to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_diffusion_ensemble.images.geometry import difference
from nnunet_diffusion_ensemble.images.reading import size

SHOWN_VALUES = 10


def allowed_values(dataset_json: Mapping[str, Any]) -> list[int]:
    """Those that a label map may hold: all labels, those of regions one by one, and the ignore label."""
    return sorted(set(np.hstack([*dataset_json["labels"].values()]).astype(int).tolist()))


def value_problem(labels: np.ndarray, allowed: Sequence[int]) -> str:
    """What values a label map holds that it may not, as a predicate; empty if there are none."""
    values = np.unique(labels)
    if np.isin(values, allowed).all():
        return ""
    wrong = values[~np.isin(values, allowed)]
    nearly = wrong[(np.abs(wrong - np.round(wrong)) < 1e-3) & (wrong != np.round(wrong))]
    listed = ", ".join(_digits(value) for value in values[:SHOWN_VALUES])
    more = ", ..." if len(values) > SHOWN_VALUES else ""
    remedy = (
        f"{_digits(nearly[0])} is no whole number: round the labels and store them as integers"
        if len(nearly)
        else "convert the masks, e.g. with nnunet-diffusion convert, or correct the labels in dataset.json"
    )
    return f"holds the values {listed}{more}; allowed are {', '.join(map(str, allowed))}: {remedy}"


def _digits(value: np.floating) -> str:
    """As many as tell it from others, also from whole numbers."""
    return np.format_float_positional(value, trim="-", unique=True)


def pair_problem(
    labels: np.ndarray,
    properties: Mapping[str, Any],
    image: np.ndarray,
    image_properties: Mapping[str, Any],
    image_file: Path,
    with_lengths: bool = True,
) -> str:
    """In what a label map (slices, rows, columns) does not lie on its image (channels, slices, rows, columns).

    Args:
        labels: voxels.
        properties: of its reader.
        image: voxels.
        image_properties: of its reader, the same one.
        image_file: its name is told.
        with_lengths: compare the spacing, too.

    Returns:
        A predicate of the label map; empty if it lies where the image does.
    """
    if labels.shape != image.shape[1:]:
        return f"is of size {size(labels[None])}, the image {image_file.name} of {size(image)}"
    differs = difference(properties, image_properties, with_lengths)
    return f"has {differs.format(other=f'the image {image_file.name}')}" if differs else ""
