"""Curves over the number of labelled cases, and over timesteps (the first finding of Rosnati et al. 2023)."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nnunet_diffusion_ensemble.benchmark.results import as_name
from nnunet_diffusion_ensemble.report.figures.drawing import (
    ModelStyle,
    Picture,
    add_legend,
    hide_grid,
    legend_entry,
    limits,
    model_styles,
    new_figure,
    picture,
    set_title,
)
from nnunet_diffusion_ensemble.report.view import View

INTERVAL = "Bars are 95% bootstrap intervals over patients and, where there are several, seeds."


def label_efficiency_pictures(view: View, described: pd.DataFrame) -> list[Picture]:
    """One curve a model over the number of labelled cases, one picture a label and domain.

    Args:
        view: what is shown.
        described: `describe` of its values.
    """
    return [
        _label_efficiency(view, described[described["label"] == label], label, domain.name)
        for label in view.labels
        for domain in view.domains
    ]


def timestep_pictures(view: View, described: pd.DataFrame, ensemble: pd.DataFrame) -> list[Picture]:
    """Dice of each timestep alone with the ensemble's beside it, one picture a label and domain.

    Args:
        view: what is shown.
        described: `describe` by timestep, of the chosen models.
        ensemble: `describe` of the same models' own predictions.
    """
    return [
        _timesteps(
            view, described[described["label"] == label], ensemble[ensemble["label"] == label], label, domain.name
        )
        for label in view.labels
        for domain in view.domains
        if ((described["label"] == label) & (described["domain"] == domain.name)).any()
    ]


def _label_efficiency(view: View, described: pd.DataFrame, label: str, domain: str) -> Picture:
    figure = new_figure(4.4)
    axes = figure.subplots()
    rows = described[described["domain"] == domain]
    styles = model_styles(view.models)
    shown = [model for model in view.models if (rows["model"] == model).any()]
    for position, model in enumerate(shown):
        _draw_model(axes, rows[rows["model"] == model], styles[model], 0.012 * (position - (len(shown) - 1) / 2))
    numbers = sorted(described["labelled_cases"].dropna().unique())
    axes.set_xscale("log")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set_xticks([], minor=True)
    axes.set_xlim(numbers[0] / 1.15, numbers[-1] * 1.15)
    axes.set(xlabel="labelled cases (logarithmic)", ylabel=view.axis_title)
    set_title(figure, f"{label}, {domain} ({view.roles[domain]})")
    _share_range(axes, described, view)
    add_legend(figure, [legend_entry(model, styles[model]) for model in shown])
    alt = f"Curves of mean {view.metric.title} of {label} on {domain} over the number of labelled cases: " + "; ".join(
        f"{model} {_course(rows[rows['model'] == model])}" for model in shown
    )
    name = f"label_efficiency_{view.label_name(label)}_{as_name(domain)}"
    return picture(figure, name, alt, INTERVAL)


def _draw_model(axes: Axes, rows: pd.DataFrame, style: ModelStyle, shift: float) -> None:
    """The model's curve, moved a little so that bars stay apart; a level line without a number of labelled cases."""
    numbered = rows.dropna(subset="labelled_cases").sort_values("labelled_cases")
    at = numbered["labelled_cases"].to_numpy(float) * (1 + shift)
    _error_bars(axes, at, numbered, style)
    for mean in rows.loc[rows["labelled_cases"].isna(), "mean"]:
        axes.axhline(mean, color=style.color, linestyle=style.line, linewidth=1.4)


def _error_bars(axes: Axes, at: np.ndarray, rows: pd.DataFrame, style: ModelStyle, **line: Any) -> None:
    mean = rows["mean"].to_numpy(float)
    errors = np.stack([mean - rows["ci_low"].to_numpy(float), rows["ci_high"].to_numpy(float) - mean])
    settings = {"linestyle": style.line, "marker": style.marker, "markersize": 6, "linewidth": 1.6} | line
    axes.errorbar(at, mean, np.maximum(errors, 0), color=style.color, elinewidth=1.1, capsize=2.5, **settings)


def _share_range(axes: Axes, described: pd.DataFrame, view: View) -> None:
    """The same range in the pictures of all domains."""
    low, high = described[["mean", "ci_low"]].min().min(), described[["mean", "ci_high"]].max().max()
    if np.isfinite(low) and np.isfinite(high):
        axes.set_ylim(limits(low, high, view.is_share))


def _course(rows: pd.DataFrame) -> str:
    numbered = rows.dropna(subset="labelled_cases").sort_values("labelled_cases")
    values = [f"{row.mean_value:.3g} at {row.labelled_cases}" for row in _named(numbered)]
    return ", ".join(values) or ", ".join(f"{value:.3g}" for value in rows["mean"])


def _named(rows: pd.DataFrame) -> Any:
    return rows.rename(columns={"mean": "mean_value"}).itertuples()


def _timesteps(view: View, described: pd.DataFrame, ensemble: pd.DataFrame, label: str, domain: str) -> Picture:
    figure = new_figure(4.4)
    axes = figure.subplots()
    timesteps = [int(timestep) for timestep in sorted(described["timestep"].unique())]
    rows, own = described[described["domain"] == domain], ensemble[ensemble["domain"] == domain]
    styles = model_styles(view.models)
    shown = [model for model in view.models if (rows["model"] == model).any()]
    for position, model in enumerate(shown):
        shift = 0.12 * (position - (len(shown) - 1) / 2)
        of_model = rows[rows["model"] == model].sort_values("timestep")
        at = np.array([timesteps.index(timestep) for timestep in of_model["timestep"]]) + shift
        _error_bars(axes, at, of_model, styles[model])
        of_model = own[own["model"] == model]
        at = np.full(len(of_model), len(timesteps) + 0.5 + shift)
        _error_bars(axes, at, of_model, styles[model], linestyle="none", markersize=8)
    axes.axvline(len(timesteps) - 0.25, color="#5b6670", linewidth=0.8)
    axes.set_xticks([*range(len(timesteps)), len(timesteps) + 0.5], [*map(str, timesteps), "all"])
    hide_grid(axes, "x")
    set_title(figure, f"{label}, {domain} ({view.roles[domain]})")
    axes.set(xlabel="timestep alone; at the right the ensemble of all", ylabel="Dice")
    both = pd.concat([described, ensemble[ensemble["model"].isin(described["model"])]])
    low, high = both[["mean", "ci_low"]].min().min(), both[["mean", "ci_high"]].max().max()
    axes.set_ylim(limits(low, high, True))
    add_legend(figure, [legend_entry(model, styles[model]) for model in shown])
    alt = f"Mean Dice of {label} on {domain} by single timesteps and by their ensemble: " + "; ".join(
        _alt_of_timesteps(model, rows[rows["model"] == model], own[own["model"] == model]) for model in shown
    )
    caption = f"{INTERVAL}{view.at_labelled_cases()}"
    return picture(figure, f"timesteps_{view.label_name(label)}_{as_name(domain)}", alt, caption)


def _alt_of_timesteps(model: str, rows: pd.DataFrame, own: pd.DataFrame) -> str:
    alone = ", ".join(f"t {row.timestep}: {row.mean_value:.3g}" for row in _named(rows.sort_values("timestep")))
    return f"{model} {alone}" + "".join(f", ensemble {value:.3g}" for value in own["mean"])
