"""Means of the models with their intervals, all domains in one small figure: how they did at home and away."""

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_diffusion_ensemble.report.figures.drawing import MARKERS, limits, new_figure
from nnunet_diffusion_ensemble.report.shortened import short
from nnunet_diffusion_ensemble.report.view import View

MOST_LABELS, MOST_DOMAINS, LONGEST_NAME = 4, 6, 24  # more labels make panels too narrow for numbers


def means_figure(
    view: View, described: pd.DataFrame, models: Sequence[str], size_inches: tuple[float, float]
) -> Figure:
    """A panel a label, the first four of the view, a row a model, a marker and colour a domain.

    Args:
        view: what is shown.
        described: from `describe`, of the metric of the view and one row a model, domain and label.
        models: that have a row.
        size_inches: width and height.
    """
    labels = view.labels[:MOST_LABELS]
    rows = described[described["model"].isin(models) & described["label"].isin(labels)]
    width, height = size_inches
    figure = new_figure(height, width)
    panels = figure.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    for axes, label in zip(panels, labels, strict=True):
        _draw_panel(axes, view, rows[rows["label"] == label], models)
        axes.set_title(short(label, 60 // len(labels)), fontsize=8)
        axes.set_xlabel(view.axis_title, fontsize=7)
        axes.tick_params(labelsize=7)
    panels[0].set_yticks(range(len(models)), [short(model, LONGEST_NAME) for model in models])
    panels[0].set_ylim(max(len(models), 1) - 0.5, -0.5)
    _add_domains(figure, view)
    return figure


def _draw_panel(axes: Axes, view: View, rows: pd.DataFrame, models: Sequence[str]) -> None:
    domains = view.domains[:MOST_DOMAINS]
    colors, number = sns.color_palette("colorblind"), len(domains)
    for place, domain in enumerate(domains):
        shift = 0.5 * (place + 0.5) / number - 0.25
        for row in rows[rows["domain"] == domain.name].itertuples(index=False):
            at, color = models.index(row.model) + shift, colors[place % len(colors)]
            axes.plot([row.ci_low, row.ci_high], [at, at], color=color, linewidth=1.2)
            axes.plot(row.mean, at, MARKERS[place % len(MARKERS)], color=color, markersize=4)
    ends = rows[["mean", "ci_low", "ci_high"]]
    if ends.notna().any(axis=None):
        axes.set_xlim(limits(ends.min().min(), ends.max().max(), view.is_share))


def _add_domains(figure: Figure, view: View) -> None:
    colors, handles = sns.color_palette("colorblind"), []
    for place, domain in enumerate(view.domains[:MOST_DOMAINS]):
        name = f" {short(domain.name, LONGEST_NAME)} ({domain.role})"  # the blank: names that begin with _ get no entry
        color, marker = colors[place % len(colors)], MARKERS[place % len(MARKERS)]
        handles.append(Line2D([], [], color=color, marker=marker, markersize=4, label=name))
    figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=7)
