"""Detection over all cases: recall by size and FROC worked by hand."""

import numpy as np
import pandas as pd
import pytest

from nnunet_diffusion_ensemble.benchmark.results import INSTANCE_COLUMNS, VOLUME_COLUMNS
from nnunet_diffusion_ensemble.statistics.detection import detection_by_size, froc_curves, froc_table

RUN = ("M", None, 0, "here")
# Four cases, the last without anything: (case, kind, size, iou, probability)
ROWS = [
    ("a", "reference", 5.0, 0.8, 0.9),
    ("a", "reference", 50.0, 0.0, 0.0),
    ("b", "reference", 10.0, 0.6, 0.5),
    ("c", "false positive", 7.0, None, None),
    ("c", "candidate", None, None, 0.7),
    ("c", "candidate", None, None, 0.3),
]


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [(*RUN, case, "lesion", kind, 2, *numbers) for case, kind, *numbers in ROWS]
    instances = pd.DataFrame(rows, columns=list(INSTANCE_COLUMNS))
    volumes = pd.DataFrame([(*RUN, case, "lesion", 2, 1.0, 1.0) for case in "abcd"], columns=list(VOLUME_COLUMNS))
    return tuple(table.astype({"labelled_cases": "Int64"}) for table in (instances, volumes))


def test_recall_is_by_size_and_false_positives_by_case() -> None:
    found = detection_by_size(*tables(), edges=(10, 40)).set_index("size")
    assert found["recall"].to_dict() == {
        **{"below 10": 1.0, "10 to below 40": 1.0, "40 and above": 0.0},
        "all": pytest.approx(2 / 3),
    }
    assert found["num_references"].tolist() == [1, 1, 1, 3]
    assert found.loc["all", "false_positives_per_case"] == 0.25  # the case without anything counts


def test_without_edges_sizes_are_parted_by_quartiles() -> None:
    sizes = detection_by_size(*tables())["size"].tolist()  # of 5, 10, 50
    assert sizes == ["below 7.5", "7.5 to below 10", "10 to below 30", "30 and above", "all"]


def test_froc_worked_by_hand() -> None:
    (curve,) = froc_curves(*tables())
    assert curve.false_positives.tolist() == [0, 0, 0.25, 0.25, 0.5]  # at none, 0.9, 0.7, 0.5, 0.3
    assert curve.recall == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    row = froc_table([curve]).iloc[0]
    assert row["recall_at_0.125"] == pytest.approx(1 / 3)
    assert row["recall_at_0.25"] == row["recall_at_8"] == pytest.approx(2 / 3)
    assert row["froc_score"] == pytest.approx(np.mean([1 / 3, *[2 / 3] * 6]))


def test_without_probabilities_there_is_no_curve() -> None:
    instances, volumes = tables()
    assert froc_curves(instances[instances["kind"] != "candidate"].assign(probability=np.nan), volumes) == []
