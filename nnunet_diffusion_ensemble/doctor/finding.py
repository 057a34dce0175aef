"""One line of `nnunet-diffusion doctor`: what was looked at, the verdict, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

OK, NOTE, PROBLEM = VERDICTS = ("ok", "note", "problem")


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        about: what was looked at, in a word or two.
        verdict: `ok`, `note` for what works but may not be wanted, or `problem` for what will fail.
        text: what it is.
        remedy: what to do, where there is anything.
    """

    about: str
    verdict: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict:8}{self.about}: {self.text}"
        return f"{line}\n{'':8}-> {self.remedy}" if self.remedy else line


def is_well(findings: Sequence[Finding]) -> bool:
    """Whether nothing will fail."""
    return all(finding.verdict != PROBLEM for finding in findings)
