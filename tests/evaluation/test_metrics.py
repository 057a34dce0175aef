"""The table of metrics: what is entered there is measured, told and reported."""

from pathlib import Path

import numpy as np
import pytest
from evaluation_data import write_evaluation_data

from nnunet_diffusion_ensemble.evaluation.cases import evaluate_folder
from nnunet_diffusion_ensemble.evaluation.metrics import METRICS, Metric
from nnunet_diffusion_ensemble.evaluation.settings import EvaluationSettings
from nnunet_diffusion_ensemble.report.tables import format_value

MADE_UP = (
    Metric("misses", "Missed share", False, "overlap", lambda counts: counts.fn / counts.total),
    Metric("reach", "Diagonal", False, "surface", lambda surfaces: surfaces.diagonal, "length"),
    Metric("lowest", "Lowest probability", True, "calibration", lambda label: float(label.probability.min())),
)


@pytest.mark.parametrize("metric", MADE_UP, ids=lambda metric: metric.kind)
def test_a_made_up_metric_is_in_the_results_after_one_entry(
    metric: Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, metric.name, metric)
    data = write_evaluation_data(tmp_path, shape=(2, 14, 11), spacing=(3.0, 0.5, 0.7))
    one = data.made["case_1"]
    reference, predicted = one.reference == 1, one.segmentation == 1
    expected = {
        "misses": np.mean(reference & ~predicted),
        "reach": np.sqrt((2 * 3.0) ** 2 + (14 * 0.5) ** 2 + (11 * 0.7) ** 2),
        "lowest": one.probabilities[1].min(),
    }
    settings = EvaluationSettings(metrics=(metric.name,), timesteps=False, num_processes=1)
    scores = list(evaluate_folder(*data.arguments, settings))[1].scores
    (found,) = [score.value for score in scores if score.label == "left lung"]
    assert found == pytest.approx(expected[metric.name], abs=1e-6)


def test_a_made_up_length_is_reported_with_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "reach", MADE_UP[1])
    assert format_value("reach", 2.5, "mm") == "2.50 mm"


def test_an_unknown_metric_is_told_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "reach", MADE_UP[1])
    with pytest.raises(ValueError, match=r"unknown metric reech; did you mean reach\?.*Brier, .*, reach"):
        EvaluationSettings.read({"metrics": ["reech"]})
