"""A plans file with any nonsense in it: predicting, planning and preprocessing end with a sentence that names it."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import change_somewhere, damaged, is_read

from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.planning.plan import read_plans
from nnunet_diffusion_ensemble.prediction.model import read_model
from nnunet_diffusion_ensemble.prediction.model_folder import check_model
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings

SETTINGS = PredictionSettings(folds=(0,), device="cpu")
TRIES, BUILT_ONE_OF = 100, 25


def readers(model: Path) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
    return (
        lambda: check_model(model, SETTINGS),
        lambda: DiffusionMethod.from_plans(read_plans(model / "plans.json", ["2d"])["configurations"]["2d"]),
        lambda: read_model(model, SETTINGS),
    )


@pytest.mark.filterwarnings("ignore:Detected old nnU-Net plans format", "ignore:Network class")
def test_no_change_of_plans_ends_in_a_stack_trace(model_folder: Callable, tmp_path: Path) -> None:
    model, rng = model_folder(), random.Random(2)
    original = (model / "plans.json").read_text()
    checked, planned, built = readers(model)
    read = 0
    for number in range(TRIES):
        plans = json.loads(original)
        where = change_somewhere(plans, rng)
        (model / "plans.json").write_text(json.dumps(plans))
        read += all([is_read(checked, where), is_read(planned, where)])
        if number % BUILT_ONE_OF == 0:  # which takes most of the time
            is_read(built, where)
    assert 0 < read < TRIES


@pytest.mark.filterwarnings("ignore:Detected old nnU-Net plans format")
def test_no_flipped_byte_of_plans_ends_in_a_stack_trace(model_folder: Callable, tmp_path: Path) -> None:
    model, rng = model_folder(), random.Random(3)
    original = (model / "plans.json").read_bytes()
    checked, planned, _ = readers(model)
    for number in range(TRIES):
        (model / "plans.json").write_bytes(damaged(original, rng))
        is_read(checked, number)
        is_read(planned, number)
