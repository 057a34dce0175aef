"""Reliability diagrams: is a predicted probability of 0.8 right eight times in ten?"""

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

CAPTION = "All pixels of all cases and seeds together, in bins of the predicted probability; the grey line is perfect."
SUMS = ["pixels", "probability_sum", "positives"]


def calibration_pictures(view: View) -> list[Picture]:
    """Observed over predicted share by bins of the probability, one curve a model; a picture a label and domain."""
    rows = view.chosen(view.results.calibration)
    bins = rows.groupby(["model", "domain", "label", "bin_lower"], observed=True)[SUMS].sum().reset_index()
    bins = bins[bins["pixels"] > 0]
    return [
        _reliability(view, bins[(bins["label"] == label) & (bins["domain"] == domain.name)], label, domain.name)
        for label in view.labels
        for domain in view.domains
        if ((bins["label"] == label) & (bins["domain"] == domain.name)).any()
    ]


def expected_calibration_error(bins: pd.DataFrame) -> float:
    """Mean over pixels of |mean probability - share that has the label| of their bin (Naeini et al. 2015)."""
    return float((bins["probability_sum"] - bins["positives"]).abs().sum() / bins["pixels"].sum())


def _reliability(view: View, bins: pd.DataFrame, label: str, domain: str) -> Picture:
    figure = new_figure(5.0)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#5b6670", linewidth=1)
    styles, handles, errors = model_styles(view.models), [], {}
    for model in view.models:
        of_model = bins[bins["model"] == model].sort_values("bin_lower")
        if of_model.empty:
            continue
        predicted, observed = (of_model[column] / of_model["pixels"] for column in SUMS[1:])
        style = styles[model]
        axes.plot(predicted, observed, color=style.color, marker=style.marker, linestyle=style.line, markersize=5)
        errors[model] = expected_calibration_error(of_model)
        handles.append(legend_entry(f"{model}, ECE\N{NO-BREAK SPACE}{errors[model]:.3f}", style))
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
    axes.set(xlabel="predicted probability", ylabel="share of pixels that have the label", aspect="equal")
    set_title(figure, f"{label}, {domain} ({view.roles[domain]})")
    add_legend(figure, handles)
    alt = f"Reliability curves of {label} on {domain}. Expected calibration error: " + ", ".join(
        f"{model} {error:.3f}" for model, error in errors.items()
    )
    name = f"calibration_{view.label_name(label)}_{as_name(domain)}"
    return picture(figure, name, alt, CAPTION + view.at_labelled_cases())
