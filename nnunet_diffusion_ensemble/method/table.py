"""The table of all keys in docs/reference/plans.md, made from the settings themselves.

`python -m nnunet_diffusion_ensemble.method.table docs/reference/plans.md` writes it anew.
"""

import sys
from pathlib import Path

from nnunet_diffusion_ensemble.method.keys import keys
from nnunet_diffusion_ensemble.system.atomic import write_text

START, END = "<!-- table of keys: made by python -m nnunet_diffusion_ensemble.method.table -->", "<!-- end of table -->"


def table() -> str:
    """One row a key, in Markdown."""
    rows = [("key in `diffusion`", "allowed", "default", "meaning"), ("---",) * 4]
    for key in keys():
        default = f"`{key.default}`" if key.default else "must be given"
        rows.append((f"`{key.path}`", key.allowed, default, key.description))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_table(text: str) -> str:
    """The text of the page with the table as it is now.

    Raises:
        ValueError: the page does not say where the table is.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"The page must have the lines {START!r} and {END!r}, with the table between them.")
    return f"{before}{START}\n\n{table()}\n\n{END}{after}"


def main(page: Path) -> None:
    """Writes the table of a page anew."""
    write_text(page, with_table(page.read_text(encoding="utf-8")).removesuffix("\n"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
