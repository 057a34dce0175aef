"""Trainings that are killed and continued, and where the denoiser of an ensemble comes from."""

import pytest
import torch
from nnunet_commands import ENSEMBLE, PRETRAIN, change_plans, training
from xray_chain import PLANS, Chain

from nnunet_diffusion_ensemble.denoiser.pretrained import BEFORE_FINE_TUNING

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("registered")]

SHORT = {
    "pretraining.num_epochs": 3,
    "pretraining.num_iterations_per_epoch": 20,
    "pretraining.save_samples_every": 3,
    "training.num_epochs": 3,
    "training.num_iterations_per_epoch": 20,
}


def make_plans(chain: Chain, name: str) -> str:
    """Plans of a short training; under another name, so that no pretrained denoiser is found."""
    change_plans(chain.workplace.plans(PLANS), name, SHORT)
    return name


def checkpoint_of(chain: Chain, trainer: str, plans: str, fold: object, which: str = "final") -> dict:
    file = chain.workplace.trained(trainer, plans) / f"fold_{fold}" / f"checkpoint_{which}.pth"
    return torch.load(file, map_location="cpu", weights_only=False)


def kill_in_the_second_epoch_and_continue(chain: Chain, trainer: str, plans: str, fold: object) -> dict:
    """Returns the final checkpoint, after a look at what was printed."""
    chain.workplace.run_until("Epoch 1", *training(trainer, plans, fold))
    saved = checkpoint_of(chain, trainer, plans, fold, "best")
    assert saved["current_epoch"] == 1
    output = chain.workplace.train(trainer, plans, fold, "--c")
    epochs = [line.split()[-1] for line in output.splitlines() if "Epoch " in line and "time" not in line]
    assert epochs == ["1", "2"]
    final = checkpoint_of(chain, trainer, plans, fold)
    assert final["current_epoch"] == SHORT["pretraining.num_epochs"]
    # What was logged before the kill is kept, and nothing is logged twice.
    assert final["logging"]["train_losses"][0] == saved["logging"]["train_losses"][0]
    assert len(final["logging"]["train_losses"]) == SHORT["pretraining.num_epochs"]
    return final


def test_a_pretraining_killed_in_an_epoch_continues_from_the_last_saved_one(xray_chain):
    final = kill_in_the_second_epoch_and_continue(xray_chain, PRETRAIN, make_plans(xray_chain, "Killed"), 0)
    iterations = SHORT["pretraining.num_epochs"] * SHORT["pretraining.num_iterations_per_epoch"]
    assert final["num_averaged"] == iterations
    assert int(final["network_weights"]["denoiser.trained_iterations"]) == iterations


def test_an_ensemble_killed_in_an_epoch_continues_with_the_same_denoiser(xray_chain):
    plans = make_plans(xray_chain, "KilledEnsemble")
    pretrained = checkpoint_of(xray_chain, PRETRAIN, PLANS, "all")["network_weights"]
    file = xray_chain.workplace.trained(PRETRAIN, PLANS) / "fold_all" / "checkpoint_final.pth"
    change_plans(xray_chain.workplace.plans(plans), plans, {"pretrained_checkpoint": str(file)})
    final = kill_in_the_second_epoch_and_continue(xray_chain, ENSEMBLE, plans, 0)
    for name, weights in pretrained.items():
        torch.testing.assert_close(final[BEFORE_FINE_TUNING][name], weights, rtol=0, atol=0)


def test_an_ensemble_without_a_denoiser_names_the_command_that_makes_one(xray_chain):
    plans = make_plans(xray_chain, "Unpretrained")
    output = xray_chain.workplace.train(ENSEMBLE, plans, 0, fails=True)
    assert f"nnUNetv2_train Dataset001_Lungs 2d all -tr {PRETRAIN} -p {plans}" in output


def test_nnunets_option_for_pretrained_weights_brings_the_denoiser(xray_chain):
    plans = make_plans(xray_chain, "Borrowed")
    change_plans(xray_chain.workplace.plans(plans), plans, {"training.num_epochs": 1})
    file = xray_chain.workplace.trained(PRETRAIN, PLANS) / "fold_all" / "checkpoint_final.pth"
    xray_chain.workplace.train(ENSEMBLE, plans, 0, "-pretrained_weights", file)
    weights = checkpoint_of(xray_chain, ENSEMBLE, plans, 0)[BEFORE_FINE_TUNING]
    for name, expected in checkpoint_of(xray_chain, PRETRAIN, PLANS, "all")["network_weights"].items():
        torch.testing.assert_close(weights[name], expected, rtol=0, atol=0)
