"""Accepted and rejected images with their pseudo-labels, to look at before anything is trained on them."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_diffusion_ensemble.images.reading import read_images, read_segmentation
from nnunet_diffusion_ensemble.report.figures.contours import draw_contour
from nnunet_diffusion_ensemble.self_training.image_rule import Verdict
from nnunet_diffusion_ensemble.system.atomic import whole_file

SHOWN, COLUMNS = 12, 6  # of each kind
PANEL_INCHES, TEXT_INCHES = 2.4, 0.75
HATCH, HATCH_COLOR = "/////", "#E69F00"
LETTERS = 38  # in a line under a panel


@dataclass(frozen=True)
class Shown:
    """What a panel shows: an image and its pseudo-label, (rows, columns) both."""

    verdict: Verdict
    image: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Legend:
    """Names and values of labels, and the value of dropped pixels."""

    regions: Mapping[str, tuple[int, ...]]
    ignore_label: int

    def styles(self) -> dict[str, dict[str, Any]]:
        colors = colormaps["tab10"].colors  # type: ignore[attr-defined]
        names = [name for name, labels in self.regions.items() if set(labels) != {0}]
        return {
            name: {"colors": to_hex(colors[i % len(colors)]), "linewidths": 1.4, "linestyles": "solid"}
            for i, name in enumerate(names)
        }


def chosen(verdicts: Sequence[Verdict], accepted: bool, number: int = SHOWN) -> list[Verdict]:
    """Some of the accepted or rejected, evenly spaced from the surest to the least sure, both ends among them."""
    kind = [verdict for verdict in verdicts if verdict.is_accepted == accepted]
    ordered = sorted(kind, key=lambda verdict: (-verdict.candidate.agreement, verdict.candidate.case))
    if len(ordered) <= number:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (number - 1))] for i in range(number)]


def flat(image: np.ndarray, labels: np.ndarray, spacing: Sequence[float], ignore_label: int) -> tuple[np.ndarray, ...]:
    """Image and label map as planes: a volume is cut across its largest spacing, through most foreground.

    Args:
        image: (slices, rows, columns), one channel.
        labels: the same shape.
        spacing: of these axes.
        ignore_label: counts as no foreground.
    """
    axis = 0 if len(image) == 1 else int(np.argmax(spacing))
    others = tuple(other for other in range(3) if other != axis)
    foreground = ((labels != 0) & (labels != ignore_label)).sum(others)
    position = int(foreground.argmax()) if foreground.any() else image.shape[axis] // 2
    return image.take(position, axis), labels.take(position, axis)


def read_shown(
    verdict: Verdict, images: Sequence[Path], pseudo_label: Path, reader_writer: BaseReaderWriter, ignore_label: int
) -> Shown:
    """A case for a panel; of several channels the first one is shown."""
    channels, properties = read_images(reader_writer, images)
    labels, _ = read_segmentation(reader_writer, pseudo_label)
    return Shown(verdict, *flat(channels[0], labels, properties["spacing"], ignore_label))


def write_picture(
    accepted: Sequence[Shown], rejected: Sequence[Shown], totals: tuple[int, int], legend: Legend, file: Path
) -> None:
    """Writes a PNG, whole or not at all.

    Args:
        accepted: to show.
        rejected: to show.
        totals: how many there are of both kinds.
        legend: what their label maps mean.
        file: to write.
    """
    groups = [
        (name, shown, total)
        for name, shown, total in zip(("accepted", "rejected"), (accepted, rejected), totals, strict=True)
    ]
    heights = [0.5 + max(1, ceil(len(shown) / COLUMNS)) * (PANEL_INCHES + TEXT_INCHES) for _, shown, _ in groups]
    figure = Figure(figsize=(COLUMNS * PANEL_INCHES, sum(heights) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (name, shown, total) in zip(parts, groups, strict=True):
        part.suptitle(_title(name, len(shown), total), fontsize=13, fontweight="bold", x=0.01, ha="left")
        axes = part.subplots(max(1, ceil(len(shown) / COLUMNS)), COLUMNS, squeeze=False).ravel()
        for axis, one in zip(axes, shown, strict=False):
            _draw(axis, one, legend)
        for axis in axes[len(shown) :]:
            axis.set_axis_off()
    handles: list[Any] = [
        Line2D([], [], color=style["colors"], lw=1.6, label=name) for name, style in legend.styles().items()
    ]
    handles.append(Patch(facecolor="none", edgecolor=HATCH_COLOR, hatch=HATCH, label="dropped pixels"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    with whole_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _title(name: str, shown: int, total: int) -> str:
    return f"{total} {name}" + (f", {shown} of them from the surest to the least sure" if shown < total else "")


def _draw(axis: Axes, shown: Shown, legend: Legend) -> None:
    axis.set(xticks=[], yticks=[])
    low, high = np.quantile(shown.image, (0.005, 0.995))
    axis.imshow(shown.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
    for name, style in legend.styles().items():
        draw_contour(axis, np.isin(shown.labels, legend.regions[name]), style)
    dropped = shown.labels == legend.ignore_label
    if dropped.any():
        hatched = np.pad(dropped.astype(float), 1)
        height, width = dropped.shape
        areas = axis.contourf(hatched, [0.5, 1.5], extent=(-1, width, -1, height), colors="none", hatches=[HATCH])
        areas.set(edgecolor=HATCH_COLOR, linewidth=0)
    axis.set(xlim=(-0.5, dropped.shape[1] - 0.5), ylim=(dropped.shape[0] - 0.5, -0.5))
    axis.set_title(shown.verdict.candidate.case, fontsize=8)
    axis.set_xlabel("\n".join(textwrap.wrap("; ".join(shown.verdict.reasons), LETTERS)), fontsize=6.5)
