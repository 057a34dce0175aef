"""The student as nnU-Net's own model, and the plans that it is trained with."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnunet_diffusion_ensemble.distillation.plain_model import plain_plans, write_plain_model
from nnunet_diffusion_ensemble.distillation.plans import labelled_dataset, write_plans
from nnunet_diffusion_ensemble.distillation.settings import DistillationSettings
from nnunet_diffusion_ensemble.trainers.distillation_trainer import DistillationTrainer
from nnunet_diffusion_ensemble.training.self_training import SelfTrainingData

DATASET, NAME = "Dataset001_Made", "nnUNetDiffusionEnsemblePlans"


@pytest.fixture
def trained(model_folder: Callable) -> Path:
    folder = model_folder(trainer_class=DistillationTrainer, folds=(0, 1), distillation={"teacher": "t", "folds": [0]})
    (folder / "dataset_fingerprint.json").write_text("{}")
    for fold in (0, 1):
        file = folder / f"fold_{fold}" / "checkpoint_final.pth"
        checkpoint = torch.load(file, weights_only=False)
        torch.save({"inference_allowed_mirroring_axes": (0,), **checkpoint, "optimizer_state": {}}, file)
    return folder


def test_plans_lose_what_is_of_this_package_and_nothing_else() -> None:
    plans = {"plans_name": "P", "configurations": {"2d": {"spacing": [1], "diffusion": {}, "distillation": {}}}}
    assert plain_plans(plans) == {"plans_name": "P", "configurations": {"2d": {"spacing": [1]}}}
    assert set(plans["configurations"]["2d"]) == {"spacing", "diffusion", "distillation"}


def test_stock_trainers_build_the_network_that_the_weights_fit(trained: Path, tmp_path: Path) -> None:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    output = tmp_path / f"nnUNetTrainer__{NAME}__2d"
    write_plain_model(trained, (0, 1), output)
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(output), (0, 1))
    before = torch.load(trained / "fold_1" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert predictor.trainer_name == "nnUNetTrainer"
    assert all(torch.equal(before[name], value) for name, value in predictor.list_of_parameters[1].items())


def test_a_model_that_cannot_be_written_leaves_the_earlier_one(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "model_of_stock"
    write_plain_model(trained, (0,), output)
    with pytest.raises(FileNotFoundError, match="fold_7"):
        write_plain_model(trained, (0, 7), output)
    assert (output / "fold_0" / "checkpoint_final.pth").is_file()
    assert not (output / "fold_7").exists()


# ---- plans


@pytest.fixture
def teacher(model_folder: Callable, tmp_path: Path) -> Path:
    """Trained on a data set that is preprocessed with its plans."""
    folder = model_folder()
    (tmp_path / "preprocessed" / DATASET / f"{NAME}.json").write_text((folder / "plans.json").read_text())
    return folder


def test_plans_of_the_student_are_the_teachers_and_name_it(teacher: Path, tmp_path: Path) -> None:
    settings = DistillationSettings(teacher=str(teacher), folds=(0,))
    name = write_plans(settings, "2d", DATASET)
    plans = json.loads((tmp_path / "preprocessed" / DATASET / f"{name}.json").read_text())
    before = json.loads((teacher / "plans.json").read_text())
    assert plans["plans_name"] == name == f"{NAME}Distilled"
    assert plans["configurations"]["2d"].pop("distillation") == settings.to_json()
    assert plans["configurations"] == before["configurations"]


def test_settings_come_back_from_the_plans_as_they_were(teacher: Path, tmp_path: Path) -> None:
    settings = DistillationSettings(
        teacher=str(teacher), folds=(0,), true_share=0.2, timestep=9, teacher_timesteps=(1, 400)
    )
    file = tmp_path / "preprocessed" / DATASET / f"{write_plans(settings, '2d', DATASET)}.json"
    assert DistillationSettings.from_plans(json.loads(file.read_text())["configurations"]["2d"]) == settings


def changed(file: Path, **changes: object) -> None:
    plans = json.loads(file.read_text())
    plans["configurations"]["2d"] |= changes
    file.write_text(json.dumps(plans))


def test_images_that_are_preprocessed_otherwise_are_refused(teacher: Path, tmp_path: Path) -> None:
    changed(tmp_path / "preprocessed" / DATASET / f"{NAME}.json", spacing=[2.0, 2.0])
    with pytest.raises(ValueError, match="differs from the teacher's plans in spacing"):
        write_plans(DistillationSettings(teacher=str(teacher), folds=(0,)), "2d", DATASET)


def test_a_data_set_without_the_teachers_plans_is_refused(teacher: Path) -> None:
    with pytest.raises(FileNotFoundError, match="preprocessed as its teacher's"):
        write_plans(DistillationSettings(teacher=str(teacher), folds=(0,)), "2d", "Dataset002_Other")


def test_plans_of_stock_nnunet_are_refused(teacher: Path) -> None:
    plans = json.loads((teacher / "plans.json").read_text())
    del plans["configurations"]["2d"]["diffusion"]
    (teacher / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ValueError, match="not of this package"):
        write_plans(DistillationSettings(teacher=str(teacher), folds=(0,)), "2d", DATASET)


def test_the_student_of_self_training_teaches_on_the_true_labels(teacher: Path, tmp_path: Path) -> None:
    assert labelled_dataset(teacher) == DATASET
    folder = tmp_path / "preprocessed" / DATASET
    SelfTrainingData((), {}, 0.15, "run", "Dataset009_True").write(folder)
    assert labelled_dataset(teacher) == "Dataset009_True"


WRONG = [
    ({"folds": ()}, "folds must be"),
    ({"true_share": 1.0}, "above 0 and below 1"),
    ({"timestep": 1000}, "below 1000"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_settings_that_are_not_allowed_are_named(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationSettings(**{"teacher": "folder", "folds": (0,), **values})


@pytest.mark.parametrize(("timesteps", "said"), [((), "one or more"), ((-1,), "at least 0"), ((1, 5000), "5000")])
def test_timesteps_that_the_teacher_cannot_have_are_refused(
    teacher: Path, timesteps: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        write_plans(DistillationSettings(teacher=str(teacher), folds=(0,), teacher_timesteps=timesteps), "2d", DATASET)


def test_a_teacher_that_averages_over_nothing_has_no_timesteps_to_choose(teacher: Path) -> None:
    plans = json.loads((teacher / "plans.json").read_text())
    plans["configurations"]["2d"]["diffusion"]["ensemble"]["fusion"] = "concatenated_features"
    (teacher / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ValueError, match="does not average over timesteps"):
        write_plans(DistillationSettings(teacher=str(teacher), folds=(0,), teacher_timesteps=(1,)), "2d", DATASET)
