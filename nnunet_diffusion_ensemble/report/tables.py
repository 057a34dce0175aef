"""The tables of a report, for reading and as raw numbers, and their files: CSV and LaTeX."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_diffusion_ensemble.benchmark.results import BenchmarkResults
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.evaluation.metrics import METRICS
from nnunet_diffusion_ensemble.report.latex import longtable
from nnunet_diffusion_ensemble.statistics.bootstrap import DEFAULT
from nnunet_diffusion_ensemble.statistics.comparison import ALPHA, compare_models
from nnunet_diffusion_ensemble.statistics.describe import COUNT_COLUMNS, GROUP_COLUMNS, describe
from nnunet_diffusion_ensemble.statistics.domain_gap import domain_gaps
from nnunet_diffusion_ensemble.statistics.ranking import rank_models
from nnunet_diffusion_ensemble.system.atomic import whole_file

UNDEFINED = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
METRIC, LABEL = "Metric", "Label"  # headings
INTERVAL = f"{DEFAULT.confidence:.0%} bootstrap interval over patients and, where there are several, seeds"


@dataclass(frozen=True)
class Table:
    """A table for readers and the numbers behind it.

    Attributes:
        name: of its files.
        title: for a heading.
        caption: what the numbers are.
        raw: numbers in full precision, one row an observation.
        shown: texts, under headings for readers.
        page_rows: positions of the rows that the page shows, if not all; files have all.
        page_note: which rows these are.
    """

    name: str
    title: str
    caption: str
    raw: pd.DataFrame
    shown: pd.DataFrame
    page_rows: tuple[int, ...] | None = None
    page_note: str = ""

    @property
    def on_page(self) -> pd.DataFrame:
        """What the page shows of `shown`; without metric and label where these are the same in all of its rows."""
        if self.page_rows is None:
            return self.shown
        rows = self.shown.iloc[list(self.page_rows)]
        return rows.drop(columns=[name for name in (METRIC, LABEL) if name in rows and rows[name].nunique() == 1])


def make_tables(results: BenchmarkResults) -> list[Table]:
    """All tables of a benchmark that have rows: summary, worst_cases, significance, domain_gap, ranks, problems.

    Rows are sorted by the metrics of the specification and otherwise stay in the order of the results.

    Raises:
        ValueError: results are not as they must be.
    """
    spec, values = results.spec, results.results
    roles = {domain.name: domain.role for domain in spec.domains}
    gaps = domain_gaps(values, roles)  # first, as it refuses domains that the specification does not have
    described = by_metric(describe(values), spec)
    tables = (
        _summary(described, spec),
        _worst_cases(described, spec),
        _significance(by_metric(compare_models(values), spec), spec),
        _domain_gap(by_metric(gaps, spec), spec),
        _ranks(by_metric(rank_models(values), spec), spec),
        _problems(results.problems),
    )
    return [table for table in tables if len(table.raw)]


def write_tables(folder: Path, tables: Sequence[Table]) -> list[Path]:
    """Writes `NAME.csv`, the raw numbers in full precision, and `NAME.tex`, what is shown, of each table.

    Returns:
        The files.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for table in tables:
        csv, tex = folder / f"{table.name}.csv", folder / f"{table.name}.tex"
        with whole_file(csv) as temporary:
            table.raw.to_csv(temporary, index=False, encoding="utf-8")
        with whole_file(tex) as temporary:
            text = longtable(table.shown, table.name, table.title, table.caption)
            temporary.write_text(text, encoding="utf-8")
        files += [csv, tex]
    return files


def format_value(metric: str, value: float | None, unit: str = "") -> str:
    """A value of a metric: a length with two decimals and, if given, its unit, others with three decimals."""
    has_length = METRICS[metric].has_length
    text = format_number(value, 2 if has_length else 3)
    return f"{text} {unit}" if has_length and unit and text != UNDEFINED else text


def format_p(value: float | None) -> str:
    """A p-value with three decimals, or `<0.001`."""
    return "<0.001" if value is not None and value < 0.001 else format_number(value, 3)


def format_number(value: float | None, digits: int) -> str:
    """With so many decimals; a dash for what is undefined."""
    if value is None or math.isnan(value):
        return UNDEFINED
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", MINUS)  # adding 0 takes the sign off -0


def with_interval(text: str, low: str, high: str) -> str:
    """`text [low, high]`, or the text alone where there is no interval."""
    return text if UNDEFINED in (low, high) else f"{text} [{low}, {high}]"


def by_metric(table: pd.DataFrame, spec: BenchmarkSpec) -> pd.DataFrame:
    """Sorted by the metrics of the specification, otherwise as it was."""
    order = {name: place for place, name in enumerate(dict.fromkeys((*spec.metrics, *METRICS)))}
    return table.sort_values("metric", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def texts_of(raw: pd.DataFrame, columns: dict[str, Callable[[Any], str]]) -> pd.DataFrame:
    """A column of texts for each heading, by what makes its text from a row."""
    rows = list(raw.itertuples(index=False))
    return pd.DataFrame({heading: [text(row) for row in rows] for heading, text in columns.items()})


def key_columns(raw: pd.DataFrame, spec: BenchmarkSpec, *names: str) -> dict[str, Callable[[Any], str]]:
    """The columns that say what a row is about; that of labelled cases only if there is a number in it."""
    roles = {domain.name: domain.role for domain in spec.domains}
    known: dict[str, tuple[str, Callable[[Any], str]]] = {
        "metric": (METRIC, lambda row: _heading(row.metric, spec)),
        "label": (LABEL, lambda row: row.label),
        "domain": ("Domain", lambda row: f"{row.domain} ({roles[row.domain]})"),
        "labelled_cases": (
            "Labelled cases",
            lambda row: "" if pd.isna(row.labelled_cases) else f"{row.labelled_cases}",
        ),
        "model": ("Model", lambda row: row.model),
    }
    used = [name for name in names if name != "labelled_cases" or raw["labelled_cases"].notna().any()]
    return dict(known[name] for name in used)


def _heading(metric: str, spec: BenchmarkSpec) -> str:
    return f"{metric} ({spec.unit})" if METRICS[metric].has_length else metric


def _mean(row: Any) -> str:
    return with_interval(*(format_value(row.metric, value) for value in (row.mean, row.ci_low, row.ci_high)))


def _summary(described: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    """One row a model, number of labelled cases, domain and label; one column a metric."""
    keys = key_columns(described, spec, "label", "domain", "labelled_cases", "model")
    metrics = list(described["metric"].unique())
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in described.itertuples(index=False):
        key = tuple(text(row) for text in keys.values())
        cells = rows.setdefault(key, dict.fromkeys((_heading(metric, spec) for metric in metrics), UNDEFINED))
        cells[_heading(row.metric, spec)] = _mean(row)
    shown = pd.DataFrame([dict(zip(keys, key, strict=True)) | cells for key, cells in rows.items()])
    caption = f"Mean over cases of the mean over seeds, with its {INTERVAL}. {directions(metrics)}"
    return Table("summary", "Means", caption, described, shown)


def directions(metrics: Sequence[str]) -> str:
    """A sentence that says in which of the metrics lower is better."""
    lower = [name for name in metrics if not METRICS[name].higher_is_better]
    return f"Lower is better in {', '.join(lower)}." if lower else "Higher is better."


def _worst_cases(described: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    raw = described[[*GROUP_COLUMNS, *COUNT_COLUMNS, "sd", "median", "q25", "q75", "worst5"]]

    def median(row: Any) -> str:
        return with_interval(*(format_value(row.metric, value) for value in (row.median, row.q25, row.q75)))

    columns = key_columns(raw, spec, "metric", "label", "domain", "labelled_cases", "model") | {
        "Median [quartiles]": median,
        "Worst 5%": lambda row: format_value(row.metric, row.worst5),
        "SD": lambda row: format_value(row.metric, row.sd),
        "Cases": lambda row: f"{row.num_cases}",
        "Patients": lambda row: f"{row.num_patients}",
        "Seeds": lambda row: f"{row.num_seeds}",
        "Undefined": lambda row: f"{row.num_undefined}",
        "Missing": lambda row: f"{row.num_missing}",
    }
    caption = (
        "Distribution over cases of the mean over seeds. One in twenty cases is at least as bad as the value under "
        "Worst 5%. SD is between cases. Undefined values and missing results, of all seeds, are left out."
    )
    return Table("worst_cases", "Spread and worst cases", caption, raw, texts_of(raw, columns))


def _significance(compared: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    def difference(row: Any) -> str:
        values = (row.mean_difference, row.ci_low, row.ci_high)
        return with_interval(*(format_value(row.metric, value) for value in values))

    columns = key_columns(compared, spec, "metric", "label", "domain", "labelled_cases") | {
        "A": lambda row: row.model_a,
        "B": lambda row: row.model_b,
        f"A {MINUS} B": difference,
        "p": lambda row: format_p(row.p_value),
        "p (Holm)": lambda row: format_p(row.p_holm),
        "Effect": lambda row: format_number(row.effect_size, 2),
        "Better": lambda row: row.better,
        "Patients": lambda row: f"{row.num_patients}",
        "Cases left out": lambda row: f"{row.left_out}",
    }
    caption = (
        f"Difference of the means, with its {INTERVAL}; Wilcoxon's signed-rank test over patients, corrected by Holm "
        "for all pairs and numbers of labelled cases of one domain, label and metric. Effect: matched-pairs "
        "rank-biserial correlation, 1 if A has the larger value in all patients, "
        f"{MINUS}1 if B has. Better: the better model where p (Holm) is less than {ALPHA}."
    )
    return Table("significance", "Significance of differences", caption, compared, texts_of(compared, columns))


def _domain_gap(gaps: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    def gap(row: Any) -> str:
        return with_interval(*(format_value(row.metric, value) for value in (row.gap, row.ci_low, row.ci_high)))

    columns = key_columns(gaps, spec, "metric", "label") | {
        "Source": lambda row: row.source,
        "Target": lambda row: row.target,
    }
    columns |= key_columns(gaps, spec, "labelled_cases", "model") | {
        "Mean in source": lambda row: format_value(row.metric, row.source_mean),
        "Mean in target": lambda row: format_value(row.metric, row.target_mean),
        "Gap": gap,
        "Seeds": lambda row: f"{row.num_seeds}",
    }
    lower = directions(list(gaps["metric"].unique()))
    caption = f"Gap: mean in the source less mean in the target, with its {INTERVAL}. {lower}"
    return Table("domain_gap", "Domain gap", caption, gaps, texts_of(gaps, columns))


def _ranks(ranked: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    def rank(row: Any) -> str:
        return with_interval(*(_rank(value) for value in (row.rank, row.rank_low, row.rank_high)))

    columns = key_columns(ranked, spec, "metric", "label", "domain", "labelled_cases") | {
        "Rank": rank,
        "Model": lambda row: row.model,
        "Mean": lambda row: format_value(row.metric, row.mean),
        "First": lambda row: UNDEFINED if math.isnan(row.share_first) else f"{row.share_first:.0%}",
        "Kendall's tau": lambda row: format_number(row.kendall_tau, 2),
        "Cases left out": lambda row: f"{row.left_out}",
    }
    caption = (
        "Rank by the mean over the cases where all models have a value, 1 is best, with its "
        f"{INTERVAL}. First: share of the bootstrap replicates in which no model is better. Kendall's tau: mean "
        "agreement of the replicates with the ranking, 1 if none changes it."
    )
    return Table("ranks", "Ranks and their stability", caption, ranked, texts_of(ranked, columns))


def _rank(value: float) -> str:
    return format_number(value, 1).removesuffix(".0")


def _problems(problems: pd.DataFrame) -> Table:
    shown = problems.astype("string").fillna("")
    shown["model"] = shown["model"].replace("", "all")
    shown.columns = [str(name).capitalize() for name in shown.columns]
    caption = "What could not be tested, and what was done about it."
    return Table("problems", "Problems", caption, problems, shown)
