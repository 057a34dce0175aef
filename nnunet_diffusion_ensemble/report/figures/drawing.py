"""How all figures of a report are drawn: size, colours, markers and lines of models, and the files made of them.

Colours are seaborn's "colorblind" palette; as it is not enough for grey prints and many models, markers and line styles
differ as well. Figures are drawn on Agg without pyplot, so that nothing is left behind in a user's session.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (2, 1)))
PANEL_WIDTH_INCHES = 5.2  # two stand side by side on a laptop, one fills a phone
PIXELS_PER_INCH = 160
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 10.5,
    "axes.titlesize": 12,
    "axes.titleweight": "normal",  # each further font takes as long to embed in a PDF as the figure to draw
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5b6670",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e6e8",
    "legend.frameon": False,
    "text.parse_math": False,  # a model may be called $x$
    "pdf.fonttype": 42,  # text stays text for whoever edits the figure
}


@dataclass(frozen=True)
class Picture:
    """A figure, as files.

    Attributes:
        name: of its files.
        alt: what it shows, for readers who do not see it.
        caption: below it.
        png: for the page.
        pdf: for a paper.
        width_px: at which it is shown if there is room.
        height_px: for that width.
    """

    name: str
    alt: str
    caption: str
    png: bytes
    pdf: bytes
    width_px: int
    height_px: int


@dataclass(frozen=True)
class ModelStyle:
    """How a model is drawn wherever it appears."""

    color: tuple[float, float, float]
    marker: str
    line: Any


def model_styles(models: Sequence[str]) -> dict[str, ModelStyle]:
    """A colour, a marker and a line style for each model; 10, 11 and 7 of them, so that 770 models differ."""
    colors = sns.color_palette("colorblind")
    return {
        model: ModelStyle(colors[i % len(colors)], MARKERS[i % len(MARKERS)], LINES[i % len(LINES)])
        for i, model in enumerate(models)
    }


def new_figure(height_inches: float, width_inches: float = PANEL_WIDTH_INCHES) -> Figure:
    """An empty figure that makes room for what surrounds its axes."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def picture(figure: Figure, name: str, alt: str, caption: str) -> Picture:
    """The figure as PNG and PDF, the same bytes whenever it is drawn."""
    png, pdf = png_of(figure), io.BytesIO()
    figure.set_layout_engine("none")  # the places stay; finding them again takes as long as drawing
    figure.savefig(pdf, format="pdf", dpi=PIXELS_PER_INCH, metadata={"CreationDate": None})
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    return Picture(name, alt, caption, png, pdf.getvalue(), width, height)


def png_of(figure: Figure, pixels_per_inch: int = PIXELS_PER_INCH) -> bytes:
    """The figure as PNG, the same bytes whenever it is drawn."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=pixels_per_inch, metadata={"Software": None})
    return png.getvalue()


def legend_entry(label: str, style: ModelStyle, **line: Any) -> Line2D:
    """A sample of the model's line for a legend."""
    settings = {"color": style.color, "marker": style.marker, "linestyle": style.line} | line
    return Line2D([], [], label=wrapped(label, 46), **settings)


def add_legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """A legend below the axes, in two columns where the labels are short."""
    labels = [str(handle.get_label()) for handle in handles]
    for handle, label in zip(handles, labels, strict=True):
        handle.set_label(f" {label}" if label.startswith("_") else label)  # matplotlib leaves out what begins with _
    columns = 2 if max(map(len, labels)) <= 22 else 1
    figure.legend(handles=list(handles), loc="outside lower left", ncols=columns, fontsize=10, handlelength=3.4)


def limits(low: float, high: float, is_share: bool) -> tuple[float, float]:
    """The range of an axis for values from low to high, with some room; shares do not go beyond 0 and 1 by much."""
    room = 0.05 * max(high - low, 0.02 if is_share else 1e-6)
    if is_share:
        return max(low - room, -0.02), min(high + room, 1.02)
    return low - room, high + room


def wrapped(name: str, width: int) -> str:
    """A name in lines of at most so many characters, where it can be broken: at spaces, _, - and before capitals."""
    lines = [""]
    for piece in re.split(r"(?<=[ _-])|(?<=[a-z0-9])(?=[A-Z])", name):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def set_title(figure: Figure, text: str) -> None:
    """A title at the left of the whole figure."""
    figure.suptitle(wrapped(text, 48), x=0.01, ha="left", fontsize=12)


def hide_grid(axes: Axes, axis: Any) -> None:
    axes.grid(False, axis=axis)
    axes.tick_params(axis=axis, length=0)
