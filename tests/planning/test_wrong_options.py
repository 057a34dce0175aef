"""Options that cannot be: `plan` and `preprocess` refuse them before anything is extracted or written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planning_data import make_dataset
from planning_data import plan as plan_by

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.planning.options import PlanningOptions
from nnunet_diffusion_ensemble.planning.planner import DiffusionEnsemblePlanner

PLANS = "nnUNetDiffusionEnsemblePlans.json"
OF_2D = {"shape": (1, 64, 64), "spacing": (999.0, 1.0, 1.0)}


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a preprocessed data set that holds its fingerprint only."""
    return tmp_path / "preprocessed" / make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, **OF_2D)  # type: ignore[arg-type]


def everything_in(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--base-features 0", "base_features must be a whole number of at least 1, or null; got 0."),
        ("--blocks-per-stage 0", "blocks_per_stage must be a whole number of at least 1, or null; got 0."),
        ("--image-size 0", "image_size must be a whole number of at least 1, or null; got 0."),
        ("--batch-size 0", "batch_size must be a whole number of at least 1, or null; got 0."),
        ("--gpu-memory-target=-3", "gpu_memory_target_gb must be a number above 0, or null; got -3.0."),
        ("--gpu-memory-target 0", "gpu_memory_target_gb must be a number above 0, or null; got 0.0."),
        ("--gpu-memory-target nan", "gpu_memory_target_gb must be a finite number above 0, or null; got nan."),
        ("--target-spacing 0 1 1", "target_spacing must be a list of 3, each a number above 0, or null; got [0.0, 1"),
        ("--target-spacing 1 -1 1", "target_spacing must be a list of 3, each a number above 0, or null; got [1.0, -1"),
        ("--target-spacing 1 nan 1", "target_spacing must be a list of 3, each a finite number above 0, or null; got"),
        ("--target-spacing 1 1", "target_spacing must be a list of 3, each a number above 0, or null; got [1.0, 1.0]"),
        ("--schedule cosin", "diffusion.denoiser.schedule must be cosine, linear or checkpoint; got 'cosin'."),
        ("--prediction-type v", "diffusion.denoiser.prediction_type must be epsilon, v_prediction or sample; got 'v'."),
        ("--diffusion-steps 1", "diffusion.denoiser.num_diffusion_steps must be a whole number of at least 2; got 1."),
        ("--diffusion-steps 60 --timesteps 60", "diffusion.ensemble.timesteps must be below denoiser.num_diffusion_st"),
        ("--epochs 0", "diffusion.training.num_epochs must be a whole number of at least 1; got 0."),
        ("--learning-rate inf", "diffusion.training.learning_rate must be a finite number above 0; got inf."),
        (
            "--hidden-features 128 0",
            "diffusion.ensemble.head.hidden_features must be a list, each a whole number of at",
        ),
        ("--mirror-axes 7", "diffusion.mirror_axes must be a list, each a whole number from 0 to 2, or null; got [7]."),
        ("--mirror-axes 2", "diffusion.mirror_axes must be below 2, the number of axes of the configuration; got [2]."),
    ],
)
def test_plan_refuses_a_wrong_option_before_anything_is_written(
    options: str, message: str, dataset: Path, capsys: pytest.CaptureFixture
) -> None:
    (dataset / "dataset_fingerprint.json").unlink()  # it would be extracted first
    before = everything_in(dataset.parents[1])
    assert main(["plan", "-d", "1", *options.split()]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert everything_in(dataset.parents[1]) == before


@pytest.mark.parametrize("option", [["--epochs", "2.5"], ["-np", "0"]])
def test_plan_refuses_a_number_that_is_none(option: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "-d", "1", *option])
    assert option[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"ensemble": 3}, r"diffusion\.ensemble must have network_class_name, .*; got 3\."),
        ({"ensemble.timesteps": 5}, r"diffusion\.ensemble\.timesteps must be a list of one or more, .*; got 5\."),
        ({"ensemble.timestep": 5}, r"diffusion\.ensemble\.timestep is unknown; did you mean timesteps\?"),
        ({"training.num_epochs.x": 5}, r"diffusion\.training\.num_epochs must be a whole number .*; got \{x: 5\}\."),
    ],
)
def test_options_given_in_code_are_checked_as_those_of_the_command(
    method: dict[str, Any], message: str, dataset: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        plan_by(DiffusionEnsemblePlanner(dataset.name, options=PlanningOptions(method=method)))
    assert not (dataset / PLANS).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpu_memory_target_in_gb": -3}, r"gpu_memory_target_gb must be a number above 0, .*; got -3\."),
        ({"gpu_memory_target_in_gb": 0}, r"gpu_memory_target_gb must be a number above 0, .*; got 0\."),
        ({"overwrite_target_spacing": [1.0, 0.0, 1.0]}, r"target_spacing must be .*; got \[1\.0, 0\.0, 1\.0\]\."),
    ],
)
def test_nnunets_own_command_gets_the_same_checks(arguments: dict[str, Any], message: str, dataset: Path) -> None:
    with pytest.raises(ValueError, match=message):
        DiffusionEnsemblePlanner(dataset.name, **arguments)


def test_a_memory_target_too_low_for_any_patch_comes_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (12, 12, 12), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="memory target is too low for patches of 4 pixels"):
        plan_by(DiffusionEnsemblePlanner(name, gpu_memory_target_in_gb=1e-5))


@pytest.mark.parametrize("steps", [2, 500])
def test_a_process_of_any_length_can_be_planned_with_one_option(steps: int, dataset: Path) -> None:
    assert main(["plan", "-d", "1", "--diffusion-steps", str(steps)]) == 0
    planned = json.loads((dataset / PLANS).read_text())["configurations"]["2d"]
    method = DiffusionMethod.from_plans(planned)
    assert method.denoiser.num_diffusion_steps == steps
    assert max(method.ensemble.timesteps) == round(0.05 * steps)  # 50 of 1000


@pytest.fixture
def edited_plans(dataset: Path) -> Callable[[dict[str, Any]], None]:
    """`edited_plans({"training": {"num_epochs": 2.5}})`: plans of the data set, edited by hand."""

    def edit(changes: dict[str, Any]) -> None:
        plan_by(DiffusionEnsemblePlanner(dataset.name))
        plans = json.loads((dataset / PLANS).read_text())
        method = plans["configurations"]["2d"]["diffusion"]
        for key, value in changes.items():
            method[key] = {**method[key], **value} if isinstance(value, dict) else value
        (dataset / PLANS).write_text(json.dumps(plans))

    return edit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": {"num_epochs": 2.5}},
            "diffusion.training.num_epochs must be a whole number of at least 1; got 2.5",
        ),
        (
            {"mirror_axes": [2]},
            "diffusion.mirror_axes must be below 2, the number of axes of the configuration; got [2]",
        ),
    ],
)
def test_preprocess_refuses_edited_plans_before_anything_is_written(
    changes: dict[str, Any], message: str, edited_plans: Callable, dataset: Path, capsys: pytest.CaptureFixture
) -> None:
    edited_plans(changes)
    before = everything_in(dataset.parents[1])
    assert main(["preprocess", "-d", "1", "-c", "2d"]) == 2
    assert message in capsys.readouterr().err
    assert everything_in(dataset.parents[1]) == before
