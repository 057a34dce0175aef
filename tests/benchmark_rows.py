"""Results of made benchmarks, as tables with the columns of `results.csv`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from nnunet_diffusion_ensemble.benchmark.results import RESULT_COLUMNS, TYPES


def result_rows(values: Any, patients: Sequence[str] | None = None, **columns: Any) -> pd.DataFrame:
    """`values` (seeds, cases) or (cases,) of one model, metric and label; `columns` replace the others' values."""
    matrix = np.atleast_2d(np.asarray(values, float))
    seeds, cases = np.indices(matrix.shape)
    names = [f"case_{case}" for case in cases.ravel()]
    made = {
        "model": "TEDM",
        "labelled_cases": None,
        "seed": seeds.ravel(),
        "domain": "here",
        "case": names,
        "patient": names if patients is None else np.tile(patients, len(matrix)),
        "timestep": None,
        "label": "lung",
        "metric": "Dice",
        "value": matrix.ravel(),
    }
    return pd.DataFrame(made | columns)[list(RESULT_COLUMNS)].astype(TYPES)


def together(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)
