"""What cannot be tested: named, and refused or left out as the user chose. Never dropped without a word."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_diffusion_ensemble.benchmark.results import PROBLEM_COLUMNS
from nnunet_diffusion_ensemble.system.atomic import whole_file
from nnunet_diffusion_ensemble.system.messages import raise_listing

NUM_LISTED = 20


@dataclass(frozen=True)
class Problem:
    """A row of problems.csv; model, domain and case are empty where it concerns all of them.

    Attributes:
        problem: what is wrong, with files and numbers, and what to do about it.
        action: what was done about it.
    """

    problem: str
    model: str = ""
    domain: str = ""
    case: str = ""
    action: str = "left out"

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.model, self.domain, self.case, self.problem)))


def refuse(problems: Sequence[Problem], headline: str) -> None:
    """Raises a ValueError that lists the first problems and counts all, if there are any."""
    listed = list(map(str, problems[:NUM_LISTED]))
    if len(problems) > NUM_LISTED:
        listed.append(f"... and {len(problems) - NUM_LISTED} more")
    raise_listing(f"{headline} ({len(problems)} problem(s)):", listed)


def write_problems(file: Path, problems: Iterable[Problem]) -> None:
    """Writes problems.csv, with its header alone if there are none."""
    with whole_file(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, PROBLEM_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, problems))
