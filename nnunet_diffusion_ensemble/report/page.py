"""The page of a report: sections of text, pictures and tables in one HTML file that needs nothing else."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from nnunet_diffusion_ensemble.report.figures.drawing import Picture
from nnunet_diffusion_ensemble.report.figures.gallery import GalleryGroup
from nnunet_diffusion_ensemble.report.tables import Table

LONG_TABLE = 50  # rows; longer ones are folded
LONG_CELL = 24  # characters; columns of longer ones are narrowed by breaking them
WIDE_TABLE = 10  # columns; wider ones are printed smaller
OPEN_GALLERIES = 8  # of more than so many, all are folded
NUMBER = re.compile(r"[<≥±+\u2212-]?\s?\.?\d[\d.,]*\b(?!\w)")


@dataclass(frozen=True)
class Section:
    """A part of the report: what it shows, in this order.

    Attributes:
        name: its anchor.
        title: its heading.
        paragraphs: of text.
        points: of a list.
        notes: small print.
        commands: lines of a shell.
        pictures: beside each other where there is room.
        tables: long ones folded.
        galleries: many of them folded.
        texts: title and content of whole files, folded.
    """

    name: str
    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    galleries: tuple[GalleryGroup, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()

    def all_pictures(self) -> tuple[Picture, ...]:
        """With those of the gallery."""
        shown = [case.picture for group in self.galleries for case in group.cases]
        return (*self.pictures, *(picture for picture in shown if picture is not None))


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The HTML of a page with a table of contents."""
    environment = Environment(
        loader=PackageLoader("nnunet_diffusion_ensemble.report"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    environment.filters["breakable"] = breakable
    environment.globals["alignment"] = alignment
    style = Markup(files(__package__).joinpath("templates/style.css").read_text(encoding="utf-8"))
    return environment.get_template("report.html.j2").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        style=style,
        long_table=LONG_TABLE,
        wide_table=WIDE_TABLE,
        open_galleries=OPEN_GALLERIES,
    )


def alignment(table: pd.DataFrame, position: int) -> Markup:
    """The class of a column's cells: numbers stand at the right, long texts in several lines."""
    cells = [str(cell) for cell in table.iloc[:, position] if str(cell)]
    if cells and all(NUMBER.match(cell) for cell in cells):
        return Markup(' class="number"')
    if any(len(cell) > LONG_CELL for cell in cells):
        return Markup(' class="text"')
    return Markup("")


def breakable(text: str) -> Markup:
    """A text that browsers may also break after _ and /, which names and paths are full of."""
    return Markup(re.sub(r"([_/]+)", r"\1<wbr>", str(escape(text))))
