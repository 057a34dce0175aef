"""Training in the precision that the plans name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

PRECISION = pytest.mark.parametrize(
    ("trainer_class", "setting"),
    [(DiffusionPretrainTrainer, "pretraining.precision"), (DiffusionEnsembleTrainer, "training.precision")],
)


@PRECISION
def test_the_loss_in_bfloat16_is_close_to_that_in_float32(
    trainer_class: type, setting: str, make_trainer: Callable, randomise: Callable, randn: Callable
) -> None:
    def started(*arguments: Any) -> Any:
        trainer = make_trainer(*arguments)
        trainer.initialize()
        randomise(trainer.network)
        trainer.on_train_epoch_start()
        return trainer

    data = randn(2, 1, 16, 16)
    batch = {"data": data, "target": (data > 0.5).to(torch.int16)}
    exact = started(trainer_class).train_step(batch)["loss"]
    rounded = started(trainer_class, {setting: "bfloat16"}).train_step(batch)["loss"]
    assert rounded.dtype == torch.float32
    assert rounded != exact  # otherwise nothing was rounded
    assert rounded.item() == pytest.approx(exact.item(), rel=0.03)


@PRECISION
@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize(
    ("precision", "is_scaled"), [(None, True), ("float16", True), ("bfloat16", False), ("float32", False)]
)
def test_on_cuda_losses_are_scaled_for_float16_only(
    trainer_class: type, setting: str, precision: str | None, is_scaled: bool, make_trainer: Callable
) -> None:
    def on_cuda(*arguments: Any) -> Any:
        return trainer_class(*arguments[:-1], torch.device("cuda"))

    trainer = make_trainer(on_cuda, {setting: precision})
    assert (trainer.grad_scaler is not None) is is_scaled
