"""How far a benchmark has come, told to whoever runs it: the library itself prints nothing."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BenchmarkProgress:
    """One case more is done, or there is something to say.

    Attributes:
        step: `checking`, `reading`, `predicting` or `evaluating`.
        what: the cases' domain, or a model, a seed and a domain.
        done: how many cases are, in this step; or files that are read for their checksums.
        total: of how many.
        pairs_done: how many pairs of a trained model and a domain are finished.
        num_pairs: of how many; 0 as long as the cases are checked.
        note: for the log, e.g. what is computed anew and why.
    """

    step: str
    what: str
    done: int = 0
    total: int = 0
    pairs_done: int = 0
    num_pairs: int = 0
    note: str = ""


Report = Callable[[BenchmarkProgress], None]


def silent(progress: BenchmarkProgress) -> None:
    """Tells nobody."""
