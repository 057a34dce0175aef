"""Trained models of a benchmark: which can be tested, and what is wrong with others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_inputs import make_spec
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.benchmark.models import Run, check_models, what_hinders
from nnunet_diffusion_ensemble.benchmark.problems import Problem
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec

DOMAIN = {"name": "north", "role": "source", "images": "images", "references": "references"}


def spec_of(tmp_path: Path, *folders: Path, **model: Any) -> BenchmarkSpec:
    models = [{"name": folder.name, "folder": folder, "seeds": {0: (0,)}} | model for folder in folders]
    return make_spec(tmp_path / "out", models, [DOMAIN])


def change_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_checkpoint(folder: Path, **values: Any) -> None:
    file = folder / "fold_0" / "checkpoint_final.pth"
    torch.save(torch.load(file, weights_only=False) | values, file)


def truncate(folder: Path) -> None:
    file = folder / "fold_0" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:1000])


def make_cascade(folder: Path) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["2d"]["previous_stage"] = "3d_lowres"
    (folder / "plans.json").write_text(json.dumps(plans))


def all_checked(spec: BenchmarkSpec) -> tuple[list[Run], list[Problem]]:
    """Runs that can predict, and what is wrong with the others."""
    runs, problems = check_models(spec)
    hindered = [what_hinders(run) for run in runs]
    return [run for run, problem in zip(runs, hindered, strict=True) if problem is None], problems + [
        problem for problem in hindered if problem
    ]


def test_every_seed_of_a_good_model_is_a_run_of_its_own(model_folder: Callable, tmp_path: Path) -> None:
    folder = model_folder(nnUNetTrainer, folds=(0, 1, "all"))
    spec = spec_of(tmp_path, folder, seeds={3: (0, 1), 5: ("all",)}, labelled_cases=6)
    runs, problems = all_checked(spec)
    assert problems == []
    assert [(run.seed, run.settings.folds) for run in runs] == [(3, (0, 1)), (5, ("all",))]
    assert runs[0].title == "model with 6 labelled case(s), seed 3"
    assert [str(file.relative_to(folder)) for file in runs[1].files] == [
        "plans.json",
        "dataset.json",
        "fold_all/checkpoint_final.pth",
    ]


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "is not a folder of a trained model: it has no plans.json"),
    "no dataset.json": (lambda folder: (folder / "dataset.json").unlink(), "it has no dataset.json"),
    "damaged plans": (lambda folder: (folder / "plans.json").write_text('{"a":'), r"plans\.json is not JSON"),
    "plans of something else": (lambda folder: (folder / "plans.json").write_text("{}"), "seed 0: "),
    "no labels": (lambda folder: (folder / "dataset.json").write_text("{}"), "lacks labels, file_ending"),
    "no fold": (lambda folder: shutil.rmtree(folder / "fold_0"), r"There is no .*fold_0.*; there is none"),
    "a truncated checkpoint": (truncate, r"checkpoint_final\.pth.*truncated"),
    "a pretraining": (
        lambda folder: change_checkpoint(folder, trainer_name="DiffusionPretrainTrainer"),
        "DiffusionPretrainTrainer trains no segmentation",
    ),
    "an unknown trainer": (lambda folder: change_checkpoint(folder, trainer_name="NoTrainer"), "NoTrainer"),
    "another configuration": (
        lambda folder: change_checkpoint(folder, init_args={"configuration": "3d_fullres"}),
        "has no configuration 3d_fullres, as the checkpoint has",
    ),
    "a cascade": (make_cascade, "is a cascade"),
    "a reader that reorients": (
        lambda folder: change_json(folder / "plans.json", image_reader_writer="NibabelIOWithReorient"),
        "reads images with NibabelIOWithReorient",
    ),
    "other labels": (
        lambda folder: change_json(folder / "dataset.json", labels={"background": 0, "lung": 1}),
        "another data set: its labels are background = 0, lung = 1, those of good, seed 0 background = 0, organ = 1",
    ),
    "regions": (
        lambda folder: change_json(folder / "dataset.json", labels={"background": 0, "organ": [1]}),
        r"its labels are background = 0, organ = \[1\], those of good",
    ),
    "more channels": (
        lambda folder: change_json(folder / "dataset.json", channel_names={"0": "T1", "1": "T2"}),
        "its channels are T1, T2, those of good, seed 0 1 of any name",
    ),
    "another kind of file": (
        lambda folder: change_json(folder / "dataset.json", file_ending=".png"),
        r"its names of files are CASE\.png, those of good, seed 0 CASE\.nii\.gz",
    ),
}


@pytest.fixture
def pair_of_models(model_folder: Callable, tmp_path: Path) -> tuple[Path, Path]:
    good = model_folder(nnUNetTrainer, name="good")
    shutil.copytree(good, tmp_path / "bad")
    return good, tmp_path / "bad"


SLOW = "an unknown trainer"  # nnU-Net imports all of its own in search of it


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.slow] * (what == SLOW)) for what in sorted(BROKEN)]
)
def test_a_model_that_cannot_be_tested_is_named_and_the_other_stays(
    what: str, pair_of_models: tuple[Path, Path], tmp_path: Path
) -> None:
    good, bad = pair_of_models
    change, message = BROKEN[what]
    change(bad)
    runs, (problem,) = all_checked(spec_of(tmp_path, good, bad))
    assert [run.model.name for run in runs] == ["good"]
    assert problem.model == "bad" and problem.problem.startswith("seed 0: ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(problem.problem)


def test_a_seed_that_is_not_trained_leaves_the_others(model_folder: Callable, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, model_folder(nnUNetTrainer), seeds={0: (0,), 1: (1,)}, labelled_cases=3)
    runs, (problem,) = all_checked(spec)
    assert [run.seed for run in runs] == [0]
    assert problem.problem.startswith("3 labelled case(s), seed 1: There is no ")


def test_the_name_of_a_single_channel_does_not_matter(pair_of_models: tuple[Path, Path], tmp_path: Path) -> None:
    change_json(pair_of_models[1] / "dataset.json", channel_names={"0": "other"})
    runs, problems = all_checked(spec_of(tmp_path, *pair_of_models))
    assert len(runs) == 2 and not problems


def test_a_device_that_is_not_there_is_an_error_in_any_case(model_folder: Callable, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, model_folder(nnUNetTrainer)).model_copy(update={"device": "mps", "on_problem": "skip"})
    if torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(ValueError, match=r"device must be a device that is here: cpu.*; got 'mps'"):
        check_models(spec)
