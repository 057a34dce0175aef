"""Instances: matching, metrics and candidates against cases worked by hand, and against MONAI."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_data import PICTURE, write_evaluation_data
from monai.metrics.froc import compute_fp_tp_probs_nd
from monai.metrics.panoptic_quality import compute_panoptic_quality
from scipy.ndimage import gaussian_filter

from nnunet_diffusion_ensemble.evaluation.cases import evaluate_folder
from nnunet_diffusion_ensemble.evaluation.instances import find_candidates, match_instances
from nnunet_diffusion_ensemble.evaluation.metrics import METRICS
from nnunet_diffusion_ensemble.evaluation.settings import EvaluationSettings
from nnunet_diffusion_ensemble.images.components import components

NAMES = ("lesion_precision", "lesion_recall", "RQ", "SQ", "PQ", "false_positives")
# Of the reference, one of four pixels is found but for one, one of two is missed; the prediction has a false one.
REFERENCE = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]], bool)
PREDICTION = np.array([[1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]], bool)
NOTHING = np.zeros_like(REFERENCE)


def values(reference: np.ndarray, prediction: np.ndarray, match_iou: float = 0.5) -> list[float]:
    found = match_instances(reference, prediction, match_iou)
    return [METRICS[name].compute(found) for name in NAMES]


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        (REFERENCE, PREDICTION, [1 / 3, 1 / 2, 2 / 5, 3 / 4, 3 / 10, 2]),
        (REFERENCE, REFERENCE, [1, 1, 1, 1, 1, 0]),
        (NOTHING, NOTHING, [math.nan, math.nan, 1, math.nan, 1, 0]),
        (REFERENCE, NOTHING, [0, 0, 0, math.nan, 0, 0]),
        (NOTHING, REFERENCE, [0, math.nan, 0, math.nan, 0, 2]),
    ],
)
def test_metrics_worked_by_hand(reference: np.ndarray, prediction: np.ndarray, expected: list[float]) -> None:
    assert values(reference, prediction) == pytest.approx(expected, nan_ok=True)


def test_an_overlap_of_the_threshold_itself_is_no_match() -> None:
    assert match_instances(REFERENCE, PREDICTION, 0.75).found == 0
    assert match_instances(REFERENCE, PREDICTION, 0.74).found == 1


def test_one_prediction_over_two_references_finds_one() -> None:
    reference = np.array([[1, 1, 1, 0, 1]], bool)
    found = match_instances(reference, np.ones((1, 5), bool), 0.1)
    assert found.ious.tolist() == [3 / 5, 0] and not len(found.false_positives)


def test_corners_connect() -> None:
    assert components(np.eye(3, dtype=bool)).max() == 1
    assert components(np.array([[[1, 0], [0, 0]], [[0, 0], [0, 1]]], bool)).max() == 1


@pytest.mark.parametrize("shape", [(60, 50), (12, 30, 25)])
def test_counts_and_overlaps_are_those_of_monai(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    smooth = gaussian_filter(random.normal(size=shape), 1.5)
    reference, prediction = smooth > 0.12, smooth + 0.02 * random.normal(size=shape) > 0.12
    found = match_instances(reference, prediction, 0.5)
    numbers = [torch.from_numpy(components(mask).astype(np.int32)) for mask in (prediction, reference)]
    tp, fp, fn, ious = compute_panoptic_quality(*numbers, output_confusion_matrix=True).tolist()
    assert tp > 3 and fp > 0 and fn > 0
    missed = len(found.reference_sizes) - found.found
    assert (found.found, len(found.false_positives), missed) == (tp, fp, fn)
    assert found.ious.sum() == pytest.approx(ious, rel=1e-5)


def test_candidates_worked_by_hand() -> None:
    probability = np.zeros((4, 6))
    probability[0, :3] = 0.3, 0.9, 0.2  # the peak lies in the first reference
    probability[3, 0] = 0.6  # nowhere
    probability[3, 3:5] = 0.5, 0.4  # beside the second, though it touches it
    probability[2, 2] = 0.09  # too little
    found = find_candidates(REFERENCE, probability)
    assert found.of_references.tolist() == [0.9, 0]
    assert sorted(found.elsewhere.tolist()) == [0.5, 0.6]
    assert find_candidates(REFERENCE, np.zeros((4, 6))).of_references.tolist() == [0, 0]


def test_candidates_hit_as_in_monai() -> None:
    random = np.random.default_rng(1)
    smooth = gaussian_filter(random.normal(size=(80, 80)), 2)
    probability, reference = (
        (smooth - smooth.min()) / np.ptp(smooth),
        smooth + 0.03 * random.normal(size=(80, 80)) > 0.2,
    )
    probability[probability < 0.6] = 0
    numbers = components(probability >= 0.1)
    peaks = np.array([np.argwhere((numbers == i) & (probability == probability[numbers == i].max()))[0]
                      for i in range(1, numbers.max() + 1)])  # fmt: skip
    elsewhere, hits, _ = compute_fp_tp_probs_nd(probability[tuple(peaks.T)], peaks, components(reference))
    found = find_candidates(reference, probability)
    assert len(elsewhere) and hits.any()
    assert found.of_references == pytest.approx(hits)
    assert sorted(found.elsewhere) == pytest.approx(sorted(elsewhere))


def test_only_declared_labels_have_instances_and_ignored_pixels_are_in_none(tmp_path: Path) -> None:
    data = write_evaluation_data(tmp_path, {"background": 0, "left lung": 1, "heart": 2, "ignore": 3}, num_cases=1)
    images = [np.zeros((1, 14, 11), np.uint8) for _ in range(2)]
    images[0][0, 2:4, 3], images[1][0, 2:4, 3], images[1][0, 12, 1] = 2, 2, 2
    images[0][0, 12, 1] = 3  # a false positive, were it not ignored
    for file, image in zip((data.references["case_0"], data.prediction / "case_0.png"), images, strict=True):
        data.reader_writer.write_seg(image, str(file), PICTURE)
    settings = EvaluationSettings(
        metrics=("Dice", "PQ", "Brier"), instances=("heart",), timesteps=False, num_processes=1
    )
    (case,) = evaluate_folder(*data.arguments, settings)
    assert [(score.label, score.value) for score in case.scores if score.metric == "PQ"] == [("heart", 1.0)]
    rows = case.instances["heart"]
    assert [row for row in rows if row["kind"] == "false positive"] == []
    (reference,) = [row for row in rows if row["kind"] == "reference"]
    assert (reference["size"], reference["iou"], reference["axes"]) == (2.0, 1.0, 2)
    assert list(case.instances) == ["heart"]
