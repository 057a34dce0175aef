"""Every trainer on a GPU: mixed precision, the curve of a CPU, no step that waits for the GPU, DDP with NCCL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed as dist

from nnunet_diffusion_ensemble.trainers import contrastive_trainers, published_trainers
from nnunet_diffusion_ensemble.trainers.contrastive_pretrain_trainers import (
    GlobalContrastivePretrainTrainer,
    GlobalLocalContrastivePretrainTrainer,
)
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.trainers.scratch_trainer import ScratchTrainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]

BOTH = (DiffusionPretrainTrainer, DiffusionEnsembleTrainer)
TRAINERS = (
    *BOTH,
    ScratchTrainer,
    published_trainers.TEDMTrainer,
    published_trainers.LEDMTrainer,
    published_trainers.LEDMeTrainer,
    published_trainers.PDDMTrainer,
    published_trainers.SingleTimestepTrainer,
    GlobalContrastivePretrainTrainer,
    GlobalLocalContrastivePretrainTrainer,
    contrastive_trainers.GlobalContrastiveTrainer,
    contrastive_trainers.GlobalLocalContrastiveTrainer,
)
STEPS = 8


def compute_in(trainer: Any, precision: str) -> None:
    trainer.precision = precision
    trainer.grad_scaler = torch.amp.GradScaler(trainer.device.type) if precision == "float16" else None


def losses_of(trainer: Any, batch: dict[str, Any], number: int = STEPS) -> list[float]:
    return [float(trainer.train_step(batch)["loss"]) for _ in range(number)]


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("trainer_class", TRAINERS)
def test_a_trainer_learns_in_half_precision(trainer_class, precision, start, make_batch) -> None:
    options = {"training.learning_rate": 0.01, "pretraining.learning_rate": 0.01, "contrastive.learning_rate": 0.01}
    trainer = start(trainer_class, "cuda", options)
    compute_in(trainer, precision)
    before = {name: value.detach().clone() for name, value in trainer.network.named_parameters()}
    losses = losses_of(trainer, make_batch(trainer), 20)
    assert np.isfinite(losses).all()
    learning = [name for name, value in trainer.network.named_parameters() if value.requires_grad]
    assert any(not torch.equal(before[name], dict(trainer.network.named_parameters())[name]) for name in learning)
    if precision == "float16":
        assert trainer.grad_scaler.get_scale() > 1  # it was not halved to nothing by overflows


@pytest.mark.parametrize("trainer_class", BOTH)
def test_the_curve_is_that_of_a_cpu_for_the_same_noise(trainer_class, start, make_batch, monkeypatch) -> None:
    curves, calls = {}, []
    for device in ("cpu", "cuda"):
        trainer = start(trainer_class, device, {"training.learning_rate": 0.01})
        compute_in(trainer, "float32")
        if device == "cpu":
            trainer.network.register_forward_pre_hook(lambda _, arguments: calls.append(arguments))
        else:
            recorded = iter([tuple(part.to("cuda") for part in call[1:]) for call in calls])
            name = "_draw_noise_and_timesteps" if trainer_class is DiffusionPretrainTrainer else "noise_and_timesteps"
            monkeypatch.setattr(trainer, name, lambda *_, recorded=recorded: next(recorded))
        curves[device] = losses_of(trainer, make_batch(trainer))
    np.testing.assert_allclose(curves["cuda"], curves["cpu"], rtol=5e-3)


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("trainer_class", [*BOTH, ScratchTrainer, published_trainers.TEDMTrainer])
def test_no_step_waits_for_the_gpu(trainer_class, precision, optimizer, start, make_batch) -> None:
    trainer = start(trainer_class, "cuda", {"training.optimizer": optimizer})
    compute_in(trainer, precision)
    batch = make_batch(trainer)
    losses_of(trainer, batch, 3)  # makes the optimizer's state, and cuDNN choose
    with waiting_is_an_error():
        outputs = [trainer.train_step(batch) for _ in range(3)]
    assert all(output["loss"].isfinite() for output in outputs)


def test_batches_come_in_pinned_memory(start, monkeypatch) -> None:
    trainer = start(DiffusionEnsembleTrainer)
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    loaders = trainer.get_dataloaders()
    try:
        batch = next(loaders[0])
        assert batch["data"].is_pinned()
        assert batch["target"].is_pinned()
    finally:
        for loader in loaders:
            loader._finish()


@pytest.mark.parametrize("trainer_class", BOTH)
def test_one_process_with_nccl_has_the_curve_of_none(trainer_class, start, make_batch, tmp_path) -> None:
    alone = losses_of(start(trainer_class), make_batch(None))
    dist.init_process_group("nccl", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        trainer = start(trainer_class)
        assert isinstance(trainer.network, torch.nn.parallel.DistributedDataParallel)
        together = losses_of(trainer, make_batch(trainer))
    finally:
        dist.destroy_process_group()
    np.testing.assert_allclose(together, alone, rtol=2e-2)  # both in float16


@pytest.mark.parametrize(("trained_on", "continued_on"), [("cuda", "cpu"), ("cpu", "cuda")])
@pytest.mark.parametrize("trainer_class", BOTH)
def test_a_training_continues_on_another_device(
    trainer_class, trained_on, continued_on, start, make_batch, tmp_path
) -> None:
    trainer, batch = start(trainer_class, trained_on), make_batch(None)
    losses_of(trainer, batch)
    file = tmp_path / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(file))
    continued = start(trainer_class, continued_on)
    continued.load_checkpoint(str(file))
    continued.on_train_epoch_start()
    for name, weight in trainer.plain_network.state_dict().items():
        assert torch.equal(weight.cpu(), continued.plain_network.state_dict()[name].cpu()), name
    assert {group["fused"] for group in continued.optimizer.param_groups} == {continued_on == "cuda"}
    assert np.isfinite(losses_of(continued, batch)).all()


def test_a_lack_of_memory_is_told_with_what_to_lower(start, monkeypatch) -> None:
    trainer = start(DiffusionEnsembleTrainer)
    monkeypatch.setattr(trainer, "on_train_start", lambda: torch.empty(10**13, device="cuda"))
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"lower diffusion\.ensemble\.images_per_pass .*torch says"):
        trainer.run_training()
