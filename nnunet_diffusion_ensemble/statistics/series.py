"""Results as matrices of seeds and cases, which all statistics start from, and back into tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nnunet_diffusion_ensemble.benchmark.results import RESULT_COLUMNS, TYPES
from nnunet_diffusion_ensemble.evaluation.metrics import METRICS

GROUPINGS = ("seed", "timestep")
_TEXTS = (
    "model_a",
    "model_b",
    "better",
    "source",
    "target",
    "column",
    "group",
    "group_a",
    "group_b",
    "worse",
    "without",
)
_COUNTS = ("num_cases", "num_patients", "num_seeds", "num_undefined", "num_missing", "left_out")
_TYPES = TYPES | dict.fromkeys(_TEXTS, "string") | dict.fromkeys(_COUNTS, "int64")


@dataclass(frozen=True)
class Series:
    """All values of one model, metric and label in a domain.

    Attributes:
        labelled_cases: None where the specification has none.
        by: values of the further columns that were asked for, e.g. the timestep.
        seeds: in ascending order.
        values: (seeds, cases of the domain), NaN where the metric is undefined or there is no result.
        tested: (seeds, cases), whether there is a result, if only that the metric is undefined.
    """

    model: str
    labelled_cases: int | None
    label: str
    metric: str
    by: tuple[int | None, ...]
    seeds: tuple[int, ...]
    values: np.ndarray
    tested: np.ndarray

    @property
    def higher_is_better(self) -> bool:
        return METRICS[self.metric].higher_is_better


@dataclass(frozen=True)
class DomainSeries:
    """A domain with its cases, those of any model, and the values of all models.

    Attributes:
        patients: (cases,), the number of each case's patient, from 0.
        cases: their names.
    """

    name: str
    patients: np.ndarray
    series: tuple[Series, ...]
    cases: tuple[str, ...] = ()


def series_of_domains(results: pd.DataFrame, by: Sequence[str] = ()) -> list[DomainSeries]:
    """Sorts results into matrices; domains, models, labels and metrics keep the order of the table.

    Args:
        results: table with RESULT_COLUMNS. Single timesteps are left out unless `by` has them.
        by: further columns to separate, of GROUPINGS.

    Raises:
        ValueError: a column, metric or grouping that is not known, two values of one case, a case of two patients, or
            values that are infinite.
    """
    _check(results, by)
    rows = results if "timestep" in by else results[results["timestep"].isna()]
    return [_domain(str(name), of_domain, by) for name, of_domain in rows.groupby("domain", sort=False, observed=True)]


def _check(results: pd.DataFrame, by: Sequence[str]) -> None:
    missing = [name for name in RESULT_COLUMNS if name not in results.columns]
    if missing:
        raise ValueError(f"Results need the columns {', '.join(RESULT_COLUMNS)}; there is no {', '.join(missing)}.")
    unknown = [str(name) for name in results["metric"].unique() if name not in METRICS]
    if unknown:
        raise ValueError(f"Metrics must be of {', '.join(METRICS)}, got {', '.join(unknown)}.")
    wrong = [name for name in by if name not in GROUPINGS]
    if wrong:
        raise ValueError(f"Results can be separated by {', '.join(GROUPINGS)}, got {', '.join(wrong)}.")
    if np.isinf(results["value"].to_numpy(float)).any():
        raise ValueError(
            "Values must be finite, or empty where the metric is undefined; the results have infinite ones."
        )


def _domain(name: str, rows: pd.DataFrame, by: Sequence[str]) -> DomainSeries:
    case_of_row, cases = pd.factorize(rows["case"].astype("string"), sort=True)
    patients = _patients(name, rows, case_of_row)
    keys = ["model", "labelled_cases", "label", "metric", *by]
    groups = rows.groupby(keys, sort=False, dropna=False, observed=True).ngroup().to_numpy()
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    firsts = rows[keys].iloc[order[starts]].itertuples(index=False, name=None)
    seeds, values = rows["seed"].to_numpy(int), rows["value"].to_numpy(float)
    made = []
    for key, members in zip(firsts, np.split(order, starts[1:]), strict=True):
        parts: list[Any] = [None if pd.isna(part) else part for part in key]
        model, labelled_cases, label, metric, *others = parts
        matrices = _matrices(seeds[members], case_of_row[members], values[members], len(cases))
        if matrices is None:
            raise ValueError(f"The results have two values of one case: {model}, {name}, {label}, {metric}.")
        made.append(Series(model, labelled_cases, label, metric, tuple(others), *matrices))
    return DomainSeries(name, patients, tuple(made), tuple(map(str, cases)))


def _patients(domain: str, rows: pd.DataFrame, case_of_row: np.ndarray) -> np.ndarray:
    """The patient of each case; a case without one is its own."""
    names = rows["patient"].astype("string").fillna(rows["case"].astype("string"))
    patient_of_row, _ = pd.factorize(names, sort=True)  # so that the order of rows does not change who is drawn
    _, first_rows = np.unique(case_of_row, return_index=True)
    patients = patient_of_row[first_rows]
    differ = np.flatnonzero(patients[case_of_row] != patient_of_row)
    if len(differ):
        raise ValueError(f"In {domain}, the case {rows['case'].iloc[differ[0]]} is of two patients.")
    return patients


def _matrices(
    seed_of_row: np.ndarray, case_of_row: np.ndarray, values: np.ndarray, num_cases: int
) -> tuple[tuple[int, ...], np.ndarray, np.ndarray] | None:
    """Seeds, values and what was tested of one series; None if it has two values in one place."""
    seeds, positions = np.unique(seed_of_row, return_inverse=True)
    matrix, tested = np.full((len(seeds), num_cases), np.nan), np.zeros((len(seeds), num_cases), bool)
    matrix[positions, case_of_row] = values
    tested[positions, case_of_row] = True
    if tested.sum() != len(values):
        return None
    return tuple(seeds.tolist()), matrix, tested


def case_means(values: np.ndarray) -> np.ndarray:
    """Mean over seeds of (seeds, cases), of those with a value; NaN where none has: one observation a case."""
    defined = ~np.isnan(values)
    counts = defined.sum(axis=0)
    sums = np.where(defined, values, 0.0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def tidy(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A table with these columns and their types, also if it has no rows."""
    types = {name: _TYPES.get(name, "float64") for name in columns}
    return pd.DataFrame(list(rows), columns=list(columns)).astype(types)
