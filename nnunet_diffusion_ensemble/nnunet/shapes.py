"""Whether the weights of a file are those of a network: by name and shape, with the differences in words."""

from collections.abc import Mapping, Sequence

from torch import Tensor

SHOWN_DIFFERENCES = 6


def different_shapes(
    theirs: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    where_theirs: str = "in the checkpoint",
    where_ours: str = "in the network",
) -> list[str]:
    """Where two state dicts differ in name or shape.

    Args:
        theirs: weights of the file.
        ours: weights of the network, whose order is kept.
        where_theirs: what a message calls the place of the first ones.
        where_ours: and that of the second ones.

    Returns:
        a line for each weight that differs, e.g. `a.weight: (2, 1) in the checkpoint, missing in the network`.
    """
    shapes = [{name: tuple(value.shape) for name, value in weights.items()} for weights in (theirs, ours)]
    return [
        f"{name}: {shapes[0].get(name, 'missing')} {where_theirs}, {shapes[1].get(name, 'missing')} {where_ours}"
        for name in dict.fromkeys([*ours, *theirs])
        if shapes[0].get(name) != shapes[1].get(name)
    ]


def listed(differences: Sequence[str]) -> str:
    """The first few of them, each on a line of its own, as the part of a message that follows a colon."""
    return "".join(f"\n  {difference}" for difference in differences[:SHOWN_DIFFERENCES])
