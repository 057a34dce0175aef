"""The section on volumes: Bland-Altman plots, limits of agreement and intraclass correlation."""

from typing import Any

import pandas as pd

from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.report.figures.bland_altman import bland_altman_pictures, in_shown_unit, shown_unit
from nnunet_diffusion_ensemble.report.page import Section
from nnunet_diffusion_ensemble.report.tables import MINUS, Table, format_number, key_columns, texts_of, with_interval
from nnunet_diffusion_ensemble.report.view import View
from nnunet_diffusion_ensemble.statistics.agreement import agreement_of_volumes


def volumes_section(view: View) -> Section | None:
    """Figures and the table of volumes; None if the results have none."""
    volumes = view.results.volumes
    if volumes.empty:
        return None
    spec = view.results.spec
    agreement = agreement_of_volumes(in_shown_unit(volumes, spec.unit))
    shown = in_shown_unit(view.chosen(volumes), spec.unit)
    text = (
        "Predicted volume (area, of pictures) less that of the reference, over their mean: each point is a case. The "
        "middle line is the bias, the outer ones are the limits of agreement, between which 95% of the differences lie "
        "if they are normally distributed; bands are 95% intervals. Each training stands on its own here; figures show "
        "the first seed."
    )
    return Section(
        "volumes",
        "Are the volumes right",
        (text + view.at_labelled_cases(),),
        pictures=tuple(bland_altman_pictures(view, shown)),
        tables=(_table(agreement, spec),),
    )


def _table(agreement: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    columns = key_columns(agreement, spec, "label", "domain", "labelled_cases", "model") | {
        "Seed": lambda row: f"{row.seed}",
        "Unit": lambda row: row.unit,
        "Bias": lambda row: _interval(row, "bias", 1),
        "Lower limit": lambda row: _interval(row, "lower_limit", 1),
        "Upper limit": lambda row: _interval(row, "upper_limit", 1),
        "ICC(2,1)": lambda row: _interval(row, "icc", 3),
        "Cases": lambda row: f"{row.num_cases}",
    }
    caption = (
        f"Prediction {MINUS} reference. Limits of agreement: bias {MINUS} and + 1.96 SD, with 95% intervals of Bland "
        "and Altman. ICC(2,1): two-way, absolute agreement, single measurement, with the interval of Shrout and "
        "Fleiss; 1 is perfect, and a bias lowers it."
    )
    units = [shown_unit(spec.unit, axes)[0] for axes in agreement["axes"]]
    raw = agreement.assign(unit=units)
    return Table("agreement", "Agreement of volumes", caption, raw, texts_of(raw, columns))


def _interval(row: Any, name: str, digits: int) -> str:
    return with_interval(*(format_number(getattr(row, f"{name}{end}"), digits) for end in ("", "_low", "_high")))
