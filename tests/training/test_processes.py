"""Several processes: shares of the batch, seeded noise, and what torchrun must have set."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.torchrun import SET_BY_TORCHRUN, check_start
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.training.processes import (
    BatchShare,
    device_of_process,
    drawn_in_blocks,
    from_first_process,
    seeded_generator,
)


@pytest.mark.parametrize(
    ("batch_size", "starts", "sizes"), [(4, [0, 2], [2, 2]), (5, [0, 2, 4], [2, 2, 1]), (7, [0, 3, 5], [3, 2, 2])]
)
def test_shares_follow_each_other_and_weigh_what_they_hold(batch_size, starts, sizes) -> None:
    shares = [BatchShare.of_process(rank, len(sizes), batch_size) for rank in range(len(sizes))]
    assert [share.start for share in shares] == starts
    assert [share.loss_weight for share in shares] == pytest.approx([n * len(sizes) / batch_size for n in sizes])


@pytest.mark.parametrize(("num_processes", "batch_size"), [(2, 3), (3, 8), (4, 4), (5, 32)])
def test_shares_are_those_that_nnunet_makes(num_processes, batch_size, monkeypatch) -> None:
    sizes = []
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: num_processes)
    for rank in range(num_processes):
        trainer: Any = nnUNetTrainer.__new__(nnUNetTrainer)
        trainer.is_ddp, trainer.oversample_foreground_percent = True, 0.33
        trainer.configuration_manager = type("Configuration", (), {"batch_size": batch_size})
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        trainer._set_batch_size_and_oversample()
        sizes.append(trainer.batch_size)
    shares = [BatchShare.of_process(rank, num_processes, batch_size) for rank in range(num_processes)]
    assert [share.start for share in shares] == [0, *np.cumsum(sizes)[:-1]]
    assert [share.loss_weight * batch_size / num_processes for share in shares] == pytest.approx(sizes)


def test_seeded_numbers_depend_on_every_number_and_their_order() -> None:
    device = torch.device("cpu")
    seeds = [(1, 0, 0), (1, 0, 1), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 0, 0, 1)]
    drawn = [tuple(torch.randn(4, generator=seeded_generator(device, *seed)).tolist()) for seed in seeds]
    assert len(set(drawn)) == len(seeds)
    assert drawn[0] == tuple(torch.randn(4, generator=seeded_generator(device, 1, 0, 0)).tolist())


def draw_normal(generator: torch.Generator, num_images: int) -> torch.Tensor:
    return torch.randn(num_images, 2, 50, generator=generator)


@pytest.mark.parametrize("images", [range(1), range(8), range(3, 9), range(8, 20), range(15, 17)])
def test_images_get_the_same_numbers_whatever_part_of_the_batch_is_drawn(images) -> None:
    device = torch.device("cpu")
    whole = drawn_in_blocks(draw_normal, device, range(20), 3, 1, 0)
    assert torch.equal(drawn_in_blocks(draw_normal, device, images, 3, 1, 0), whole[images.start : images.stop])


def test_every_image_of_every_iteration_gets_numbers_of_its_own() -> None:
    drawn = [
        drawn_in_blocks(draw_normal, torch.device("cpu"), range(20), *n) for n in ((3, 0, 0), (3, 0, 1), (3, 1, 0))
    ]
    correlations = torch.corrcoef(torch.cat(drawn).flatten(1)) - torch.eye(60)
    assert correlations.abs().max() < 0.5  # of 100 numbers each: the standard deviation is 1/10


def test_a_single_process_computes_itself() -> None:
    assert from_first_process(lambda: ["a"]) == ["a"]


def test_the_gpu_is_that_of_the_process_on_its_machine(monkeypatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 5)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert device_of_process("cuda") == torch.device("cuda", 5)  # nnU-Net's -num_gpus
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of_process("cuda") == torch.device("cuda", 1)
    assert device_of_process("cpu") == torch.device("cpu")


@pytest.mark.parametrize("trainer_class", [DiffusionPretrainTrainer, DiffusionEnsembleTrainer])
def test_more_processes_than_images_are_refused(trainer_class, make_trainer: Callable, monkeypatch) -> None:
    trainer = make_trainer(trainer_class, {"pretraining.batch_size": 2}, batch_size=2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    with pytest.raises(ValueError, match="batch of 2 cannot be shared by 3 processes: use fewer"):
        trainer.share_batch()


def test_uneven_shares_are_refused_where_dice_is_computed_over_the_batch(make_trainer: Callable, monkeypatch) -> None:
    trainer = make_trainer(DiffusionEnsembleTrainer, batch_size=3, batch_dice=True)
    trainer.is_ddp = True
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match=r"batch of 3 cannot be shared evenly by 2 processes.*batch_dice"):
        trainer.share_batch()


def test_a_start_without_torchrun_names_the_command() -> None:
    with pytest.raises(ValueError, match=r"RANK, LOCAL_RANK, .* are not set\. Start this with torchrun"):
        check_start({}, [])


def test_nnunet_is_not_to_start_processes_in_those_of_torchrun() -> None:
    environment = dict.fromkeys(SET_BY_TORCHRUN, "1")
    check_start(environment, ["1", "2d", "all"])
    with pytest.raises(ValueError, match="Leave -num_gpus out"):
        check_start(environment, ["1", "2d", "all", "-num_gpus", "2"])
