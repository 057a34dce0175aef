"""Labels and regions as masks, and what the processes that evaluate need not import."""

import numpy as np
from imports import imported_by
from nnunetv2.evaluation.evaluate_predictions import region_or_label_to_mask

from nnunet_diffusion_ensemble.evaluation.labels import evaluated_labels

LABELS = np.array([[0, 1, 2], [3, 2, 0]])


def test_a_label_is_where_the_map_has_it() -> None:
    _, second = evaluated_labels({"labels": {"background": 0, "lung": 1, "heart": 2}})
    assert second.mask(LABELS).tolist() == [[False, False, True], [False, True, False]]


def test_a_region_is_where_nnunet_sees_it() -> None:
    dataset_json = {"labels": {"background": 0, "all": [1, 2, 3], "core": [2, 3]}, "regions_class_order": [1, 2]}
    for region in evaluated_labels(dataset_json):
        assert isinstance(region.value, tuple)
        np.testing.assert_array_equal(region.mask(LABELS), region_or_label_to_mask(LABELS, region.value))


def test_processes_that_evaluate_and_the_report_need_no_torch() -> None:
    package = "nnunet_diffusion_ensemble"
    code = f"import {package}.evaluation.cases, {package}.benchmark.domains, {package}.report.write"
    assert imported_by(code, ["torch", "numpy"]) == {"numpy"}
