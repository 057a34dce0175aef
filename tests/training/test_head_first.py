"""A denoiser that is fine-tuned once the head has learned for some epochs: what learns when, alone and under DDP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from nnunet_diffusion_ensemble.denoiser.pretrained import denoiser_weights, read_pretrained
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer

# Of ten epochs the first three, rounded.
SETTINGS = {"training.fine_tune_denoiser": True, "training.num_epochs": 10, "training.head_first": 0.32}
LEARNS_FROM = 3


@pytest.fixture
def begin(make_trainer: Callable, randomise: Callable) -> Callable[[], Any]:
    def begun() -> Any:
        trainer = make_trainer(DiffusionEnsembleTrainer, SETTINGS, batch_dice=False)
        trainer.initialize()
        randomise(trainer.network)
        return trainer

    return begun


def train(trainer: Any, randn: Callable) -> list[tuple[float, set[str]]]:
    """For each epoch of one step its loss, and the parts whose weights it changed."""
    found = []
    for epoch in range(LEARNS_FROM + 2):
        trainer.current_epoch = epoch
        trainer.on_train_epoch_start()
        before = {name: p.detach().clone() for name, p in trainer.plain_network.named_parameters()}
        images = randn(2, 1, 16, 16)
        loss = float(trainer.train_step({"data": images, "target": (images > 0).to(torch.int16)})["loss"])
        after = dict(trainer.plain_network.named_parameters())
        found.append((loss, {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}))
    return found


def test_the_denoiser_learns_once_its_share_of_the_epochs_is_over(begin: Callable, randn: Callable) -> None:
    changed = [parts for _, parts in train(begin(), randn)]
    assert changed == [{"head"}] * LEARNS_FROM + [{"head", "denoiser"}] * 2


def test_the_parts_of_the_training_are_as_long_as_it_says(begin: Callable, make_trainer: Callable) -> None:
    assert begin().phases == {0: pytest.approx(0.3), LEARNS_FROM: pytest.approx(0.7)}
    for settings in ({"training.fine_tune_denoiser": False}, {"training.head_first": 0.0}):
        assert make_trainer(DiffusionEnsembleTrainer, SETTINGS | settings).phases == {0: 1.0}


def test_until_then_the_denoiser_is_in_eval_mode(begin: Callable) -> None:
    trainer, modes = begin(), []
    for epoch in (0, LEARNS_FROM - 1, LEARNS_FROM):
        trainer.current_epoch = epoch
        trainer.on_train_epoch_start()
        modes.append({module.training for module in trainer.network.denoiser.modules()})
    assert modes == [{False}, {False}, {True}]


def test_the_checkpoint_keeps_what_the_denoiser_was_before(begin: Callable, randn: Callable, tmp_path: Path) -> None:
    trainer = begin()
    trainer.network.denoiser.trained_iterations += 1
    expected = {name: value.clone() for name, value in denoiser_weights(trainer.network.state_dict()).items()}
    trainer.on_train_start()
    train(trainer, randn)
    trainer.save_checkpoint(str(tmp_path / "first.pth"))
    continued = begin()
    continued.load_checkpoint(str(tmp_path / "first.pth"))
    continued.on_train_start()
    continued.save_checkpoint(str(tmp_path / "second.pth"))
    for name in ("first", "second"):
        found = read_pretrained(tmp_path / f"{name}.pth").weights
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    # Two names of nnU-Net's for one convolution stay one tensor.
    convolution = "denoiser.unet.encoder.stem.convs.0."
    kept = trainer.before_fine_tuning
    assert kept[f"{convolution}conv.weight"] is kept[f"{convolution}all_modules.0.weight"]


def test_processes_share_the_gradients_of_what_learns(begin: Callable, randn: Callable) -> None:
    batches = [randn(2, 1, 16, 16) for _ in range(LEARNS_FROM + 2)]

    def losses_of(trainer: Any) -> list[float]:
        remaining = iter(batches)
        return [loss for loss, _ in train(trainer, lambda *size: next(remaining))]

    alone = losses_of(begin())
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        trainer = begin()
        assert isinstance(trainer.network, DistributedDataParallel)
        together = losses_of(trainer)  # DDP fails where a parameter that it waits for had no gradient
    finally:
        dist.destroy_process_group()
    assert together == pytest.approx(alone, rel=1e-5)
