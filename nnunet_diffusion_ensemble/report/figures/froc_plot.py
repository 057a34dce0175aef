"""FROC curves: recall of candidates over false positives a case, one curve a model."""

from collections.abc import Sequence

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
from nnunet_diffusion_ensemble.statistics.detection import FP_RATES, Froc

CAPTION = "Recall of all references over false positives a case, as the threshold of the candidates' probability falls."


def froc_pictures(view: View, curves: Sequence[Froc]) -> list[Picture]:
    """A picture a label and domain, of the models and labels that figures show."""
    pictures = []
    for label in view.labels:
        for domain in view.domains:
            here = [curve for curve in curves if (curve.key["label"], curve.key["domain"]) == (label, domain.name)]
            chosen = [curve for curve in here if _is_chosen(view, curve)]
            if chosen:
                pictures.append(_picture(view, chosen, label, domain.name))
    return pictures


def _is_chosen(view: View, curve: Froc) -> bool:
    number = curve.key["labelled_cases"]
    return pd.isna(number) or number == view.labelled_cases


def _picture(view: View, curves: Sequence[Froc], label: str, domain: str) -> Picture:
    figure = new_figure(4.4)
    axes = figure.subplots()
    styles, handles = model_styles(view.models), []
    for curve in curves:
        style = styles[curve.key["model"]]
        axes.step(curve.false_positives, curve.recall, where="post", color=style.color, linestyle=style.line)
        handles.append(legend_entry(curve.key["model"], style, marker=""))
    axes.set(xlim=(0, FP_RATES[-1]), ylim=(-0.02, 1.02), xlabel="false positives a case", ylabel="recall")
    set_title(figure, f"{label}, {domain} ({view.roles[domain]})")
    add_legend(figure, handles)
    alt = f"FROC curves of {label} on {domain}, recall at one false positive a case: " + ", ".join(
        f"{curve.key['model']} {curve.at(1):.3f}" for curve in curves
    )
    return picture(figure, f"froc_{view.label_name(label)}_{as_name(domain)}", alt, CAPTION + view.at_labelled_cases())
