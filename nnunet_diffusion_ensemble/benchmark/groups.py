"""How cases are grouped by a column of their metadata: by its categories, by given edges, or by quartiles."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from nnunet_diffusion_ensemble.system.mistakes import must_be
from nnunet_diffusion_ensemble.system.settings import Listed

CATEGORIES, QUARTILES = "categories", "quartiles"
NO_VALUE = "no value"  # the group of cases whose cell is empty
WORDS_OF_GROUPING = (
    "for each column of the metadata categories, quartiles, or rising numbers that part its values: `age: [40, 65]`"
)
WORDS_OF_MIX = (
    "for each column the shares of its groups (their names in quotes, if YAML takes them for numbers): "
    "`sex: {F: 0.5, M: 0.5}`"
)


def _rising(edges: tuple[float, ...]) -> tuple[float, ...]:
    if any(low >= high for low, high in pairwise(edges)):
        raise must_be("rising numbers")
    return edges


Edges = Annotated[Listed[float], Field(min_length=1), AfterValidator(_rising)]
Grouping = Literal["categories", "quartiles"] | Edges


def quartiles(numbers: Sequence[float]) -> tuple[float, ...]:
    """The edges between quarters of the numbers, linearly interpolated; fewer where many are equal, none of nothing."""
    return tuple(np.unique(np.quantile(numbers, (0.25, 0.5, 0.75))).tolist()) if len(numbers) else ()


def bin_names(edges: Sequence[float]) -> tuple[str, ...]:
    """For readers, from the lowest: `below 40`, `40 to below 65`, `65 and above`."""
    texts = [f"{edge:.6g}" for edge in edges]
    between = [f"{low} to below {high}" for low, high in pairwise(texts)]
    return (f"below {texts[0]}", *between, f"{texts[-1]} and above")


def bin_of(number: float, edges: Sequence[float]) -> str:
    """The name of the bin that a number lies in; an edge belongs to the bin above it."""
    return bin_names(edges)[int(np.searchsorted(edges, number, side="right"))]
