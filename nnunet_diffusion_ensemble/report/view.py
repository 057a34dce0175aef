"""What the figures of a report show of all that was measured: one metric, a few labels, one set of trainings."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from pydantic import Field

from nnunet_diffusion_ensemble.benchmark.results import BenchmarkResults, as_name
from nnunet_diffusion_ensemble.benchmark.spec import DomainSpec, ModelSpec
from nnunet_diffusion_ensemble.evaluation.metrics import METRICS, Metric
from nnunet_diffusion_ensemble.report.tables import Table
from nnunet_diffusion_ensemble.system.settings import Count, Listed, Settings, Text

MAX_LABELS = 4


class ReportOptions(Settings):
    """What the user chooses of the figures."""

    metric: Text | None = Field(
        None, description="None is Dice, or the first metric of the specification where it has no Dice"
    )
    labels: Listed[Text] = Field((), description="none is the first four")
    labelled_cases: Count | None = Field(
        None,
        description="of figures that show one number of them; None is the one with the most models, the larger one of "
        "several",
    )


@dataclass(frozen=True)
class View:
    """The choices of a report and the rows that its figures show.

    Attributes:
        results: all of them.
        metric: of the figures.
        labels: labels or regions of the figures.
        hidden_labels: those that only the tables have.
        labelled_cases: for figures that show one number of them; None where the specification has none.
        values: rows of the metric and labels, of the models' own predictions.
    """

    results: BenchmarkResults
    metric: Metric
    labels: tuple[str, ...]
    hidden_labels: tuple[str, ...]
    labelled_cases: int | None
    values: pd.DataFrame

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, each once, in the order of the specification."""
        return tuple(dict.fromkeys(model.name for model in self.results.spec.models))

    @property
    def domains(self) -> tuple[DomainSpec, ...]:
        """Sources first."""
        return tuple(sorted(self.results.spec.domains, key=lambda domain: domain.role != "source"))

    @property
    def roles(self) -> dict[str, str]:
        """`source` or `target`, by the name of the domain."""
        return {domain.name: domain.role for domain in self.domains}

    @property
    def axis_title(self) -> str:
        """The metric with its unit."""
        return f"{self.metric.title} ({self.results.spec.unit})" if self.metric.has_length else self.metric.title

    @property
    def is_share(self) -> bool:
        """Whether the metric's values lie between 0 and 1."""
        return self.metric.values == "share"

    def label_name(self, label: str) -> str:
        """A label in names of files, each its own (`+` and `-` both become `_`)."""
        names = [as_name(one) for one in self.labels]
        position = self.labels.index(label)
        return names[position] if names.count(names[position]) == 1 else f"{names[position]}{position + 1}"

    def chosen_models(self) -> list[ModelSpec]:
        """Those with the chosen number of labelled cases, or with none given."""
        return [model for model in self.results.spec.models if model.labelled_cases in (None, self.labelled_cases)]

    def chosen(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of the chosen models."""
        if self.labelled_cases is None:
            return rows[rows["labelled_cases"].isna()]
        return rows[(rows["labelled_cases"] == self.labelled_cases).fillna(False) | rows["labelled_cases"].isna()]

    def table_of_figures(self, table: Table) -> Table:
        """A table that shows on the page the rows of the metric and labels of the figures."""
        rows = (table.raw["metric"] == self.metric.name) & table.raw["label"].isin(self.labels)
        note = f"Here {self.metric.title} of {', '.join(self.labels)}; the files have all metrics and labels."
        return table if rows.all() else replace(table, page_rows=tuple(np.flatnonzero(rows).tolist()), page_note=note)

    def at_labelled_cases(self) -> str:
        """For captions: which trainings are shown, or nothing where there is no choice."""
        if self.labelled_cases is None:
            return ""
        return f" Trained on {cases_in_words(self.labelled_cases)}."


def cases_in_words(labelled_cases: int) -> str:
    """Their number in words."""
    return f"{labelled_cases} labelled case{'' if labelled_cases == 1 else 's'}"


def choose(results: BenchmarkResults, options: ReportOptions) -> View:
    """Settles what the figures show.

    Raises:
        ValueError: there are no results, or something is chosen that they do not have.
    """
    own = results.results[results.results["timestep"].isna()]
    if own.empty:
        raise ValueError(
            f"{results.folder.results_file} has no results of any case; {results.folder.problems_file} may say why. "
            "Run `nnunet-diffusion benchmark` again."
        )
    metric = _metric(results, own, options.metric)
    labels = _labels(own, options.labels)
    hidden = tuple(label for label in own["label"].unique() if label not in labels)
    values = own[(own["metric"] == metric.name) & own["label"].isin(labels)]
    return View(results, metric, labels, hidden, _labelled_cases(results, options.labelled_cases), values)


def _metric(results: BenchmarkResults, own: pd.DataFrame, name: str | None) -> Metric:
    available = [metric for metric in results.spec.metrics if (own["metric"] == metric).any()]
    if name is None:
        name = "Dice" if "Dice" in available else available[0] if available else None
    if name not in available:
        raise ValueError(
            f"--metric {name}: the results have {', '.join(available) or 'none of the specified metrics'}."
        )
    return METRICS[name]


def _labels(own: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, ...]:
    available = list(own["label"].unique())
    unknown = [name for name in names if name not in available]
    if unknown:
        raise ValueError(f"--labels {' '.join(unknown)}: the results have {', '.join(available)}.")
    return tuple(dict.fromkeys(names)) or tuple(available[:MAX_LABELS])


def _labelled_cases(results: BenchmarkResults, number: int | None) -> int | None:
    numbers = [model.labelled_cases for model in results.spec.models if model.labelled_cases is not None]
    if number is not None and number not in numbers:
        there = ", ".join(map(str, sorted(set(numbers)))) or "no numbers of labelled cases"
        raise ValueError(f"--labelled-cases {number}: the specification has {there}.")
    if number is None and numbers:
        return max(numbers, key=lambda one: (numbers.count(one), one))
    return number
