"""The values of single cases as box plots, and the domain gap of every model with its interval."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_diffusion_ensemble.benchmark.results import as_name
from nnunet_diffusion_ensemble.report.figures.drawing import (
    ModelStyle,
    Picture,
    limits,
    model_styles,
    new_figure,
    picture,
    set_title,
)
from nnunet_diffusion_ensemble.report.view import View, cases_in_words

ROW_INCHES = 0.5  # of a model, its name above
GAP_INTERVAL = "Bars are 95% bootstrap intervals over the patients of both domains and, where there are several, seeds."
KEYS = ["model", "labelled_cases", "domain", "label"]


def box_pictures(view: View) -> list[Picture]:
    """A box of cases for each model, in panels by the number of labelled cases; one picture a label and domain."""
    cases = view.values.groupby([*KEYS, "case"], dropna=False, observed=True)["value"].mean().reset_index()
    cases = cases.dropna(subset="value")
    return [
        _boxes(view, cases[cases["label"] == label], label, domain.name)
        for label in view.labels
        for domain in view.domains
        if ((cases["label"] == label) & (cases["domain"] == domain.name)).any()
    ]


def gap_pictures(view: View, gaps: pd.DataFrame) -> list[Picture]:
    """The domain gap of each model with its interval, a picture a label and pair of domains.

    Args:
        view: what is shown.
        gaps: `domain_gaps` of its values.
    """
    pictures = []
    for label in view.labels:
        of_label = gaps[gaps["label"] == label].dropna(subset="gap")
        for (source, target), rows in of_label.groupby(["source", "target"], sort=False):
            pictures.append(_gaps(view, rows, of_label, (label, str(source), str(target))))
    return pictures


def _boxes(view: View, cases: pd.DataFrame, label: str, domain: str) -> Picture:
    of_domain = cases[cases["domain"] == domain]
    groups = _by_labelled_cases(view, of_domain)
    figure, panels = _stacked_panels(groups)
    for axes, (number, models) in zip(panels, groups.items(), strict=True):
        _draw_boxes(axes, _with(of_domain, number), models, model_styles(view.models))
        axes.set_title(_panel_title(number))
        axes.set_xlim(limits(cases["value"].min(), cases["value"].max(), view.is_share))
    panels[-1].set_xlabel(view.axis_title)
    set_title(figure, f"{label}, {domain} ({view.roles[domain]})")
    medians = of_domain.groupby(["model", "labelled_cases"], dropna=False, sort=False)["value"].median()
    alt = f"Box plots of {view.metric.title} of {label} on {domain}, medians: " + ", ".join(
        f"{model}{_trained_on(number)} {median:.3g}" for (model, number), median in medians.items()
    )
    caption = "Boxes hold the middle half of the cases; each point is a case, mean over seeds."
    return picture(figure, f"boxes_{view.label_name(label)}_{as_name(domain)}", alt, caption)


def _by_labelled_cases(view: View, rows: pd.DataFrame) -> dict[int | None, list[str]]:
    """The models that have values with each number of labelled cases, in the order of the specification."""
    numbers = sorted(int(number) for number in rows["labelled_cases"].dropna().unique())
    groups: dict[int | None, list[str]] = {number: _models_of(view, _with(rows, number)) for number in numbers}
    if rows["labelled_cases"].isna().any():
        groups[None] = _models_of(view, _with(rows, None))
    return groups


def _with(rows: pd.DataFrame, number: int | None) -> pd.DataFrame:
    numbers = rows["labelled_cases"]
    return rows[numbers.isna() if number is None else (numbers == number).fillna(False)]


def _models_of(view: View, rows: pd.DataFrame) -> list[str]:
    there = set(rows["model"])
    return [model for model in view.models if model in there]


def _stacked_panels(groups: dict[int | None, list[str]]) -> tuple[Figure, list[Axes]]:
    """One panel for each number of labelled cases, as high as it has models."""
    heights = [len(models) + 1.2 for models in groups.values()]
    figure = new_figure(ROW_INCHES * sum(heights) + 0.6)
    panels = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    return figure, list(panels[:, 0])


def _panel_title(number: int | None) -> str:
    return "" if number is None else cases_in_words(number)


def _trained_on(number: Any) -> str:
    return "" if pd.isna(number) else f" ({_panel_title(number)})"


def _draw_boxes(axes: Axes, rows: pd.DataFrame, models: list[str], styles: dict[str, ModelStyle]) -> None:
    sns.boxplot(
        rows,
        x="value",
        y="model",
        hue="model",
        order=models,
        hue_order=models,
        palette={model: styles[model].color for model in models},
        ax=axes,
        width=0.45,
        fill=False,
        fliersize=0,
        linewidth=1.4,
        legend=False,
    )
    generator = np.random.default_rng(0)
    for position, model in enumerate(models):
        values = rows.loc[rows["model"] == model, "value"].to_numpy()
        heights = position + generator.uniform(-0.17, 0.17, len(values))
        alpha = 0.6 if len(values) < 100 else 0.3
        axes.scatter(values, heights, s=9, color=styles[model].color, alpha=alpha, linewidths=0, rasterized=True)
    _name_rows(axes, models)
    axes.set(xlabel="", ylabel="")


def _name_rows(axes: Axes, models: list[str]) -> None:
    """Names above the rows, which leaves the width to the values."""
    axes.set_yticks([])
    axes.set_ylim(len(models) - 0.6, -0.75)
    for position, model in enumerate(models):
        at: dict[str, Any] = {
            "transform": axes.get_yaxis_transform(),
            "va": "bottom",
            "bbox": {"fc": "white", "ec": "none", "pad": 0.5},
        }
        axes.text(0, position - 0.28, model, fontsize=9.5, **at)
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")


def _gaps(view: View, rows: pd.DataFrame, of_label: pd.DataFrame, names: tuple[str, str, str]) -> Picture:
    label, source, target = names
    groups = _by_labelled_cases(view, rows)
    figure, panels = _stacked_panels(groups)
    low, high = min(of_label[["gap", "ci_low"]].min().min(), 0), max(of_label[["gap", "ci_high"]].max().max(), 0)
    for axes, (number, models) in zip(panels, groups.items(), strict=True):
        _draw_gaps(axes, _with(rows, number).set_index("model"), models, model_styles(view.models))
        axes.set_title(_panel_title(number))
        axes.set_xlim(limits(low, high, False))
    panels[-1].set_xlabel(f"{view.axis_title}: {source} less {target}")
    set_title(figure, f"{label}, {source} to {target}")
    values = ", ".join(f"{row.model}{_trained_on(row.labelled_cases)} {row.gap:.3g}" for row in rows.itertuples())
    alt = f"Domain gap in {view.metric.title} of {label} from {source} to {target}: {values}"
    name = f"domain_gap_{view.label_name(label)}_{as_name(source)}_{as_name(target)}"
    return picture(figure, name, alt, GAP_INTERVAL)


def _draw_gaps(axes: Axes, rows: pd.DataFrame, models: list[str], styles: dict[str, ModelStyle]) -> None:
    axes.axvline(0, color="#1d2730", linewidth=1)
    for position, model in enumerate(models):
        gap, low, high = (float(rows.at[model, column]) for column in ("gap", "ci_low", "ci_high"))
        errors = np.nan_to_num([[max(gap - low, 0)], [max(high - gap, 0)]])
        style = styles[model]
        axes.errorbar(gap, position, xerr=errors, color=style.color, marker=style.marker, markersize=7, capsize=3)
    _name_rows(axes, models)
