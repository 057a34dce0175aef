"""One data set examined: how far it has come, and every image of it read."""

from collections.abc import Iterator

from nnunet_diffusion_ensemble.doctor.datasets import NAME, Places, look_at_dataset
from nnunet_diffusion_ensemble.doctor.finding import Finding


def examine(number: int, places: Places, num_processes: int) -> Iterator[Finding]:
    """Looks at one data set, by its number.

    Raises:
        ValueError: there is no such data set, or there are several.
    """
    names = [name for name in places.datasets() if (match := NAME.fullmatch(name)) and int(match[1]) == number]
    if len(names) != 1:
        there = ", ".join(places.datasets()) or "none"
        what = f"{len(names)} data sets have" if names else "No data set has"
        raise ValueError(f"{what} the number {number}; there are {there}.")
    yield from look_at_dataset(names[0], places)
