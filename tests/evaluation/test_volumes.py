"""Volumes in the unit of the spacing, without what is ignored."""

from pathlib import Path

import numpy as np
import pytest
from evaluation_data import PICTURE, write_evaluation_data

from nnunet_diffusion_ensemble.evaluation.cases import evaluate_folder
from nnunet_diffusion_ensemble.evaluation.settings import EvaluationSettings

IGNORING = {"background": 0, "left lung": 1, "heart": 2, "ignore": 3}


@pytest.mark.parametrize(
    ("shape", "spacing", "unit", "axes", "size"),
    [
        ((1, 14, 11), None, "mm", 2, 1.0),
        ((1, 14, 11), (0.5, 3.0), "mm", 2, 1.5),
        ((2, 14, 11), (7.0, 0.5, 3.0), "mm", 3, 10.5),
        ((2, 14, 11), (7.0, 0.5, 3.0), "px", 3, 1.0),
    ],
)
def test_volumes_are_pixels_times_their_size(tmp_path: Path, shape, spacing, unit, axes, size) -> None:
    data = write_evaluation_data(tmp_path, num_cases=1, shape=shape, spacing=spacing)
    settings = EvaluationSettings(metrics=("Dice",), unit=unit, timesteps=False, num_processes=1)
    (case,) = evaluate_folder(*data.arguments, settings)
    found, made = case.volumes["heart"], data.made["case_0"]
    assert found.axes == axes
    assert found.reference == pytest.approx(size * np.sum(made.reference == 2))
    assert found.prediction == pytest.approx(size * np.sum(made.segmentation == 2))


def test_ignored_pixels_are_in_no_volume_and_an_ignored_case_has_none(tmp_path: Path) -> None:
    data = write_evaluation_data(tmp_path, IGNORING, num_cases=2)
    data.reader_writer.write_seg(np.full((1, 14, 11), 3, np.uint8), str(data.references["case_1"]), PICTURE)
    settings = EvaluationSettings(metrics=("Dice",), timesteps=False, num_processes=1)
    first, second = evaluate_folder(*data.arguments, settings)
    made = data.made["case_0"]
    expected = np.sum((made.segmentation == 2) & (made.reference != 3))
    assert first.volumes["heart"].prediction == expected < np.sum(made.segmentation == 2)
    assert second.volumes == {}
