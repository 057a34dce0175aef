"""Sets the summary of a report on one page of A4, with reportlab; what does not fit is counted, not lost silently."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Image, Paragraph, Spacer, Table

from nnunet_diffusion_ensemble.report.one_page import OnePage, Row
from nnunet_diffusion_ensemble.report.shortened import short

FONT, BOLD = "DejaVuSans", "DejaVuSans-Bold"  # come with matplotlib: the same on every machine
MARGIN, GREY, INK = 13 * mm, colors.HexColor("#5b6670"), colors.HexColor("#1d2730")
WIDTH, HEIGHT = A4[0] - 2 * MARGIN, A4[1] - 2 * MARGIN
TABLE_SIZE, ROW_HEIGHT = 6.6, 9.2  # points
SHARES = {6: (0.21, 0.14, 0.26, 0.07, 0.22, 0.1), 7: (0.17, 0.11, 0.21, 0.06, 0.18, 0.09, 0.18)}  # widths by columns
TITLE = ParagraphStyle("title", fontName=BOLD, fontSize=14, leading=17, textColor=INK)
HEADING = ParagraphStyle("heading", fontName=BOLD, fontSize=8.5, leading=11, spaceBefore=5, textColor=INK)
TEXT = ParagraphStyle("text", fontName=FONT, fontSize=7.4, leading=9.4, textColor=INK)
POINT = ParagraphStyle("point", TEXT, leftIndent=8, bulletIndent=0)
SMALL = ParagraphStyle("small", TEXT, fontSize=6.2, leading=7.8, textColor=GREY)


@dataclass(frozen=True)
class Room:
    """How much is shown.

    Attributes:
        sentences: under each heading.
        domains: that were tested.
        rows: of the table, at least.
    """

    sentences: int
    domains: int
    rows: int


# From the most to the least; the last always fits.
ROOMS = Room(8, 8, 14), Room(5, 6, 12), Room(4, 5, 8), Room(3, 4, 5), Room(2, 3, 3), Room(1, 2, 0)


def one_page_pdf(content: OnePage) -> bytes:
    """The page as PDF, the same bytes whenever it is made."""
    for name in (FONT, BOLD):
        pdfmetrics.registerFont(TTFont(name, str(Path(matplotlib.get_data_path(), "fonts/ttf", f"{name}.ttf"))))
    parts = _fitting_parts(content)
    stream = io.BytesIO()
    canvas = Canvas(stream, pagesize=A4, invariant=True)
    canvas.setTitle(content.title)
    canvas.setSubject(content.subtitle)
    top = A4[1] - MARGIN
    for part in parts:
        _, height = part.wrap(WIDTH, HEIGHT)
        top -= height + part.getSpaceBefore()
        part.drawOn(canvas, MARGIN, top)
    canvas.save()
    return stream.getvalue()


def _fitting_parts(content: OnePage) -> list[Flowable]:
    """With as many rows as there is room for."""
    for room in ROOMS:
        rows = int((HEIGHT - _height(_parts(content, replace(room, rows=0)))) / ROW_HEIGHT)
        if rows >= min(room.rows, len(content.rows)):
            break
    return _parts(content, replace(room, rows=rows))


def _height(parts: Sequence[Flowable]) -> float:
    return sum(part.wrap(WIDTH, HEIGHT)[1] + part.getSpaceBefore() for part in parts)


def _parts(content: OnePage, room: Room) -> list[Flowable]:
    rows = _shown(content.rows, room.rows)
    return [
        _paragraph(content.title, TITLE),
        _paragraph(content.subtitle, SMALL),
        _paragraph("What was compared on what", HEADING),
        *_points(content.tested, room.domains + 1, "domain(s)"),
        _paragraph("Results", HEADING),
        Spacer(WIDTH, 2),
        _table(content.headings, rows),
        _paragraph(content.caption + _hidden(content, len(content.rows) - len(rows)), SMALL),
        Spacer(WIDTH, 3),
        Image(io.BytesIO(content.figure), WIDTH, WIDTH * content.figure_inches[1] / content.figure_inches[0]),
        _paragraph("In short", HEADING),
        *_points(content.findings, room.sentences, "sentence(s)"),
        *([_paragraph("Would one notice a bad case", HEADING)] if content.trust else []),
        *_points(content.trust, room.sentences, "sentence(s)"),
        _paragraph("Limits", HEADING),
        _paragraph(" ".join(content.limits), SMALL),
        Spacer(WIDTH, 3),
        _paragraph(content.identity, SMALL),
    ]


def _paragraph(text: str, style: ParagraphStyle, **options: str) -> Paragraph:
    return Paragraph(escape(text), style, **options)


def _points(sentences: Sequence[str], most: int, what: str) -> Iterator[Paragraph]:
    """The first of them, and how many more there are; a last one is shown rather than counted."""
    shown = sentences if len(sentences) <= most else sentences[: most - 1] if most > 1 else sentences[:1]
    for sentence in shown:
        yield _paragraph(sentence, POINT, bulletText="\N{EN DASH}")
    if len(shown) < len(sentences):
        yield _paragraph(f"{len(sentences) - len(shown)} more {what} in report.html.", SMALL)


def _shown(rows: Sequence[Row], most: int) -> list[Row]:
    """The best model of each domain and label, then the second of each, and so on, in the order of the table."""
    chosen = sorted(rows, key=lambda row: (row.rank, row.group))[:most]
    return sorted(chosen, key=lambda row: (row.group, row.rank))


def _hidden(content: OnePage, num_rows: int) -> str:
    models = f" {num_rows} more row(s) of other models, domains or labels are in report.html." if num_rows else ""
    labels = f" So are {content.hidden_labels} more label(s)." if content.hidden_labels else ""
    return models + (labels if models else labels.replace("So are", "In report.html are"))


def _table(headings: Sequence[str], rows: Sequence[Row]) -> Table:
    widths = [WIDTH * share for share in SHARES[len(headings)]]
    cells = [_fitted(headings, widths, BOLD)]
    starts, before = [], ("", "")
    for position, row in enumerate(rows, start=1):
        texts, key = list(row.cells), (row.cells[0], row.cells[1])
        if key == before:
            texts[:2] = "", ""
        elif position > 1:
            starts.append(position)
        cells.append(_fitted(texts, widths, FONT))
        before = key
    table = Table(cells, widths, ROW_HEIGHT)
    lines = [("LINEABOVE", (0, start), (-1, start), 0.25, colors.HexColor("#c9ced2")) for start in starts]
    table.setStyle(
        [
            ("FONT", (0, 0), (-1, 0), BOLD, TABLE_SIZE),
            ("FONT", (0, 1), (-1, -1), FONT, TABLE_SIZE),
            ("TEXTCOLOR", (0, 0), (-1, -1), INK),
            ("ALIGN", (3, 0), (-1, -1), "RIGHT"),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 3),
            ("TOPPADDING", (0, 0), (-1, -1), 0),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
            ("LINEBELOW", (0, 0), (-1, 0), 0.6, INK),
            *lines,
        ]
    )
    return table


def _fitted(texts: Sequence[str], widths: Sequence[float], font: str) -> list[str]:
    return [_fit(text, width - 6, font) for text, width in zip(texts, widths, strict=True)]


def _fit(text: str, width: float, font: str) -> str:
    """The text, or as much of both its ends as there is room for."""
    shown, length = text, len(text)
    while pdfmetrics.stringWidth(shown, font, TABLE_SIZE) > width:
        length -= 1
        shown = short(text, length)
    return shown
