"""The best, median and worst case of each model in each domain: where the numbers come from, to look at."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_diffusion_ensemble.benchmark.results import as_name
from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec, ModelSpec
from nnunet_diffusion_ensemble.report.figures.case_images import CaseImages, Masks, read_case
from nnunet_diffusion_ensemble.report.figures.contours import draw_contour
from nnunet_diffusion_ensemble.report.figures.drawing import Picture, picture
from nnunet_diffusion_ensemble.report.view import View

REFERENCE: dict[str, Any] = {"colors": "#56B4E9", "linewidths": 2.6, "linestyles": "solid"}
PREDICTION: dict[str, Any] = {"colors": "#E69F00", "linewidths": 1.8, "linestyles": "dashed"}
CONTOUR_LINES = ("solid", "dashed", "dashdot", "dotted")
PANEL_INCHES, GAP_INCHES, TITLE_INCHES, LEGEND_INCHES = 3.1, 0.15, 0.3, 0.62


@dataclass(frozen=True)
class GalleryCase:
    """A case to show, and its picture or why there is none."""

    which: str
    case: str
    value: float
    picture: Picture | None
    problem: str | None = None


@dataclass(frozen=True)
class GalleryGroup:
    """Cases of one training, that with `seed`, in one domain, chosen from `num_cases`."""

    model: str
    domain: str
    seed: int
    num_cases: int
    cases: tuple[GalleryCase, ...]


def galleries(view: View) -> Iterator[GalleryGroup]:
    """Best, median and worst case, by the mean over labels, of each domain and chosen model with its first seed."""
    for domain in view.domains:
        for model in view.chosen_models():
            seed = min(model.seeds)
            values = _case_values(view, model, seed, domain.name)
            if len(values):
                cases = tuple(
                    _gallery_case(view, model, seed, domain, which, str(case), float(values[case]))
                    for which, case in best_median_worst(values, view.metric.higher_is_better).items()
                )
                yield GalleryGroup(model.name, domain.name, seed, len(values), cases)


def best_median_worst(values: pd.Series, higher_is_better: bool) -> dict[str, str]:
    """Which cases to show, each once; of an even number the worse median.

    Args:
        values: by case, all defined.
        higher_is_better: direction of the metric.
    """
    in_order = values.sort_index().sort_values(kind="stable", ascending=higher_is_better).index  # the worst first
    positions = {"worst": 0, "best": len(in_order) - 1, "median": (len(in_order) - 1) // 2}
    taken: dict[int, str] = {}
    for which, position in positions.items():
        taken.setdefault(position, which)
    return {taken[position]: in_order[position] for position in sorted(taken, reverse=True)}


def _case_values(view: View, model: ModelSpec, seed: int, domain: str) -> pd.Series:
    rows = view.chosen(view.values)
    rows = rows[(rows["model"] == model.name) & (rows["seed"] == seed) & (rows["domain"] == domain)]
    return rows.groupby("case", observed=True)["value"].mean().dropna()


def _gallery_case(
    view: View, model: ModelSpec, seed: int, domain: DomainSpec, which: str, case: str, value: float
) -> GalleryCase:
    folder = view.results.folder.prediction(model, seed, domain.name)
    try:
        images = read_case(domain, folder, case, view.labels)
    except ValueError as error:
        return GalleryCase(which, case, value, None, str(error))
    score = f"{view.metric.title} {value:.3f}" + (f" {view.results.spec.unit}" if view.metric.has_length else "")
    cut = f", {images.cut}" if images.cut else ""
    caption = f"{which.capitalize()}: {case}, {score}{cut}."
    alt = f"{model.name} on {domain.name}, {which} case {case}, {score}{cut}: {_what(images)}."
    name = f"gallery_{as_name(domain.name)}_{as_name(model.name)}_{which}"
    return GalleryCase(which, case, value, picture(draw_case(images), name, alt, caption))


def _what(images: CaseImages) -> str:
    parts = ["contours of reference and prediction on the image"]
    parts += ["contours of the prediction of each timestep"] * bool(images.timesteps)
    parts += ["map of the entropy"] * (images.entropy is not None)
    return "; ".join(parts)


def draw_case(images: CaseImages) -> Figure:
    """Image with contours, single timesteps and entropy beside each other, as far as they are there."""
    panels: list[Callable[[Axes, CaseImages], None]] = [_draw_overlay]
    panels += [_draw_timesteps] * bool(images.timesteps)
    panels += [_draw_entropy] * (images.entropy is not None)
    rows, columns = images.image.shape[:2]
    height = PANEL_INCHES * float(np.clip(rows * images.aspect / columns, 0.4, 1.6))
    whole = TITLE_INCHES + height + LEGEND_INCHES
    figure = Figure(figsize=((PANEL_INCHES + GAP_INCHES) * len(panels), whole))
    FigureCanvasAgg(figure)
    width = PANEL_INCHES / (PANEL_INCHES + GAP_INCHES) / len(panels)
    for position, draw in enumerate(panels):
        place = (position / len(panels), LEGEND_INCHES / whole, width, height / whole)
        draw(figure.add_axes(place, anchor="NW"), images)
    return figure


def _draw_overlay(axes: Axes, images: CaseImages) -> None:
    _draw_image(axes, images, "Reference and prediction")
    _draw_masks(axes, images.reference, REFERENCE)
    _draw_masks(axes, images.prediction, PREDICTION)
    _legend(axes, {"reference": REFERENCE, "prediction": PREDICTION}, 2)


def _draw_timesteps(axes: Axes, images: CaseImages) -> None:
    _draw_image(axes, images, "Single timesteps")
    colors = colormaps["plasma"](np.linspace(0.3, 1, len(images.timesteps)))
    styles = {
        f"t = {timestep}": {"colors": to_hex(color), "linewidths": 1.2, "linestyles": CONTOUR_LINES[i % 4]}
        for i, (timestep, color) in enumerate(zip(images.timesteps, colors, strict=True))
    }
    for masks, style in zip(images.timesteps.values(), styles.values(), strict=True):
        _draw_masks(axes, masks, style)
    _legend(axes, styles, 4)


def _draw_entropy(axes: Axes, images: CaseImages) -> None:
    if images.entropy is None:
        return
    shown = axes.imshow(images.entropy, cmap="cividis", vmin=0, vmax=1, aspect=images.aspect, interpolation="nearest")
    _bare(axes, "Uncertainty (entropy)")
    inch = axes.figure.dpi / axes.bbox.height  # in heights of the axes
    scale = axes.inset_axes((0, -0.27 * inch, 1, 0.1 * inch))
    bar = axes.figure.colorbar(shown, cax=scale, orientation="horizontal", ticks=[0, 1])
    certain, undecided = bar.ax.set_xticklabels(["certain", "undecided"], fontsize=8)
    certain.set_horizontalalignment("left")
    undecided.set_horizontalalignment("right")
    bar.outline.set_visible(False)


def _draw_image(axes: Axes, images: CaseImages, title: str) -> None:
    """The image between its 0.5 and 99.5 percent quantiles, its pixels as they are."""
    image = images.image
    if image.ndim == 3:
        image = np.clip(image / max(float(image.max()), 1.0), 0, 1)[..., :3]
    low, high = np.quantile(image, (0.005, 0.995))
    settings: dict[str, Any] = {"cmap": "gray", "vmin": low, "vmax": max(high, low + 1e-6)}
    axes.imshow(image, aspect=images.aspect, interpolation="nearest", **settings)
    _bare(axes, title)


def _bare(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=9.5)
    axes.set(xticks=[], yticks=[], autoscale_on=False)  # contours do not change what is shown
    axes.spines[:].set_visible(False)


def _draw_masks(axes: Axes, masks: Masks, style: Mapping[str, Any]) -> None:
    for mask in masks.values():
        draw_contour(axes, mask, style)


def _legend(axes: Axes, styles: Mapping[str, Mapping[str, Any]], columns: int) -> None:
    handles = [
        Line2D([], [], color=style["colors"], ls=style["linestyles"], lw=style["linewidths"], label=name)
        for name, style in styles.items()
    ]
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(-0.03, 0.0),
        ncols=columns,
        fontsize=8,
        handlelength=2.0,
        handletextpad=0.4,
        columnspacing=0.9,
    )
