"""What the summary of a report says on one page: for a file, or for a committee that decides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pandas as pd

from nnunet_diffusion_ensemble.report.figures.drawing import png_of
from nnunet_diffusion_ensemble.report.figures.means_plot import means_figure
from nnunet_diffusion_ensemble.report.findings import caveats, findings
from nnunet_diffusion_ensemble.report.overview import domains_table, identity
from nnunet_diffusion_ensemble.report.predicted_dice import coverage_findings
from nnunet_diffusion_ensemble.report.sections import Material
from nnunet_diffusion_ensemble.report.shortened import short
from nnunet_diffusion_ensemble.report.tables import INTERVAL, directions, format_value, with_interval
from nnunet_diffusion_ensemble.report.view import View
from nnunet_diffusion_ensemble.system.environment import PACKAGE
from nnunet_diffusion_ensemble.system.messages import first_few

FIGURE_INCHES, FIGURE_PIXELS_PER_INCH = (7.26, 1.75), 250
MOST_MODELS = 6  # of the figure
LONGEST_TITLE, LONGEST_SENTENCE, LONGEST_NAME = 110, 700, 50
FURTHER = "HD95"  # beside the metric of the report
APPROVAL = "The numbers hold for cases like those tested, and are no approval for clinical use."


@dataclass(frozen=True)
class Row:
    """A row of the table, as texts; `rank` is that of the model in its domain and label, 0 for the best."""

    group: int
    rank: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class OnePage:
    """The content, of which the layout leaves out what does not fit.

    Attributes:
        title: the question.
        subtitle: when, with which version.
        tested: what was compared on what, a line each.
        headings: of the columns of the table.
        rows: domain after domain, the best model first.
        hidden_labels: how many labels only the HTML has.
        caption: of the table.
        findings: sentences.
        trust: sentences about predicted Dice; none without a calibrated model.
        figure: PNG.
        figure_inches: its width and height.
        limits: what must be known to read this.
        identity: which results these are.
    """

    title: str
    subtitle: str
    tested: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    hidden_labels: int
    caption: str
    findings: tuple[str, ...]
    trust: tuple[str, ...]
    figure: bytes
    figure_inches: tuple[float, float]
    limits: tuple[str, ...]
    identity: str


def one_page(material: Material, title: str) -> OnePage:
    """Chooses it from what the report shows; the numbers are those of its tables."""
    view = material.view
    described = view.chosen(material.statistics.described)
    record = view.results.record
    when = record.finished[:10] if record and record.finished else "date unknown"
    metrics = _metrics(view)
    rows = tuple(_rows(material, described, metrics))
    models = _best_models(view, described)
    return OnePage(
        title=short(title, LONGEST_TITLE),
        subtitle=f"Summary of a benchmark, {when}; {PACKAGE} {version(PACKAGE)}; everything else is in report.html",
        tested=tuple(_tested(view)),
        headings=_headings(view, metrics),
        rows=rows,
        hidden_labels=len(view.hidden_labels),
        caption=f"Mean [{INTERVAL}].{view.at_labelled_cases()} Worst 5%: of one case in twenty, or worse. "
        f"{directions(metrics)}",
        findings=_cut(findings(view, material.statistics)),
        trust=_cut(coverage_findings(view)),
        figure=png_of(means_figure(view, described, models, FIGURE_INCHES), FIGURE_PIXELS_PER_INCH),
        figure_inches=FIGURE_INCHES,
        limits=(*_cut(caveats(view)), APPROVAL),
        identity=identity(view.results),
    )


def _cut(sentences: Iterator[str]) -> tuple[str, ...]:
    return tuple(short(sentence, LONGEST_SENTENCE) for sentence in sentences)


def _metrics(view: View) -> list[str]:
    """That of the report, and HD95 where it was measured."""
    further = [FURTHER] if FURTHER in view.results.spec.metrics and view.metric.name != FURTHER else []
    return [view.metric.name, *further]


def _tested(view: View) -> Iterator[str]:
    """Models, then domains."""
    names = first_few([short(model, LONGEST_NAME) for model in view.models], MOST_MODELS)
    yield f"{len(view.models)} model{'' if len(view.models) == 1 else 's'}: {names}.{view.at_labelled_cases()}"
    for row in domains_table(view).raw.itertuples(index=False):
        patients = "" if row.cases == row.patients else f" of {row.patients} patients"
        yield f"{short(row.domain, LONGEST_NAME)} ({row.role}): {row.cases} cases{patients}."


def _headings(view: View, metrics: Sequence[str]) -> tuple[str, ...]:
    unit = view.results.spec.unit
    first, *further = [f"{name} ({unit})" if _has_length(view, name) else name for name in metrics]
    return ("Domain", "Label", "Model", "Cases", first, "Worst 5%", *further)


def _has_length(view: View, metric: str) -> bool:
    return metric == FURTHER or view.metric.has_length


def _rows(material: Material, described: pd.DataFrame, metrics: Sequence[str]) -> Iterator[Row]:
    view, group = material.view, 0
    everything = view.chosen(material.tables["summary"].raw)
    further = {_key(row): row for row in everything[everything["metric"].isin(metrics[1:])].itertuples(index=False)}
    for domain in view.domains:
        for label in view.labels:
            for rank, row in enumerate(_ranked(view, described, domain.name, label)):
                cells = [f"{domain.name} ({domain.role})", label, row.model, f"{row.num_cases}"]
                cells += [_mean(row), format_value(row.metric, row.worst5)]
                cells += [_mean(further[_key(row)]) if _key(row) in further else ""] * (len(metrics) - 1)
                yield Row(group, rank, tuple(cells))
            group += 1


def _ranked(view: View, described: pd.DataFrame, domain: str, label: str) -> Iterator[Any]:
    """The rows of a domain and label, the best first, undefined ones last."""
    rows = described[(described["domain"] == domain) & (described["label"] == label)]
    ordered = rows.sort_values("mean", ascending=not view.metric.higher_is_better, kind="stable")
    return ordered.itertuples(index=False)


def _key(row: Any) -> tuple[str, str, str]:
    return row.model, row.domain, row.label


def _mean(row: Any) -> str:
    return with_interval(*(format_value(row.metric, value) for value in (row.mean, row.ci_low, row.ci_high)))


def _best_models(view: View, described: pd.DataFrame) -> list[str]:
    """The first by their mean over domains and labels, in the order of the specification."""
    means = described.groupby("model", observed=True)["mean"].mean().dropna()
    best = set(means.sort_values(ascending=not view.metric.higher_is_better, kind="stable").index[:MOST_MODELS])
    return [model for model in view.models if model in best]
