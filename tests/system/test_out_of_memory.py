"""Errors of a GPU without enough memory say which settings to lower."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.system.out_of_memory import telling_what_to_lower
from nnunet_diffusion_ensemble.trainers.contrastive_pretrain_trainers import GlobalContrastivePretrainTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.trainers.scratch_trainer import ScratchTrainer


def run_out_of_memory(*arguments: Any) -> None:
    raise torch.cuda.OutOfMemoryError("Tried to allocate 2 GiB.")


def test_the_settings_are_named_in_order_with_their_values_and_torchs_own_words() -> None:
    expected = r"lower images_per_pass \(now 8\), then batch_size \(now 2\), or .*torch says: Tried to allocate 2 GiB\."
    with (
        pytest.raises(torch.cuda.OutOfMemoryError, match=expected),
        telling_what_to_lower({"images_per_pass": 8, "batch_size": 2}),
    ):
        run_out_of_memory()


def test_other_errors_pass_unchanged() -> None:
    error = RuntimeError("another")
    with pytest.raises(RuntimeError) as caught, telling_what_to_lower({"batch_size": 2}):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("trainer_class", "expected"),
    [
        (DiffusionPretrainTrainer, r"lower diffusion\.pretraining\.batch_size \(now 3\), then patch_size"),
        (GlobalContrastivePretrainTrainer, r"lower diffusion\.pretraining\.batch_size \(now 3\), then patch_size"),
        (
            DiffusionEnsembleTrainer,
            r"lower diffusion\.ensemble\.images_per_pass \(now 9\), then batch_size \(now 2\), then patch_size",
        ),
        (ScratchTrainer, r"lower batch_size \(now 2\), then patch_size \(now \[16, 16\]\)"),
    ],
)
def test_a_training_names_what_its_memory_depends_on(
    trainer_class: type, expected: str, make_trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(trainer_class, {"ensemble.images_per_pass": 9})
    monkeypatch.setattr(nnUNetTrainer, "run_training", run_out_of_memory)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=expected):
        trainer.run_training()
