"""Evaluation of folders: what is read and compared, the order, nnU-Net's summary.json, and unusable files."""

import json
import math
import multiprocessing.pool
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from evaluation_data import PICTURE, EvaluationData, geometry, write_evaluation_data
from nnunetv2.evaluation import evaluate_predictions
from PIL import Image
from sklearn.metrics import brier_score_loss, f1_score, precision_score

from nnunet_diffusion_ensemble.evaluation.cases import EvaluatedCase, evaluate_folder
from nnunet_diffusion_ensemble.evaluation.metrics import METRICS
from nnunet_diffusion_ensemble.evaluation.settings import EvaluationSettings
from nnunet_diffusion_ensemble.evaluation.summary import write_summary
from nnunet_diffusion_ensemble.system.workers import map_in_order

OF_LABELS = [name for name, metric in METRICS.items() if metric.kind != "instances"]
REGIONS = {"background": 0, "whole": [1, 2], "part": 2}
IGNORING = {"background": 0, "left lung": 1, "heart": 2, "ignore": 3}
OVERLAP_ONLY = EvaluationSettings(metrics=("Dice", "IoU"), timesteps=False, num_processes=1)


def evaluate(data: EvaluationData, **settings: Any) -> list[EvaluatedCase]:
    return list(evaluate_folder(*data.arguments, EvaluationSettings(num_processes=1, **settings)))


def values_of(evaluated: EvaluatedCase, label: str, timestep: int | None = None) -> dict[str, float]:
    return {s.metric: s.value for s in evaluated.scores if (s.label, s.timestep) == (label, timestep)}


def masks(data: EvaluationData, case: str, labels: tuple[int, ...]) -> list[np.ndarray]:
    """Reference and prediction of a case as flat masks, without pixels of the reference's value 3."""
    one = data.made[case]
    return [np.isin(image, labels)[one.reference != 3] for image in (one.reference, one.segmentation)]


def test_every_case_label_and_metric_has_a_row_in_order(tmp_path: Path) -> None:
    data = write_evaluation_data(tmp_path)
    backwards = dict(reversed(data.references.items()))
    rows = [
        (score.case, score.timestep, score.label, score.metric)
        for case in evaluate_folder(
            data.prediction, backwards, *data.arguments[2:], EvaluationSettings(num_processes=1)
        )
        for score in case.scores
    ]
    expected = []
    for case in ("case_2", "case_1", "case_0"):
        expected += [(case, None, label, metric) for label in ("left lung", "heart") for metric in OF_LABELS]
        expected += [(case, timestep, label, "Dice") for timestep in (1, 50, 400) for label in ("left lung", "heart")]
    assert rows == expected


PICTURES = {"shape": (1, 14, 11)}
VOLUMES = {"shape": (2, 14, 11), "spacing": (3.0, 0.5, 0.7)}


@pytest.mark.parametrize(
    ("labels", "name", "values", "channel", "images"),
    [
        (IGNORING, "left lung", (1,), 1, PICTURES),
        (IGNORING, "heart", (2,), 2, VOLUMES),
        (REGIONS, "whole", (1, 2), 0, VOLUMES),
        (REGIONS, "part", (2,), 1, PICTURES),
    ],
)
def test_values_agree_with_scikit_learn_for_labels_and_regions(tmp_path, labels, name, values, channel, images) -> None:
    data = write_evaluation_data(tmp_path, labels, **images)
    evaluated = evaluate(data)[1]
    reference, prediction = masks(data, "case_1", values)
    found, one = values_of(evaluated, name), data.made["case_1"]
    assert found["Dice"] == pytest.approx(f1_score(reference, prediction))
    assert found["precision"] == pytest.approx(precision_score(reference, prediction))
    probability = one.probabilities[channel][one.reference != 3]
    assert found["Brier"] == pytest.approx(brier_score_loss(reference, probability), rel=1e-5)
    assert sum(evaluated.reliability[name].pixels) == reference.size
    assert sum(evaluated.reliability[name].positives) == reference.sum()
    assert found["ECE"] == evaluated.reliability[name].expected_calibration_error
    for timestep, segmentation in one.timesteps.items():
        of_timestep = np.isin(segmentation, values)[one.reference != 3]
        assert values_of(evaluated, name, timestep) == {"Dice": pytest.approx(f1_score(reference, of_timestep))}


def test_timesteps_are_left_out_if_not_asked_for_or_not_there(tmp_path: Path) -> None:
    with_them, without = write_evaluation_data(tmp_path / "a"), write_evaluation_data(tmp_path / "b", timesteps=())
    for evaluated in (evaluate(with_them, timesteps=False), evaluate(without)):
        assert {score.timestep for case in evaluated for score in case.scores} == {None}


def write_pixels(
    data: EvaluationData, reference: tuple[int, ...], prediction: tuple[int, ...], properties: dict
) -> None:
    """One pixel of the first label each, in the first case."""
    files = data.references["case_0"], data.prediction / f"case_0{data.dataset_json['file_ending']}"
    for file, position in zip(files, (reference, prediction), strict=True):
        image = np.zeros_like(data.made["case_0"].reference)
        image[position] = 1
        data.reader_writer.write_seg(image, str(file), properties)


@pytest.mark.parametrize(
    ("shape", "spacing", "unit", "distance"),
    [
        ((1, 14, 11), None, "mm", 5),  # a picture has no spacing
        ((1, 14, 11), (0.5, 3.0), "mm", 0.5 * math.hypot(3, 6 * 4)),
        ((1, 14, 11), (0.5, 3.0), "px", 5),
        ((1, 14, 11), (7.0, 0.5, 3.0), "mm", 0.5 * math.hypot(3, 6 * 4)),  # a volume of one slice
        ((2, 14, 11), (7.0, 0.5, 3.0), "mm", math.hypot(7, 1.5, 12)),
        ((2, 14, 11), (7.0, 0.5, 3.0), "px", math.hypot(1, 3, 4)),
    ],
)
def test_distances_have_the_spacing_of_the_image_or_one(tmp_path, shape, spacing, unit, distance) -> None:
    data = write_evaluation_data(tmp_path, num_cases=1, shape=shape, spacing=spacing)
    write_pixels(data, (0, 2, 3), (shape[0] - 1, 5, 7), PICTURE if spacing is None else geometry(spacing))
    (case,) = evaluate(data, unit=unit, nsd_tolerance=distance - 0.01)
    found = values_of(case, "left lung")
    assert [found[name] for name in ("HD95", "ASSD", "NSD")] == pytest.approx([distance, distance, 0])
    found = values_of(case, "heart")  # which neither has
    assert [found[name] for name in ("Dice", "HD95", "ASSD", "NSD")] == [1, 0, 0, 1]


def test_surfaces_leave_out_ignored_pixels(tmp_path: Path) -> None:
    """One pixel of each label map is ignored, which leaves the two at distance 3 and 4."""
    data = write_evaluation_data(tmp_path, IGNORING, num_cases=1)
    images = [np.zeros((1, 14, 11), np.uint8) for _ in range(2)]
    images[0][0, 2, 3] = images[1][0, 5, 7] = images[1][0, 12, 1] = 1
    images[0][0, 12, 1] = 3
    for file, image in zip((data.references["case_0"], data.prediction / "case_0.png"), images, strict=True):
        data.reader_writer.write_seg(image, str(file), {})
    (case,) = evaluate(data, metrics=("HD95", "ASSD", "precision"), timesteps=False)
    assert values_of(case, "left lung") == {"HD95": 5, "ASSD": 5, "precision": 0}


def test_a_case_that_is_ignored_as_a_whole_has_no_values(tmp_path: Path) -> None:
    data = write_evaluation_data(tmp_path, IGNORING, num_cases=1)
    data.reader_writer.write_seg(np.full((1, 14, 11), 3, np.uint8), str(data.references["case_0"]), {})
    (case,) = evaluate(data)
    assert all(math.isnan(score.value) for score in case.scores)
    assert sum(case.reliability["heart"].pixels) == 0


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's evaluation in threads: its processes take seconds to start."""
    pool = SimpleNamespace(Pool=multiprocessing.pool.ThreadPool)
    monkeypatch.setattr(evaluate_predictions, "multiprocessing", SimpleNamespace(get_context=lambda _: pool))


@pytest.mark.parametrize("labels", [IGNORING, REGIONS, {"background": 0, "left lung": 1, "heart": 2, "never": 4}])
def test_the_summary_is_that_of_nnunet(tmp_path: Path, threads: None, labels: dict) -> None:
    data = write_evaluation_data(tmp_path, labels)
    empty = np.zeros((1, 14, 11), np.uint8)
    for file in (data.references["case_2"], data.prediction / "case_2.png"):
        data.reader_writer.write_seg(empty, str(file), {})
    write_summary(data.prediction / "summary.json", evaluate_folder(*data.arguments, OVERLAP_ONLY))
    regions = [(1, 2), 2] if labels is REGIONS else [value for value in (1, 2, labels.get("never")) if value]
    with pytest.warns(RuntimeWarning) if "never" in labels else pytest.MonkeyPatch.context():
        evaluate_predictions.compute_metrics_on_folder(
            str(tmp_path / "references"),
            str(data.prediction),
            str(tmp_path / "expected.json"),
            data.reader_writer,
            ".png",
            regions,
            labels.get("ignore"),
        )
    expected = (tmp_path / "expected.json").read_text()
    assert "NaN" in expected and len(json.loads(expected)["metric_per_case"]) == 3
    assert (data.prediction / "summary.json").read_text() == expected


def test_a_summary_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no cases"):
        write_summary(tmp_path / "summary.json", [])
    assert not list(tmp_path.iterdir())


def replace(file: Callable[[EvaluationData], Path], image: np.ndarray) -> Callable[[EvaluationData], None]:
    return lambda data: Image.fromarray(image).save(file(data))


def reference(data: EvaluationData) -> Path:
    return data.references["case_1"]


def segmentation(data: EvaluationData) -> Path:
    return data.prediction / "case_1.png"


def timestep(data: EvaluationData) -> Path:
    return data.prediction / "timesteps" / "t050" / "case_1.png"


def probability(data: EvaluationData) -> Path:
    return data.prediction / "probability" / "2_heart" / "case_1.tif"


FLAT = np.zeros((14, 11), np.uint8)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: reference(data).unlink(), r"files are missing[\s\S]*references.case_1.png$"),
        (lambda data: segmentation(data).unlink(), r"files are missing[\s\S]*prediction.case_1.png$"),
        (lambda data: timestep(data).unlink(), r"files are missing[\s\S]*t050.case_1.png$"),
        (lambda data: probability(data).unlink(), r"files are missing[\s\S]*2_heart.case_1.tif$"),
        (lambda data: reference(data).write_text("no image"), r"references.case_1.png cannot be read \("),
        (lambda data: segmentation(data).write_bytes(b""), r"prediction.case_1.png cannot be read \("),
        (lambda data: probability(data).write_text("no image"), r"2_heart.case_1.tif cannot be read \("),
        (replace(segmentation, FLAT[1:]), r"prediction.case_1.png .*shape \(13, 11\), its reference has \(14, 11\)"),
        (replace(timestep, FLAT[:, 1:]), r"t050.case_1.png .*shape \(14, 10\), its reference has \(14, 11\)"),
        (replace(probability, FLAT[1:].astype(np.float32)), r"case_1.tif .*shape \(13, 11\)"),
        (replace(probability, FLAT.astype(np.float32) + 2), r"case_1.tif .*between 0 and 1, got 2 to 2"),
        (
            replace(reference, np.stack([FLAT] * 3, 2)),
            "case_1.png has 3 channels, e.g. colours",
        ),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, spoil: Callable[[EvaluationData], None], message: str) -> None:
    data = write_evaluation_data(tmp_path, num_cases=2, timesteps=(50,))
    spoil(data)
    with pytest.raises(ValueError, match=message):
        evaluate(data)


def test_another_spacing_than_the_references_matters_for_millimetres_only(tmp_path: Path) -> None:
    data = write_evaluation_data(tmp_path, shape=(3, 8, 8), spacing=(2.0, 1.0, 1.0), num_cases=1)
    image = sitk.ReadImage(str(data.references["case_0"]))
    image.SetSpacing((1.0, 1.0, 3.0))
    sitk.WriteImage(image, str(data.references["case_0"]))
    with pytest.raises(ValueError, match=r"has the spacing 1 x 1 x 2, its reference .*case_0.nii.gz 1 x 1 x 3"):
        evaluate(data)
    assert evaluate(data, unit="px") and evaluate(data, metrics=("Dice", "Brier"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ("Dice", "dice")}, r"metrics: unknown metric dice; did you mean Dice\? Allowed are Dice, IoU"),
        ({"metrics": ()}, r"metrics must be a list of one or more, .*; got \[\]"),
        ({"unit": "cm"}, "unit must be mm or px; got 'cm'"),
        ({"num_processes": 0}, "num_processes must be a whole number of at least 1; got 0"),
    ],
)
def test_other_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationSettings(**settings)


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    data = write_evaluation_data(tmp_path)
    with pytest.raises(ValueError, match="no cases to evaluate in"):
        evaluate_folder(data.prediction, {}, *data.arguments[2:], OVERLAP_ONLY)


def test_one_process_takes_items_when_their_results_are_wanted() -> None:
    taken: list[int] = []
    results = map_in_order(lambda item: -item, (taken.append(i) or i for i in range(5)), 1)
    assert (next(results), next(results), taken) == (0, -1, [0, 1])
