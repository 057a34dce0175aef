"""Curves of retention: mean Dice of what is left when the worst-judged share of cases is sent to a person."""

import numpy as np
import pandas as pd

from nnunet_diffusion_ensemble.benchmark.results import as_name
from nnunet_diffusion_ensemble.report.figures.drawing import (
    Picture,
    add_legend,
    legend_entry,
    model_styles,
    new_figure,
    picture,
    set_title,
)
from nnunet_diffusion_ensemble.report.view import View
from nnunet_diffusion_ensemble.statistics.predicted_dice import Retention, retention

CAPTION = (
    "Cases are sent in the order of the lower ends of their intervals. The thin dotted line sends the truly worst "
    "first, which nobody can; the thin level one sends cases at random."
)
MOST_SENT = 0.9  # the last few cases say more about themselves than about the order


def retention_pictures(view: View, rows: pd.DataFrame) -> list[Picture]:
    """One curve a calibrated model, mean over seeds, one picture a domain.

    Args:
        view: what is shown.
        rows: with PREDICTED_DICE_COLUMNS.
    """
    return [
        _retention(view, rows[rows["domain"] == domain.name], domain.name)
        for domain in view.domains
        if (rows["domain"] == domain.name).any()
    ]


def _retention(view: View, rows: pd.DataFrame, domain: str) -> Picture:
    figure = new_figure(4.4)
    axes = figure.subplots()
    styles, gains = model_styles(view.models), {}
    shown = [model for model in view.models if (rows["model"] == model).any()]
    for model in shown:
        curves = [retention(one) for _, one in rows[rows["model"] == model].groupby("seed")]
        sent = np.linspace(0, MOST_SENT, 91)
        own, oracle = (np.mean([_at(curve, name, sent) for curve in curves], 0) for name in ("judged", "oracle"))
        style = styles[model]
        axes.plot(sent, own, color=style.color, linestyle=style.line, linewidth=1.8)
        axes.plot(sent, oracle, color=style.color, linestyle=":", linewidth=1)
        axes.axhline(float(np.mean([curve.random for curve in curves])), color=style.color, linewidth=0.8)
        gains[model] = float(np.mean([curve.share_of_oracle for curve in curves]))
    axes.set(xlabel="share of cases sent to a person", ylabel="mean Dice of those left")
    set_title(figure, f"{domain} ({view.roles[domain]})")
    add_legend(figure, [legend_entry(model, styles[model]) for model in shown])
    alt = f"Mean Dice of the cases left on {domain} over the share sent to a person; share of the oracle's gain: " + (
        ", ".join(f"{model} {gain:.2f}" for model, gain in gains.items())
    )
    return picture(figure, f"retention_{as_name(domain)}", alt, CAPTION + view.at_labelled_cases())


def _at(curve: Retention, name: str, sent: np.ndarray) -> np.ndarray:
    """Mean Dice of what is left when at most these shares are sent."""
    return getattr(curve, name)[np.searchsorted(curve.shares, sent + 1e-9, side="right") - 1]
