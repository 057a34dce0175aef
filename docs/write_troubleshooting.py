"""Writes docs/how-to/troubleshooting.md from the table of questions that a test asks the program itself."""

import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from twenty_questions import QUESTIONS, Answer, Question  # noqa: E402

from nnunet_diffusion_ensemble.system.atomic import write_text  # noqa: E402

PAGE = DOCS / "how-to" / "troubleshooting.md"
HEAD = """\
# Troubleshooting

The twenty questions most asked of nnU-Net and its forks, and what the program answers. A test makes each of these
mistakes and waits for these words, and `python docs/write_troubleshooting.py` makes this page of the same table.

- Begin with `nnunet-diffusion doctor`: it says whether all is well, from the installation to each data set, and what to
  do; `nnunet-diffusion doctor -d 1` reads every image of a data set.
- In nnU-Net's own commands our trainers and our planner end with a sentence, too. The whole stack trace comes with
  `export NNUNET_DIFFUSION_TRACEBACK=1`.
"""


def page() -> str:
    """The page as it should be."""
    return "\n".join([HEAD, *("\n".join(_section(question)) for question in QUESTIONS)])


def _section(question: Question) -> Iterator[str]:
    yield f"## {question.asked}\n"
    for answer in question.answers:
        yield from _answer(answer)
    threads = (f"[{thread.replace('/issues/', '#')}](https://github.com/{thread})" for thread in question.threads)
    yield f"Asked in {', '.join(threads)}.\n"


def _answer(answer: Answer) -> Iterator[str]:
    yield f"{answer.case[0].upper()}{answer.case[1:]}:\n"
    yield f"```bash\n{answer.command}\n```\n"
    yield f"```text\n{answer.says}\n```\n"


if __name__ == "__main__":
    write_text(PAGE, page().removesuffix("\n"))
