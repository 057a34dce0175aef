"""The student's trainer with a real teacher: what it starts from, what it draws, and what it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import save_cases

from nnunet_diffusion_ensemble.denoiser.folding import folded_weights
from nnunet_diffusion_ensemble.denoiser.noise import fixed_noise
from nnunet_diffusion_ensemble.distillation import trainer as module
from nnunet_diffusion_ensemble.distillation.settings import DistillationSettings
from nnunet_diffusion_ensemble.distillation.teacher import read_teacher
from nnunet_diffusion_ensemble.trainers.distillation_trainer import DistillationTrainer
from nnunet_diffusion_ensemble.trainers.scratch_trainer import ScratchTrainer

UNLABELLED = ("new_0", "new_1")


@pytest.fixture
def make_student(
    make_trainer: Callable, model_folder: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """`make_student(**of model_folder)`: a trainer with two unlabelled images and a teacher with random weights."""

    def make(folds: tuple[int, ...] = (0,), **teacher: Any) -> Any:
        folder = model_folder(folds=folds, **teacher)
        unlabelled = tmp_path / "unlabelled"
        save_cases(unlabelled, UNLABELLED)
        monkeypatch.setattr(module, "preprocess_unlabelled", lambda *arguments: unlabelled)
        settings = DistillationSettings(teacher=str(folder), folds=folds)
        trainer = make_trainer(DistillationTrainer, distillation=settings.to_json())
        trainer.plot_network_architecture = lambda: None
        return trainer

    return make


def started(trainer: Any) -> Any:
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    return trainer


def test_half_of_what_is_drawn_is_unlabelled(make_student: Callable) -> None:
    trainer = started(make_student())
    keys = [case for _ in range(100) for case in next(trainer.dataloader_train)["keys"].tolist()]
    share = np.mean([case in UNLABELLED for case in keys])
    assert share == pytest.approx(0.5, abs=0.15)  # 200 draws: four standard deviations


def test_the_student_starts_as_the_teachers_folded_denoiser(make_student: Callable) -> None:
    trainer = started(make_student())
    expected = folded_weights(trainer.teacher.networks[0].denoiser, 50)
    own = trainer.network.state_dict()
    assert all(torch.equal(own[name], value) for name, value in expected.items())
    assert set(own) - set(expected) == {name for name in own if ".seg_layers." in name}


def test_a_teacher_without_a_denoiser_teaches_from_random_weights(make_student: Callable) -> None:
    trainer = started(make_student(trainer_class=ScratchTrainer))
    assert "The teacher has no denoiser" in Path(trainer.log_file).read_text()


def test_the_teacher_is_the_mean_of_its_folds(make_student: Callable, randn: Callable) -> None:
    teacher = started(make_student(folds=(0, 1))).teacher
    images = randn(2, 1, 16, 16)
    with torch.no_grad():
        of_folds = [network(images).softmax(1) for network in teacher.networks]
    torch.testing.assert_close(teacher(images), (of_folds[0] + of_folds[1]) / 2)
    assert not torch.allclose(of_folds[0], of_folds[1])


def test_a_teacher_reads_only_the_timesteps_that_it_is_asked_for(make_student: Callable, randn: Callable) -> None:
    whole = started(make_student()).teacher.networks[0]
    settings = DistillationSettings.from_plans(make_student().configuration_manager.configuration)
    teacher = read_teacher(settings.model_copy(update={"teacher_timesteps": (400, 1)}))
    images = randn(2, 1, 16, 16)
    noise = fixed_noise(12345, (2, 1, 1, 16, 16))  # of the first and the second timestep, whatever they are
    with torch.no_grad():
        logits = [
            whole.logits(images, noise[i : i + 1], torch.full((1, 2), timestep))[0]
            for i, timestep in enumerate((400, 1))
        ]
    expected = torch.stack([one.softmax(1) for one in logits]).mean(0)
    torch.testing.assert_close(teacher(images), expected)


def test_the_teacher_does_not_change(make_student: Callable) -> None:
    trainer = started(make_student())
    before = {name: value.clone() for name, value in trainer.teacher.state_dict().items()}
    trainer.network.train()
    for _ in range(2):
        trainer.train_step(next(trainer.dataloader_train))
    assert all(torch.equal(before[name], value) for name, value in trainer.teacher.state_dict().items())
    assert not any(part.training for part in trainer.teacher.modules())


def test_unlabelled_images_are_learned_from_the_teacher_and_labelled_ones_are_not(make_student: Callable) -> None:
    trainer = started(make_student())
    seen: list[Any] = []
    trainer.teacher.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    images, target = torch.randn(3, 1, 16, 16), torch.zeros(3, 1, 16, 16, dtype=torch.int16)
    trainer.train_step({"data": images, "target": target, "keys": np.array(["case_0", "new_1", "case_1"])})
    assert len(seen) == 1
    assert torch.equal(seen[0], images[1:2])
    trainer.train_step({"data": images, "target": target, "keys": np.array(["case_0", "case_1", "case_2"])})
    assert len(seen) == 1


def test_the_student_comes_to_agree_with_the_teacher_on_unlabelled_images(make_student: Callable) -> None:
    trainer = started(make_student())
    images, keys = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(3)), np.array(["new_0"] * 4)
    batch = {"data": images, "target": torch.zeros(4, 1, 16, 16, dtype=torch.int16), "keys": keys}
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(40)]
    assert losses[-1] < losses[0] - 0.05


def test_without_unlabelled_images_it_says_so(make_student: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_student()
    monkeypatch.setattr(module, "preprocess_unlabelled", lambda *arguments: Path("missing"))
    with pytest.raises(ValueError, match="imagesUn of the raw data set has no images"):
        trainer.on_train_start()


def test_plans_without_a_teacher_are_refused(make_trainer: Callable) -> None:
    with pytest.raises(ValueError, match="name no teacher"):
        make_trainer(DistillationTrainer).on_train_start()


def test_a_teacher_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone is not a folder of a trained model"):
        read_teacher(DistillationSettings(teacher=str(tmp_path / "gone"), folds=(0,)))
