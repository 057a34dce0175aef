"""The section on subgroups: for whom does a model fail, and what would it be worth for another mix of patients?"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.report.figures.subgroup_plot import subgroup_pictures
from nnunet_diffusion_ensemble.report.page import Section
from nnunet_diffusion_ensemble.report.tables import (
    INTERVAL,
    MINUS,
    Table,
    by_metric,
    directions,
    format_number,
    format_p,
    format_value,
    key_columns,
    texts_of,
    with_interval,
)
from nnunet_diffusion_ensemble.report.view import View
from nnunet_diffusion_ensemble.statistics.comparison import ALPHA
from nnunet_diffusion_ensemble.statistics.subgroups import (
    FEWEST_PATIENTS,
    compare_models_in_subgroups,
    compare_subgroups,
    describe_subgroups,
    mix_subgroups,
)

CORRECTED = "corrected by Holm for all rows of one domain, label and metric"


def subgroups_section(view: View) -> Section | None:
    """Figures, sentences and tables of the subgroups; None if the specification has none, or no case is in one."""
    results, members, spec = view.results.results, view.results.subgroups, view.results.spec
    if members.empty:
        return None
    described = by_metric(describe_subgroups(results, members), spec)
    between = by_metric(compare_subgroups(results, members), spec)
    tables = (
        _described(described, spec),
        _between_groups(between, spec),
        _between_models(by_metric(compare_models_in_subgroups(results, members), spec), spec),
        _mixed(by_metric(mix_subgroups(results, members, spec.target_mix), spec), spec),
    )
    of_figures = view.chosen(described)
    of_figures = of_figures[(of_figures["metric"] == view.metric.name) & of_figures["label"].isin(view.labels)]
    text = (
        "A good mean can hide a group of patients for whom a model fails. A difference between groups may come from "
        "the patients, the images or the references as well as from the model."
    )
    return Section(
        "subgroups",
        "For whom does it fail",
        (text + view.at_labelled_cases(),),
        points=(*_worst(view, of_figures, between), *_small(of_figures)),
        pictures=tuple(subgroup_pictures(view, of_figures)),
        tables=tuple(view.table_of_figures(table) for table in tables if len(table.raw)),
    )


# Sentences


def _worst(view: View, described: pd.DataFrame, between: pd.DataFrame) -> Iterator[str]:
    """The worst group of each model in each domain."""
    for row in described[described["is_worst"]].itertuples(index=False):
        groups = described[_same(described, row, "column", "model", "labelled_cases", "domain", "label")]
        others = ", ".join(
            f"{other.group} {_value(view, other.mean)}"
            for other in groups.itertuples(index=False)
            if other.group != row.group and not other.is_small
        )
        pairs = between[_same(between, row, "column", "model", "labelled_cases", "domain", "label", "metric")]
        better = [
            pair.group_b if pair.group_a == row.group else pair.group_a
            for pair in pairs.itertuples(index=False)
            if pair.worse == row.group
        ]
        verdict = (
            f"significantly worse than {' and '.join(better)}" if better else "not significantly worse than any of them"
        )
        yield (
            f"{row.model}, {row.domain}, {row.label}, by {row.column}: worst is {row.group} with "
            f"{_value(view, row.mean)} ({row.num_patients} patients); {others}. It is {verdict}."
        )


def _same(table: pd.DataFrame, row: Any, *columns: str) -> pd.Series:
    """Which rows agree with one in these columns; missing values agree."""
    found = pd.Series(True, table.index)
    for name in columns:
        value = getattr(row, name)
        found &= table[name].isna() if pd.isna(value) else (table[name] == value).fillna(False).astype(bool)
    return found


def _value(view: View, value: float) -> str:
    return format_value(view.metric.name, value, view.results.spec.unit)


def _small(described: pd.DataFrame) -> Iterator[str]:
    """A warning for each group of a domain that is too small for any model."""
    small = described[described["is_small"]].groupby(["domain", "column", "group"], sort=False, observed=True)
    for (domain, column, group), rows in small:
        most = int(rows["num_patients"].max())
        yield (
            f"Too small to say anything: {column} {group} in {domain}, {most} patient{'' if most == 1 else 's'}. With "
            f"fewer than {FEWEST_PATIENTS} no difference between models could be significant."
        )


# Tables


def _described(described: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    columns = key_columns(described, spec, "metric", "label", "domain", "labelled_cases", "model") | {
        "By": lambda row: row.column,
        "Group": lambda row: row.group,
        "Mean": lambda row: _interval(row, row.mean),
        "Worst 5%": lambda row: format_value(row.metric, row.worst5),
        "Cases": lambda row: f"{row.num_cases}",
        "Patients": lambda row: f"{row.num_patients}",
        "Undefined": lambda row: f"{row.num_undefined}",
        "Note": lambda row: "too small" if row.is_small else "worst" if row.is_worst else "",
    }
    caption = (
        f"Mean over the cases of a group, with its {INTERVAL}. Too small: fewer than {FEWEST_PATIENTS} patients have a "
        f"value. Worst: of the other groups of one model. {directions(list(described['metric'].unique()))}"
    )
    return Table("subgroups", "Metrics by subgroup", caption, described, texts_of(described, columns))


def _between_groups(between: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    columns = key_columns(between, spec, "metric", "label", "domain", "labelled_cases", "model") | {
        "By": lambda row: row.column,
        "A": lambda row: row.group_a,
        "B": lambda row: row.group_b,
        f"A {MINUS} B": lambda row: _interval(row, row.difference),
        "p": lambda row: format_p(row.p_value),
        "p (Holm)": lambda row: format_p(row.p_holm),
        "Effect": lambda row: format_number(row.effect_size, 2),
        "Worse": lambda row: row.worse,
        "Patients": lambda row: f"{row.num_patients_a} and {row.num_patients_b}",
    }
    caption = (
        f"Difference of the means of two groups of one model, with its {INTERVAL}; Mann and Whitney's test over "
        f"patients, {CORRECTED}. Effect: Cliff's delta, 1 if all patients of A have larger values than those of B, "
        f"{MINUS}1 if smaller. Worse: the worse group where p (Holm) is less than {ALPHA}."
    )
    title = "Differences between subgroups of one model"
    return Table("subgroup_differences", title, caption, between, texts_of(between, columns))


def _between_models(compared: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    columns = key_columns(compared, spec, "metric", "label", "domain", "labelled_cases") | {
        "By": lambda row: row.column,
        "Group": lambda row: row.group,
        "A": lambda row: row.model_a,
        "B": lambda row: row.model_b,
        f"A {MINUS} B": lambda row: _interval(row, row.mean_difference),
        "p": lambda row: format_p(row.p_value),
        "p (Holm)": lambda row: format_p(row.p_holm),
        "Better": lambda row: row.better,
        "Patients": lambda row: f"{row.num_patients}" + (" (too few)" if row.num_patients < FEWEST_PATIENTS else ""),
    }
    caption = (
        f"Difference of the means on the cases of a group, with its {INTERVAL}; Wilcoxon's signed-rank test over "
        f"patients, {CORRECTED}. Better: the better model where p (Holm) is less than {ALPHA}."
    )
    title = "Differences between models within a subgroup"
    return Table("subgroup_models", title, caption, compared, texts_of(compared, columns))


def _mixed(mixed: pd.DataFrame, spec: BenchmarkSpec) -> Table:
    columns = key_columns(mixed, spec, "metric", "label", "domain", "labelled_cases", "model") | {
        "By": lambda row: row.column,
        "Mean as it is": lambda row: format_value(row.metric, row.mean),
        "Mean of the target mix": lambda row: _interval(row, row.mixed_mean),
        "Note": lambda row: f"no case of {row.without}" if row.without else "",
    }
    mixes = "; ".join(
        f"{column}: {', '.join(f'{share:.3g} {group}' for group, share in shares.items())}"
        for column, shares in spec.target_mix.items()
    )
    caption = (
        "Means of the groups weighed by their shares in the patients that the model is meant for "
        f"(post-stratification), with its {INTERVAL}. Target mix: {mixes}."
    )
    return Table("target_mix", "Means for the target mix of patients", caption, mixed, texts_of(mixed, columns))


def _interval(row: Any, value: float) -> str:
    return with_interval(*(format_value(row.metric, one) for one in (value, row.ci_low, row.ci_high)))
