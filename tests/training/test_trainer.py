"""What all trainers share: mirroring, one resolution, unwrapping, clipping, nnU-Net's checkpoints."""

from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from nnunet_diffusion_ensemble.training.trainer import DiffusionTrainer


@pytest.fixture
def trainer(make_trainer) -> Any:
    return make_trainer(DiffusionTrainer)


def test_plans_of_another_planner_are_refused(trainer):
    plans = deepcopy(trainer.plans_manager.plans)
    del plans["configurations"]["2d"]["diffusion"]
    with pytest.raises(ValueError, match=r"no 'diffusion' settings.*-pl DiffusionEnsemblePlanner"):
        DiffusionTrainer(plans, "2d", 0, trainer.dataset_json, torch.device("cpu"))


@pytest.mark.parametrize(
    ("mirror_axes", "in_training", "in_prediction"), [(None, (0, 1), (0, 1)), ((1,), (1,), (1,)), ((), (), None)]
)
def test_mirroring_is_nnunets_unless_the_plans_say_otherwise(make_trainer, mirror_axes, in_training, in_prediction):
    trainer = make_trainer(DiffusionTrainer, {"mirror_axes": mirror_axes})
    *_, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert axes == in_training
    assert trainer.inference_allowed_mirroring_axes == in_prediction


def test_rotation_and_patch_are_nnunets_when_mirroring_is_not(make_trainer):
    ours = make_trainer(DiffusionTrainer, {"mirror_axes": ()})
    stock = make_trainer(nnUNetTrainer)
    found, expected = (t.configure_rotation_dummyDA_mirroring_and_inital_patch_size()[:-1] for t in (ours, stock))
    assert str(found) == str(expected)


@pytest.mark.parametrize(("threads", "usable", "expected"), [(8, {0, 5}, 2), (1, {0, 5}, 1), (4, {1, 2, 3, 6}, 4)])
def test_on_a_cpu_there_are_no_more_threads_than_cores_that_may_be_used(
    threads, usable, expected, trainer, monkeypatch
):
    chosen = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: usable, raising=False)
    trainer.initialize()
    assert chosen == [expected]


def test_targets_are_at_one_resolution_only(trainer):
    assert trainer._get_deep_supervision_scales() is None
    trainer.set_deep_supervision_enabled(True)  # nnU-Net calls this, and our networks have no such switch


def test_plain_network_is_the_network_without_the_wrapper_of_torch_compile(trainer):
    network = torch.nn.Linear(1, 1)
    trainer.network = torch.compile(network, backend="eager")
    assert trainer.plain_network is network


def test_plain_network_is_the_network_without_the_wrapper_of_ddp(trainer):
    network = torch.nn.Linear(1, 1)
    wrapper = DistributedDataParallel.__new__(DistributedDataParallel)
    torch.nn.Module.__init__(wrapper)
    wrapper.module = network
    trainer.network, trainer.is_ddp = wrapper, True
    assert trainer.plain_network is network


def test_on_the_cpu_nothing_is_computed_in_half_precision(trainer):
    assert isinstance(trainer.autocast(), nullcontext)
    assert trainer.grad_scaler is None


@pytest.mark.parametrize(("limit", "expected"), [(1.0, 0.6), (100.0, 3.0)])
def test_gradients_are_clipped_by_their_norm_over_all_parameters(trainer, limit, expected):
    # Gradients 3 and 4 have norm 5: clipped to 1 they are 0.6 and 0.8.
    trainer.network = torch.nn.ParameterList([torch.zeros(1), torch.zeros(1)])
    trainer.optimizer, trainer.gradient_clip = torch.optim.SGD(trainer.network.parameters(), 1.0), limit
    trainer.backward(3 * trainer.network[0].sum() + 4 * trainer.network[1].sum())
    trainer.clip_and_step()
    values = [parameter.item() for parameter in trainer.network]
    assert values == pytest.approx([-expected, -expected * 4 / 3], rel=1e-4)


def test_scaled_losses_give_the_step_of_unscaled_ones(trainer):
    trainer.network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(trainer.network.weight, 2.0)
    trainer.optimizer = torch.optim.SGD(trainer.network.parameters(), 0.5)
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.backward(functional.mse_loss(trainer.network(torch.ones(1, 1)), torch.ones(1, 1)))
    trainer.clip_and_step()
    assert trainer.network.weight.item() == pytest.approx(1.0)  # the gradient is 2 (2 - 1), half of it is 1


def test_a_checkpoint_is_nnunets_own(trainer, tmp_path: Path):
    trainer.initialize()
    file = tmp_path / "checkpoint_final.pth"
    trainer.save_checkpoint(str(file))
    checkpoint = torch.load(file, weights_only=False)
    assert checkpoint["trainer_name"] == "DiffusionTrainer"
    assert checkpoint["network_weights"].keys() == trainer.network.state_dict().keys()
    assert not list(tmp_path.glob("*.partial"))
