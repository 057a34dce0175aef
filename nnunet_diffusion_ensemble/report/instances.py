"""The section on instances: how many are found, how large those are that are missed, and FROC curves."""

from typing import Any

import pandas as pd

from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.report.figures.bland_altman import shown_unit
from nnunet_diffusion_ensemble.report.figures.froc_plot import froc_pictures
from nnunet_diffusion_ensemble.report.page import Section
from nnunet_diffusion_ensemble.report.tables import INTERVAL, Table, format_number, key_columns, texts_of, with_interval
from nnunet_diffusion_ensemble.report.view import View
from nnunet_diffusion_ensemble.statistics.detection import (
    FP_RATES,
    detection_by_size,
    froc_curves,
    froc_table,
)


def instances_section(view: View) -> Section | None:
    """Figures and tables of detection; None if no label is declared as `instances`, or none has an instance."""
    instances, volumes, spec = view.results.instances, view.results.volumes, view.results.spec
    if instances.empty:
        return None
    curves = froc_curves(instances, volumes)
    tables = [_sizes(detection_by_size(instances, volumes, spec.lesion_sizes or ()), spec)]
    if curves:
        tables.append(_froc(froc_table(curves), spec))
    text = (
        f"Connected components of {', '.join(spec.instances)}, matched one to one where their intersection over union "
        f"is more than {spec.match_iou:g}. Precision, recall, recognition (F1), segmentation and panoptic quality of "
        "each case are among the metrics; here all cases and seeds are taken together."
    )
    pictures = tuple(froc_pictures(view, curves))
    return Section("instances", "What is found and what is missed", (text,), pictures=pictures, tables=tuple(tables))


def _sizes(sizes: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    columns = key_columns(sizes, spec, "label", "domain", "labelled_cases", "model") | {
        "Size": lambda row: row.size if row.size == "all" else f"{row.size} {_unit(spec, row.axes)}",
        "Recall": lambda row: with_interval(*(format_number(v, 3) for v in (row.recall, row.ci_low, row.ci_high))),
        "Found": lambda row: f"{row.num_found} of {row.num_references}",
        "False positives a case": lambda row: format_number(row.false_positives_per_case, 2),
    }
    caption = (
        f"Share of the reference's instances that are found, by their size, with its {INTERVAL.split(' over')[0]} over "
        f"cases. {'' if spec.lesion_sizes else 'Sizes are parted by quartiles of all references of a label.'}"
    )
    return Table("detection", "Detection by size", caption.rstrip(), sizes, texts_of(sizes, columns))


def _unit(spec: BenchmarkSpec, axes: int) -> str:
    return "mm\N{SUPERSCRIPT THREE}" if (spec.unit, axes) == ("mm", 3) else shown_unit(spec.unit, axes)[0]


def _froc(table: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    def recall(rate: float) -> Any:
        return lambda row: format_number(getattr(row, names[rate]), 3)

    raw = table
    names = {rate: f"recall_at_{rate:g}".replace(".", "_") for rate in FP_RATES}
    renamed = table.rename(columns={f"recall_at_{rate:g}": name for rate, name in names.items()})
    columns = key_columns(renamed, spec, "label", "domain", "labelled_cases", "model")
    columns |= {f"at {rate:g}": recall(rate) for rate in FP_RATES}
    columns |= {"Mean": lambda row: format_number(row.froc_score, 3)}
    caption = (
        "Recall of candidates at so many false positives a case, and the mean of these, the FROC score. A candidate is "
        "a component of pixels with a probability of at least 0.1, at the place of its maximum."
    )
    return Table("froc", "Recall by false positives a case", caption, raw, texts_of(renamed, columns))
