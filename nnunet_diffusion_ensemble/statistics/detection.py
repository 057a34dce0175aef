"""Detection of instances over all cases of a domain: recall by size, and FROC curves (Bunch et al. 1977)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nnunet_diffusion_ensemble.benchmark.groups import bin_names, bin_of, quartiles
from nnunet_diffusion_ensemble.evaluation.instances import CANDIDATE, FALSE_POSITIVE, REFERENCE
from nnunet_diffusion_ensemble.statistics.bootstrap import DEFAULT, Bootstrap

KEYS = ["model", "labelled_cases", "domain", "label"]
ALL_SIZES = "all"
FP_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # false positives a case, as in LUNA16


def detection_by_size(
    instances: pd.DataFrame, volumes: pd.DataFrame, edges: Sequence[float] = (), bootstrap: Bootstrap = DEFAULT
) -> pd.DataFrame:
    """Recall of the references of each class of sizes and of all, and false positives a case, over all seeds.

    Intervals of recall are of drawn cases, which keep their instances of all seeds together.

    Args:
        instances: table with INSTANCE_COLUMNS.
        volumes: table with VOLUME_COLUMNS, which has each case that was evaluated, also those without an instance.
        edges: between classes of sizes, in the unit of the table; without, quartiles of all references of a label.
        bootstrap: how to resample.
    """
    rows = []
    for key, cases, found in _groups(instances, volumes):
        of_label = instances[(instances["label"] == key["label"]) & (instances["kind"] == REFERENCE)]
        used = tuple(edges) or quartiles(of_label["size"].to_numpy(float))
        references = found[found["kind"] == REFERENCE]
        names = (*(bin_names(used) if used else ()), ALL_SIZES)
        classes = np.array([bin_of(size, used) for size in references["size"]])
        for name in names:
            of_class = references if name == ALL_SIZES else references[classes == name]
            row = {**key, "size": name, "axes": int(cases["axes"].max()), "num_references": len(of_class)}
            row |= _recall(of_class, key["domain"], bootstrap)
            if name == ALL_SIZES:
                row["false_positives_per_case"] = (found["kind"] == FALSE_POSITIVE).sum() / len(cases)
            rows.append(row)
    return pd.DataFrame(rows)


def _recall(references: pd.DataFrame, domain: str, bootstrap: Bootstrap) -> dict[str, Any]:
    hit = references["iou"] > 0
    of_case = hit.groupby(references["case"]).agg(["sum", "count"]).to_numpy(float)
    if not len(of_case):
        return {"num_found": 0, "recall": np.nan, "ci_low": np.nan, "ci_high": np.nan}
    low, high = np.nan, np.nan
    if len(of_case) > 1:
        sums = bootstrap.patient_counts(domain, len(of_case)) @ of_case
        low, high = bootstrap.interval(sums[:, 0] / sums[:, 1])
    return {"num_found": int(hit.sum()), "recall": float(hit.mean()), "ci_low": low, "ci_high": high}


@dataclass(frozen=True)
class Froc:
    """A free-response curve: a point a threshold, from the highest.

    Attributes:
        key: KEYS.
        false_positives: a case, rising.
        recall: of all references.
    """

    key: dict[str, Any]
    false_positives: np.ndarray
    recall: np.ndarray

    def at(self, rate: float) -> float:
        """The recall with at most so many false positives a case."""
        return float(self.recall[self.false_positives <= rate].max(initial=0.0))


def froc_curves(instances: pd.DataFrame, volumes: pd.DataFrame) -> list[Froc]:
    """Of each model, number of labelled cases, domain and label with probabilities and a reference, over all seeds.

    At a threshold, a reference is found if a candidate in it has at least this probability; candidates in no reference
    with at least this probability are false positives. Arguments as in `detection_by_size`.
    """
    curves = []
    for key, cases, found in _groups(instances, volumes):
        hits = found.loc[found["kind"] == REFERENCE, "probability"].dropna().to_numpy(float)
        elsewhere = found.loc[found["kind"] == CANDIDATE, "probability"].to_numpy(float)
        if len(hits):
            thresholds = np.unique(np.concatenate([hits[hits > 0], elsewhere]))[::-1]
            points = [((elsewhere >= t).sum() / len(cases), (hits >= t).mean()) for t in thresholds]
            curves.append(Froc(key, *np.array([(0.0, 0.0), *points]).T))
    return curves


def froc_table(curves: Sequence[Froc]) -> pd.DataFrame:
    """Recall at FP_RATES and their mean, the FROC score."""
    rows = []
    for curve in curves:
        recalls = [curve.at(rate) for rate in FP_RATES]
        rows.append(curve.key | {f"recall_at_{r:g}": v for r, v in zip(FP_RATES, recalls, strict=True)})
        rows[-1]["froc_score"] = float(np.mean(recalls))
    return pd.DataFrame(rows)


def _groups(
    instances: pd.DataFrame, volumes: pd.DataFrame
) -> Iterator[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """Key, evaluated cases of all seeds, and instances; of labels that have any instance."""
    labels = instances["label"].unique()
    cases = volumes[volumes["label"].isin(labels)]
    for key, of_key in cases.groupby(KEYS, sort=False, dropna=False, observed=True):
        named = dict(zip(KEYS, key, strict=True))
        here = instances
        for name, value in named.items():
            here = here[here[name].isna() if pd.isna(value) else (here[name] == value).fillna(False).astype(bool)]
        yield named, of_key, here
