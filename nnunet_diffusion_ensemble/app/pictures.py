"""The page's pictures: contours of each timestep and of the ensemble, and the entropy over the image."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_diffusion_ensemble.app.look import Inspection
from nnunet_diffusion_ensemble.data.pixels import SizePx, resize_mask, resize_values
from nnunet_diffusion_ensemble.report.figures.contours import draw_contour

LONGEST_SIDE_PX, WIDTH_INCHES, TITLE_INCHES, LEGEND_INCHES, DPI = 640, 4.5, 0.3, 0.8, 150
ENSEMBLE_COLORS = ("#56B4E9", "#009E73", "#0072B2", "#CC79A7", "#D55E00", "#F0E442")  # Okabe and Ito's
ENTROPY_MAP, MOST_OPAQUE = "inferno", 0.85
LEGEND_COLUMNS, FONT_SIZE = 4, 9
LEGEND_SPACING = {"handlelength": 1.4, "handletextpad": 0.5, "columnspacing": 1.0}  # four columns fit the width
FEWEST_GREY_STEPS = 200


@dataclass(frozen=True)
class Display:
    """What is shown of an image.

    Attributes:
        slice_index: of a volume.
        level: grey value in the middle of the window.
        window: how many grey values there are from black to white.
    """

    slice_index: int
    level: float
    window: float

    @property
    def limits(self) -> tuple[float, float]:
        half = max(self.window, 1e-6) / 2
        return self.level - half, self.level + half


def first_shown(look: Inspection) -> Display:
    """The slice with the most foreground, and a window that leaves out the lowest and highest half percent."""
    low, high = np.quantile(look.image, (0.005, 0.995))
    return Display(look.fullest_slice, float(low + high) / 2, max(float(high - low), 1e-6))


def grey_steps(low: float, high: float) -> tuple[float, float, float]:
    """Ends and step of sliders over grey values from `low` to `high`: round numbers, at least 200 steps."""
    if high <= low:
        return low, low + 1, 1.0
    step = 10.0 ** math.floor(math.log10((high - low) / FEWEST_GREY_STEPS))
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def contours_picture(look: Inspection, shown: Display) -> np.ndarray:
    """The image with thin lines for each timestep and thick ones for the ensemble; (height, width, 3) in uint8."""
    figure, axes, size_px = _grey_image(look, shown, "Each timestep and the ensemble")
    handles: list[Line2D] = []
    timesteps = look.prediction.timesteps or {}
    colors = colormaps["plasma"](np.linspace(0.25, 1, max(len(timesteps), 1)))
    for (timestep, labels), color in zip(timesteps.items(), colors, strict=False):
        style: dict[str, Any] = {"colors": to_hex(color), "linewidths": 1.0, "linestyles": "solid"}
        for values in look.classes.values():
            draw_contour(axes, _mask(labels, shown, values, size_px), style)
        handles.append(_handle(style, f"t = {timestep}"))
    for (name, values), color in zip(look.classes.items(), ENSEMBLE_COLORS * len(look.classes), strict=False):
        style = {"colors": color, "linewidths": 2.4, "linestyles": "dashed"}
        draw_contour(axes, _mask(look.prediction.segmentation, shown, values, size_px), style)
        handles.append(_handle(style, f"{name}, ensemble" if timesteps else name))
    place: dict[str, Any] = {"loc": "lower center", "ncols": LEGEND_COLUMNS, "frameon": False, "fontsize": FONT_SIZE}
    figure.legend(handles=handles, **(place | LEGEND_SPACING))
    return _pixels(figure)


def entropy_picture(look: Inspection, shown: Display) -> np.ndarray:
    """The image with its predictive entropy laid over; (height, width, 3) in uint8."""
    figure, axes, size_px = _grey_image(look, shown, "Entropy over the image")
    entropy = resize_values(look.prediction.entropy[shown.slice_index], size_px)
    axes.imshow(
        entropy,
        cmap=ENTROPY_MAP,
        vmin=0,
        vmax=1,
        alpha=MOST_OPAQUE * entropy.clip(0, 1),  # what is certain is clear
        aspect=axes.get_aspect(),
    )
    share = LEGEND_INCHES / figure.get_figheight()
    scale = figure.add_axes((0.25, 0.6 * share, 0.5, 0.18 * share))
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), ENTROPY_MAP), cax=scale, orientation="horizontal", ticks=[0, 0.5, 1]
    )
    bar.ax.set_xticklabels(["certain", "0.5", "undecided"], fontsize=FONT_SIZE)
    return _pixels(figure)


def _grey_image(look: Inspection, shown: Display, title: str) -> tuple[Figure, Axes, SizePx]:
    """A figure with a title and the image, and the size in which all else is drawn on it."""
    image = look.image[shown.slice_index]
    shrunk = min(1.0, LONGEST_SIDE_PX / max(image.shape))
    rows, columns = (max(1, round(side * shrunk)) for side in image.shape)
    height = WIDTH_INCHES * float(np.clip(rows * look.aspect / columns, 0.3, 2.0))
    whole = TITLE_INCHES + height + LEGEND_INCHES
    figure = Figure(figsize=(WIDTH_INCHES, whole), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.02, 1 - TITLE_INCHES / 2 / whole, title, va="center", fontsize=FONT_SIZE + 1, fontweight="bold")
    axes = figure.add_axes((0, LEGEND_INCHES / whole, 1, height / whole))
    low, high = shown.limits
    small = resize_values(image, (rows, columns))
    axes.imshow(small, cmap="gray", vmin=low, vmax=high, aspect=look.aspect, interpolation="bilinear")
    axes.set_axis_off()
    axes.set_autoscale_on(False)  # contours go around pixels at the edge, and would shrink the image
    return figure, axes, (rows, columns)


def _mask(labels: np.ndarray, shown: Display, values: tuple[int, ...], size_px: SizePx) -> np.ndarray:
    return resize_mask(np.isin(labels[shown.slice_index], values).astype(np.uint8), size_px)


def _handle(style: dict[str, Any], label: str) -> Line2D:
    return Line2D([], [], color=style["colors"], lw=style["linewidths"], ls=style["linestyles"], label=label)


def _pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
