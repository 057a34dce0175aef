"""Bland-Altman plots: the difference of predicted and reference volume over their mean, a panel a model."""

import pandas as pd
from matplotlib.axes import Axes

from nnunet_diffusion_ensemble.benchmark.results import as_name
from nnunet_diffusion_ensemble.report.figures.drawing import (
    ModelStyle,
    Picture,
    model_styles,
    new_figure,
    picture,
    set_title,
    wrapped,
)
from nnunet_diffusion_ensemble.report.view import View
from nnunet_diffusion_ensemble.statistics.agreement import Limits, limits_of_agreement

PANEL_INCHES = 2.3  # height of a model's
CAPTION = "Prediction less reference over the mean of both; bias and limits of agreement, with 95% intervals as bands."


def shown_unit(unit: str, axes: int) -> tuple[str, float]:
    """How volumes are told, and what they are multiplied by: mm2, ml, pixels or voxels."""
    if unit == "mm":
        return ("mm\N{SUPERSCRIPT TWO}", 1.0) if axes == 2 else ("ml", 1e-3)
    return ("pixels" if axes == 2 else "voxels"), 1.0


def in_shown_unit(volumes: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Volumes as they are told."""
    factors = volumes["axes"].map(lambda axes: shown_unit(unit, int(axes))[1])
    return volumes.assign(**{name: volumes[name] * factors for name in ("reference", "prediction")})


def bland_altman_pictures(view: View, volumes: pd.DataFrame) -> list[Picture]:
    """A picture a label and domain, of the first seed of each model.

    Args:
        view: what is shown.
        volumes: of the models shown, in the unit shown.
    """
    pictures = []
    for label in view.labels:
        for domain in view.domains:
            rows = volumes[(volumes["label"] == label) & (volumes["domain"] == domain.name)]
            if not rows.empty:
                pictures.append(_picture(view, rows, label, domain.name))
    return pictures


def _picture(view: View, rows: pd.DataFrame, label: str, domain: str) -> Picture:
    models = [name for name in view.models if (rows["model"] == name).any()]
    figure = new_figure(PANEL_INCHES * len(models) + 0.6)
    panels = figure.subplots(len(models), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    styles, told = model_styles(view.models), []
    for axes, model in zip(panels, models, strict=True):
        of_model = rows[rows["model"] == model]
        first = of_model[of_model["seed"] == of_model["seed"].min()]
        limits = limits_of_agreement((first["prediction"] - first["reference"]).to_numpy(float))
        _draw(axes, first, limits, styles[model])
        axes.set_title(wrapped(model, 48), fontsize=10)
        told.append(f"{model} {limits.bias.value:.3g} ({limits.lower.value:.3g} to {limits.upper.value:.3g})")
    unit = shown_unit(view.results.spec.unit, int(rows["axes"].max()))[0]
    panels[-1].set_xlabel(f"mean of prediction and reference ({unit})")
    figure.supylabel(f"prediction less reference ({unit})", fontsize=10)
    set_title(figure, f"{label}, {domain} ({view.roles[domain]})")
    alt = f"Bland-Altman plots of {label} on {domain}, bias and limits of agreement in {unit}: {', '.join(told)}"
    name = f"bland_altman_{view.label_name(label)}_{as_name(domain)}"
    return picture(figure, name, alt, CAPTION + view.at_labelled_cases())


def _draw(axes: Axes, rows: pd.DataFrame, limits: Limits, style: ModelStyle) -> None:
    means = (rows["prediction"] + rows["reference"]) / 2
    axes.scatter(means, rows["prediction"] - rows["reference"], s=12, color=style.color, alpha=0.6, linewidths=0)
    axes.axhline(0, color="#1d2730", linewidth=0.8)
    for estimate, line in ((limits.bias, "-"), (limits.lower, "--"), (limits.upper, "--")):
        if estimate.value == estimate.value:  # not NaN
            axes.axhline(estimate.value, color=style.color, linestyle=line, linewidth=1.3)
            axes.axhspan(estimate.low, estimate.high, color=style.color, alpha=0.15, linewidth=0)
