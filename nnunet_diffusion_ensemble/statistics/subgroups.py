"""For whom does a model fail? Metrics by subgroup, differences between subgroups, and the mean for another mix of them.

Unpaired differences: Mann & Whitney 1947, Cliff 1993. Another mix: post-stratification (Holt & Smith 1979).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from nnunet_diffusion_ensemble.statistics.bootstrap import DEFAULT, Bootstrap, DomainBootstrap
from nnunet_diffusion_ensemble.statistics.comparison import (
    ALPHA,
    FAMILY,
    compare_models,
    corrected,
    holm,
    patient_means,
)
from nnunet_diffusion_ensemble.statistics.comparison import COLUMNS as COMPARED
from nnunet_diffusion_ensemble.statistics.describe import (
    COUNT_COLUMNS,
    GROUP_COLUMNS,
    VALUE_COLUMNS,
    count_values,
    spread_of_cases,
)
from nnunet_diffusion_ensemble.statistics.series import Series, case_means, series_of_domains, tidy

# With fewer patients no paired difference can be significant: the smallest p of five is 2 / 2^5, more than ALPHA.
FEWEST_PATIENTS = 6
SUBGROUP = ("column", "group")
DESCRIBED = (*SUBGROUP, *GROUP_COLUMNS, *COUNT_COLUMNS, *VALUE_COLUMNS, "is_small", "is_worst")
DIFFERENCES = (
    "column",
    *GROUP_COLUMNS,
    "group_a",
    "group_b",
    "num_patients_a",
    "num_patients_b",
    "num_in_both",
    "difference",
    "ci_low",
    "ci_high",
    "p_value",
    "p_holm",
    "effect_size",
    "worse",
)
MIXED = ("column", *GROUP_COLUMNS, "mean", "mixed_mean", "ci_low", "ci_high", "without")


@dataclass(frozen=True)
class _Groups:
    """A series by the groups of one column.

    Attributes:
        key: GROUP_COLUMNS of the series.
        series: of all cases.
        patients: (cases,).
        members: by group, which cases are in it (cases,).
        replicates: by group, of the mean (replicates,): all groups of all models have the same drawn patients.
    """

    column: str
    key: Mapping[str, Any]
    series: Series
    patients: np.ndarray
    members: Mapping[str, np.ndarray]
    replicates: Mapping[str, np.ndarray]

    def of(self, group: str) -> Series:
        mask = self.members[group]
        return replace(self.series, values=self.series.values[:, mask], tested=self.series.tested[:, mask])

    def mean(self, group: str) -> float:
        """Over cases; NaN if none has a value."""
        cases = case_means(self.of(group).values)
        return float(np.nanmean(cases)) if not np.isnan(cases).all() else np.nan

    def patients_of(self, group: str, others: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Patients with a value in a group, without `others`, and the means of their cases."""
        cases = case_means(self.series.values)
        used = self.members[group] & ~np.isnan(cases)
        if others is not None:
            used &= ~np.isin(self.patients, others)
        return np.unique(self.patients[used]), patient_means(cases[used], self.patients[used])


def describe_subgroups(results: pd.DataFrame, members: pd.DataFrame, bootstrap: Bootstrap = DEFAULT) -> pd.DataFrame:
    """`describe` of each subgroup: one row a column, group, model, number of labelled cases, domain, label and metric.

    - `is_small`: fewer than FEWEST_PATIENTS patients have a value, which is too few to say anything;
    - `is_worst`: of the groups of one column that are not small, this has the worst mean; of no column with fewer than
      two such groups.

    Args:
        results: table with RESULT_COLUMNS; single timesteps are left out.
        members: table with SUBGROUP_COLUMNS.
        bootstrap: how to resample: the patients of a whole domain, so that the sizes of groups vary as well.

    Raises:
        ValueError: results are not as they must be.
    """
    rows: list[dict[str, Any]] = []
    for groups in _all_groups(results, members, bootstrap):
        of_column = [_describe(groups, group, bootstrap) for group in groups.members]
        large = [row for row in of_column if not row["is_small"]]
        if len(large) > 1:
            sign = 1 if groups.series.higher_is_better else -1
            min(large, key=lambda row: sign * row["mean"])["is_worst"] = True
        rows += of_column
    return tidy(rows, DESCRIBED).astype({"is_small": bool, "is_worst": bool})


def _describe(groups: _Groups, group: str, bootstrap: Bootstrap) -> dict[str, Any]:
    series = groups.of(group)
    low, high = bootstrap.interval(groups.replicates[group])
    return {
        **groups.key,
        "column": groups.column,
        "group": group,
        **count_values(series, groups.patients[groups.members[group]]),
        **spread_of_cases(series),
        "ci_low": low,
        "ci_high": high,
        "is_small": len(groups.patients_of(group)[0]) < FEWEST_PATIENTS,
        "is_worst": False,
    }


def compare_subgroups(results: pd.DataFrame, members: pd.DataFrame, bootstrap: Bootstrap = DEFAULT) -> pd.DataFrame:
    """All pairs of groups of one column, within one model, number of labelled cases, domain, label and metric.

    - `difference`: mean over cases of a less that of b, with its bootstrap interval;
    - `p_value`: two-sided, of Mann and Whitney's test over patients (mean of a patient's cases), exact if a group has
      at most 8 patients and no values are equal; patients with cases in both groups, `num_in_both`, are left out of
      it; NaN if a group has no patient left;
    - `p_holm`: corrected for all rows of a domain, label and metric: all columns, pairs of groups and models;
    - `effect_size`: Cliff's delta, 1 if every patient of a has a larger value than every one of b, -1 if a smaller;
    - `worse`: the group that is worse by the effect's sign and the metric's direction, empty if `p_holm` is ALPHA or
      more.

    Arguments and errors as in `describe_subgroups`.
    """
    rows = [
        _difference(groups, *pair, bootstrap)
        for groups in _all_groups(results, members, bootstrap)
        for pair in combinations(groups.members, 2)
    ]
    table = tidy(rows, DIFFERENCES).astype({name: "int64" for name in DIFFERENCES if name.startswith("num_")})
    table["p_holm"] = table.groupby(FAMILY, sort=False)["p_value"].transform(lambda p: holm(p.to_numpy()))
    table["worse"] = table["worse"].where(table["p_holm"] < ALPHA, "")
    return table


def _difference(groups: _Groups, a: str, b: str, bootstrap: Bootstrap) -> dict[str, Any]:
    in_both = np.intersect1d(groups.patients_of(a)[0], groups.patients_of(b)[0])
    (patients_a, values_a), (patients_b, values_b) = (groups.patients_of(group, in_both) for group in (a, b))
    low, high = bootstrap.interval(groups.replicates[a] - groups.replicates[b])
    p_value, effect_size = rank_sum(values_a, values_b)
    a_is_worse = (effect_size < 0) == groups.series.higher_is_better
    return {
        **groups.key,
        "column": groups.column,
        "group_a": a,
        "group_b": b,
        "num_patients_a": len(patients_a),
        "num_patients_b": len(patients_b),
        "num_in_both": len(in_both),
        "difference": groups.mean(a) - groups.mean(b),
        "ci_low": low,
        "ci_high": high,
        "p_value": p_value,
        "effect_size": effect_size,
        "worse": a if a_is_worse else b,
    }


def rank_sum(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Two-sided p of Mann and Whitney's test, and Cliff's delta; NaN if one has no value."""
    if not len(a) or not len(b):
        return np.nan, np.nan
    if len(np.unique([*a, *b])) == 1:  # scipy divides by their variance
        return 1.0, 0.0
    test = mannwhitneyu(a, b)
    return float(test.pvalue), float(2 * test.statistic / (len(a) * len(b)) - 1)


def compare_models_in_subgroups(
    results: pd.DataFrame, members: pd.DataFrame, bootstrap: Bootstrap = DEFAULT
) -> pd.DataFrame:
    """`compare_models` of the cases of each group, with its `column` and `group`.

    `p_holm` is corrected for all rows of a domain, label and metric: all columns, groups, pairs of models and numbers
    of labelled cases. Arguments and errors as in `describe_subgroups`.
    """
    tables = []
    for (column, group), of_group in members.groupby(list(SUBGROUP), sort=False, observed=True):
        cases = of_group[["domain", "case"]].astype("string")
        compared = compare_models(results.merge(cases, on=["domain", "case"]), bootstrap)
        tables.append(compared.assign(column=column, group=group))
    if not tables:
        return tidy([], (*SUBGROUP, *COMPARED))
    return corrected(pd.concat(tables, ignore_index=True))[[*SUBGROUP, *COMPARED]]


def mix_subgroups(
    results: pd.DataFrame,
    members: pd.DataFrame,
    target_mix: Mapping[str, Mapping[str, float]],
    bootstrap: Bootstrap = DEFAULT,
) -> pd.DataFrame:
    """What the mean would be, were the groups of a column as frequent as in `target_mix` (post-stratification).

    - `mean`: over all cases, as they are;
    - `mixed_mean`: sum over groups of share x mean of the group, which weighs each case by share / cases of its group;
      with its bootstrap interval of replicates that have cases of all groups;
    - `without`: groups of the mix that have no case with a value; then there is no `mixed_mean`.

    Args:
        results: table with RESULT_COLUMNS; single timesteps are left out.
        members: table with SUBGROUP_COLUMNS.
        target_mix: by column, the share of each group; shares of a column add up to 1.
        bootstrap: how to resample.

    Raises:
        ValueError: results are not as they must be.
    """
    mixed = members[members["column"].isin(list(target_mix))]
    rows = [_mix(groups, target_mix[groups.column], bootstrap) for groups in _all_groups(results, mixed, bootstrap)]
    return tidy(rows, MIXED)


def _mix(groups: _Groups, shares: Mapping[str, float], bootstrap: Bootstrap) -> dict[str, Any]:
    cases = case_means(groups.series.values)
    row = {**groups.key, "column": groups.column, "mean": np.nanmean(cases) if not np.isnan(cases).all() else np.nan}
    without = [group for group in shares if group not in groups.members or np.isnan(groups.mean(group))]
    if without:
        return row | {"without": ", ".join(without)}
    low, high = bootstrap.interval(
        np.sum([share * groups.replicates[group] for group, share in shares.items()], axis=0)
    )
    mixed_mean = sum(share * groups.mean(group) for group, share in shares.items())
    return row | {"mixed_mean": mixed_mean, "ci_low": low, "ci_high": high, "without": ""}


def _all_groups(results: pd.DataFrame, members: pd.DataFrame, bootstrap: Bootstrap) -> Iterator[_Groups]:
    """Each series by the groups of each column that has cases of its domain."""
    for domain in series_of_domains(results):
        resampling = DomainBootstrap(bootstrap, domain)
        of_domain = members[members["domain"] == domain.name]
        for column, rows in of_domain.groupby("column", sort=False, observed=True):
            masks = {
                str(group): np.isin(domain.cases, cases.to_numpy(str))
                for group, cases in rows.groupby("group", sort=False, observed=True)["case"]
            }
            masks = {group: mask for group, mask in masks.items() if mask.any()}
            for series in domain.series:
                parts = (series.model, series.labelled_cases, domain.name, series.label, series.metric)
                key = dict(zip(GROUP_COLUMNS, parts, strict=True))
                replicates = {
                    group: resampling.means(np.where(mask, series.values, np.nan), series.seeds)
                    for group, mask in masks.items()
                }
                yield _Groups(str(column), key, series, domain.patients, masks, replicates)
