"""nnU-Net's summary.json, from counts that are there already."""

import math
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nnunet_diffusion_ensemble.evaluation.cases import EvaluatedCase
from nnunet_diffusion_ensemble.evaluation.overlap import Counts, dice, iou
from nnunet_diffusion_ensemble.system.atomic import whole_file


def write_summary(file: Path, cases: Iterable[EvaluatedCase]) -> None:
    """Writes what `nnUNetv2_evaluate_folder` writes for these cases: Dice and IoU of two empty masks are NaN there.

    Raises:
        ValueError: there are no cases.
    """
    from nnunetv2.evaluation.evaluate_predictions import save_summary_json  # imports torch

    cases = list(cases)
    if not cases:
        raise ValueError(f"There are no cases for {file}.")
    metrics = [{label: _metrics(counts) for label, counts in case.counts.items()} for case in cases]
    per_case = [
        {"reference_file": str(case.reference_file), "prediction_file": str(case.prediction_file), "metrics": of_case}
        for case, of_case in zip(cases, metrics, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a label that no case has: NaN, as there
        mean = {
            label: {name: float(np.nanmean([of_case[label][name] for of_case in metrics])) for name in names}
            for label, names in metrics[0].items()
        }
    names = next(iter(mean.values()))
    foreground_mean = {name: float(np.mean([values[name] for values in mean.values()])) for name in names}
    with whole_file(file) as temporary:
        save_summary_json(
            {"metric_per_case": per_case, "mean": mean, "foreground_mean": foreground_mean}, str(temporary)
        )


def _metrics(counts: Counts) -> dict[str, float]:
    both_empty = not (counts.predicted or counts.reference)
    return {
        "Dice": math.nan if both_empty else dice(counts),
        "IoU": math.nan if both_empty else iou(counts),
        "FP": counts.fp,
        "TP": counts.tp,
        "FN": counts.fn,
        "TN": counts.tn,
        "n_pred": counts.predicted,
        "n_ref": counts.reference,
    }
