"""Means of subgroups with their intervals: a row a group, a mark a model."""

import numpy as np
import pandas as pd

from nnunet_diffusion_ensemble.benchmark.results import as_name
from nnunet_diffusion_ensemble.report.figures.drawing import (
    Picture,
    add_legend,
    hide_grid,
    legend_entry,
    limits,
    model_styles,
    new_figure,
    picture,
    set_title,
    wrapped,
)
from nnunet_diffusion_ensemble.report.view import View

ROW_INCHES = 0.3  # of a model in a group
CAPTION = "Bars are 95% bootstrap intervals. Faint: too few patients to say anything. In brackets: patients."


def subgroup_pictures(view: View, described: pd.DataFrame) -> list[Picture]:
    """A picture a label, domain and column of the metadata.

    Args:
        view: what is shown.
        described: `describe_subgroups` of its metric, labels and models.
    """
    shown = described.dropna(subset="mean")
    return [
        _picture(view, rows, label, domain.name, str(column))
        for label in view.labels
        for domain in view.domains
        for column, rows in shown[(shown["label"] == label) & (shown["domain"] == domain.name)].groupby(
            "column", sort=False, observed=True
        )
    ]


def _picture(view: View, rows: pd.DataFrame, label: str, domain: str, column: str) -> Picture:
    groups, models = list(rows["group"].unique()), [name for name in view.models if (rows["model"] == name).any()]
    patients = rows.groupby("group", observed=True)["num_patients"].max()
    figure = new_figure(ROW_INCHES * len(groups) * (len(models) + 1) + 1.4)
    axes = figure.subplots()
    styles = model_styles(view.models)
    for row in rows.itertuples(index=False):
        position = groups.index(row.group) + 0.7 * ((models.index(row.model) + 0.5) / len(models) - 0.5)
        errors = np.nan_to_num([[row.mean - row.ci_low], [row.ci_high - row.mean]]).clip(0)
        style, alpha = styles[row.model], 0.35 if row.is_small else 1.0
        axes.errorbar(
            row.mean,
            position,
            xerr=errors,
            color=style.color,
            marker=style.marker,
            capsize=3,
            alpha=alpha,
            markersize=6,
        )
    names = [wrapped(f"{group} ({patients[group]})", 18) for group in groups]
    axes.set_yticks(range(len(groups)), names)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    hide_grid(axes, "y")
    ends = rows[["mean", "ci_low", "ci_high"]]
    axes.set_xlim(limits(ends.min().min(), ends.max().max(), view.is_share))
    axes.set_xlabel(view.axis_title)
    set_title(figure, f"{label}, {domain} ({view.roles[domain]}), by {column}")
    add_legend(figure, [legend_entry(model, styles[model]) for model in models])
    alt = f"Mean {view.metric.title} of {label} on {domain} by {column}: " + ", ".join(
        f"{row.model} {row.group} {row.mean:.3g}" for row in rows.itertuples(index=False)
    )
    name = f"subgroups_{view.label_name(label)}_{as_name(domain)}_{as_name(column)}"
    return picture(figure, name, alt, CAPTION + view.at_labelled_cases())
