"""A contact sheet of cases: reference and prediction as contours on the image, the worst, median and best of a group.

Colours are of Okabe and Ito's palette, which colour-blind readers can tell apart; the lines differ in style as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_diffusion_ensemble.report.figures.contours import draw_contour
from nnunet_diffusion_ensemble.system.atomic import whole_file

REFERENCE: dict[str, Any] = {"colors": "#56B4E9", "linewidths": 3.0, "linestyles": "solid"}
PREDICTION: dict[str, Any] = {"colors": "#E69F00", "linewidths": 1.6, "linestyles": "solid"}
PANEL_INCHES = 3.2


@dataclass(frozen=True)
class OverlayCase:
    """A scored case: image (height, width) in any range; reference and prediction (height, width), nonzero inside."""

    name: str
    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    dice: float


def worst_median_best(cases: Sequence[OverlayCase]) -> dict[str, OverlayCase]:
    """Three cases by Dice, of an even number the lower median; with few cases the same one may come twice.

    Raises:
        ValueError: there is no case.
    """
    if not cases:
        raise ValueError("There is no case to choose from: give one or more.")
    ordered = sorted(cases, key=lambda case: (case.dice, case.name))
    return {"worst": ordered[0], "median": ordered[(len(ordered) - 1) // 2], "best": ordered[-1]}


def _draw_case(axis: Any, case: OverlayCase, title: str) -> None:
    low, high = np.quantile(case.image, (0.005, 0.995))
    axis.imshow(case.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bicubic")
    draw_contour(axis, case.reference, REFERENCE)
    draw_contour(axis, case.prediction, PREDICTION)
    axis.set_title(title, fontsize=10)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)


def write_overlay(groups: Mapping[str, Sequence[OverlayCase]], file: Path) -> None:
    """Writes a picture with one row for each group: its worst, median and best case by Dice.

    Args:
        groups: scored cases by the title of their row, e.g. the name of a hospital.
        file: PNG to write; it appears only when it is complete.

    Raises:
        ValueError: a group is empty, or there is none.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if not groups:
        raise ValueError("There is no group of cases to draw: give one or more.")
    figure = Figure(figsize=(3 * PANEL_INCHES + 0.4, (PANEL_INCHES + 0.6) * len(groups) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
    for row, (title, cases) in zip(rows, groups.items(), strict=True):
        row.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
        for axis, (which, case) in zip(row.subplots(1, 3), worst_median_best(cases).items(), strict=True):
            _draw_case(axis, case, f"{which}: {case.name}, Dice {case.dice:.3f}")
    handles = [
        Line2D([], [], color=style["colors"], lw=style["linewidths"], ls=style["linestyles"], label=label)
        for label, style in (("reference (drawn by hand)", REFERENCE), ("prediction", PREDICTION))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    with whole_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
