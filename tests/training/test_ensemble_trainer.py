"""Training of the head: what it starts from, the loss, validation, and what prediction needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

LINEAR_HEAD = {"ensemble.head.hidden_features": ()}  # without batch norm, whose statistics are those of a pass


@pytest.fixture
def batch(randn) -> dict:
    target = torch.zeros(2, 1, 16, 16)
    target[0, :, 4:11, 3:9] = 1
    target[1, :, 1:4, 2:16] = 1
    return {"data": randn(2, 1, 16, 16), "target": target}


def timesteps_of(trainer: Any) -> torch.Tensor:
    """(timesteps, N): all of the plans for both images."""
    return trainer.network.timesteps[:, None].expand(-1, 2)


@pytest.fixture
def checkpoint(make_trainer, tmp_path: Path) -> Path:
    """A checkpoint of the pretraining, where a user might keep it."""
    trainer = make_trainer(DiffusionPretrainTrainer)
    trainer.initialize()
    trainer.network.denoiser.trained_iterations.fill_(70)
    trainer.averaged.update_parameters(trainer.network)
    trainer.save_checkpoint(str(tmp_path / "pretrained.pth"))
    return tmp_path / "pretrained.pth"


# ---- start


def test_the_denoiser_that_the_plans_name_is_loaded_at_the_start(make_trainer, checkpoint, monkeypatch):
    trainer = make_trainer(DiffusionEnsembleTrainer, {"pretrained_checkpoint": str(checkpoint)})
    monkeypatch.setattr("nnunet_diffusion_ensemble.training.trainer.nnUNetTrainer.on_train_start", lambda self: None)
    trainer.on_train_start()
    weights = torch.load(checkpoint, weights_only=False)["network_weights"]
    loaded = trainer.network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())


def test_weights_of_nnunets_own_option_are_not_replaced_at_the_start(make_trainer, checkpoint, monkeypatch):
    trainer = make_trainer(DiffusionEnsembleTrainer)  # no denoiser is to be found
    monkeypatch.setattr("nnunet_diffusion_ensemble.training.trainer.nnUNetTrainer.on_train_start", lambda self: None)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(checkpoint))
    trainer.on_train_start()
    assert trainer.network.denoiser.trained_iterations == 70


def test_a_named_denoiser_of_other_channels_is_adapted_and_that_is_logged(make_trainer, checkpoint, monkeypatch):
    trainer = make_trainer(DiffusionEnsembleTrainer, {"pretrained_checkpoint": str(checkpoint)})
    trainer.dataset_json["channel_names"] = {"0": "T1", "1": "T2"}
    trainer.configuration_manager.configuration["normalization_schemes"] = ["ZScoreNormalization"] * 2
    monkeypatch.setattr("nnunet_diffusion_ensemble.training.trainer.nnUNetTrainer.on_train_start", lambda self: None)
    trainer.on_train_start()
    (log,) = Path(trainer.output_folder).glob("training_log_*.txt")
    assert "1 channel(s), these have 2" in log.read_text()
    weights = torch.load(checkpoint, weights_only=False)["network_weights"]
    name = "denoiser.unet.encoder.stem.convs.0.conv.weight"
    torch.testing.assert_close(trainer.network.state_dict()[name], weights[name].repeat(1, 2, 1, 1) / 2)


def test_plans_of_a_data_set_without_labels_are_refused(make_trainer):
    with pytest.raises(ValueError, match=r"Dataset001_Made has no labels.*plan -d ID --denoiser"):
        make_trainer(DiffusionEnsembleTrainer, labels={"background": 0})


def test_a_network_that_cannot_be_imported_is_named(make_trainer):
    trainer = make_trainer(DiffusionEnsembleTrainer, {"ensemble.network_class_name": "nowhere.Network"})
    with pytest.raises(ValueError, match=r"'nowhere\.Network', which cannot be imported"):
        trainer.initialize()


def test_length_and_learning_rate_are_those_of_the_plans(make_trainer):
    settings = {"num_epochs": 7, "num_iterations_per_epoch": 6, "num_val_iterations_per_epoch": 5}
    rates = {"learning_rate": 0.25, "weight_decay": 0.125}
    trainer = make_trainer(DiffusionEnsembleTrainer, {f"training.{k}": v for k, v in (settings | rates).items()})
    assert {name: getattr(trainer, name) for name in settings} == settings
    assert (trainer.initial_lr, trainer.weight_decay) == (0.25, 0.125)


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_the_optimizer_of_the_plans_trains_the_head_and_nothing_else(start_ensemble, name):
    trainer = start_ensemble({"training.optimizer": name, "training.weight_decay": 0.125})
    (group,) = trainer.optimizer.param_groups
    assert type(trainer.optimizer).__name__ == name
    assert group["weight_decay"] == 0.125
    assert {id(p) for p in group["params"]} == {id(p) for p in trainer.network.head.parameters()}


def test_learning_rate_falls_by_nnunets_polynomial(start_ensemble):
    trainer = start_ensemble({"training.num_epochs": 10, "training.learning_rate": 1e-3}, epoch=5)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.5**0.9)


# ---- steps


def test_loss_is_the_mean_of_nnunets_loss_over_the_timesteps(start_ensemble, batch, inputs_of):
    # Passes of 2 and 1 timesteps; the second has the weights that the first starts with.
    trainer, same = (start_ensemble({**LINEAR_HEAD, "ensemble.images_per_pass": 4}) for _ in range(2))
    calls = inputs_of(trainer.network)
    found = trainer.train_step(batch)["loss"]
    noise = torch.cat([arguments[1] for arguments in calls])
    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
    with torch.no_grad():
        predictions = same.network(batch["data"], noise, timesteps_of(same))
        expected = np.mean([loss(logits, batch["target"]).item() for logits in predictions])
    assert found == pytest.approx(expected, rel=1e-4)


def test_loss_falls_when_one_batch_is_seen_again_and_again(start_ensemble, batch):
    trainer = start_ensemble({"training.learning_rate": 0.05})
    losses = [trainer.train_step(batch)["loss"] for _ in range(20)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1


def test_regions_are_trained_and_validated_with_one_channel_each(start_ensemble, randn):
    labels = {"background": 0, "whole": [1, 2], "part": [2]}
    trainer = start_ensemble({"ensemble.averaging": "sigmoid"}, labels=labels)
    batch = {"data": randn(2, 1, 16, 16), "target": (randn(2, 2, 16, 16) > 0).float()}
    assert np.isfinite(trainer.train_step(batch)["loss"])
    assert trainer.validation_step(batch)["tp_hard"].shape == (2,)


def test_an_ignored_pixel_adds_nothing_to_the_loss(start_ensemble, batch, inputs_of):
    labels = {"background": 0, "organ": 1, "ignore": 2}
    trainers = [start_ensemble(LINEAR_HEAD, labels=labels) for _ in range(2)]
    batch["target"][:, :, :, 12:] = 2
    parameters_before = [p.clone() for p in trainers[0].network.head.parameters()]
    assert len(parameters_before[-1]) == 2  # no channel for the ignored
    calls = inputs_of(trainers[0].network)
    loss = trainers[0].train_step(batch)["loss"]
    known = batch["target"][..., :12]
    ((_, noise, timesteps),) = calls
    with torch.no_grad():
        logits = trainers[1].network(batch["data"], noise, timesteps)[..., :12]
        stock = trainers[1].loss
        expected = np.mean([stock(one, known).item() for one in logits])
    assert loss == pytest.approx(expected, rel=1e-4)


def test_pseudo_dice_is_that_of_the_ensembles_prediction(start_ensemble, batch):
    trainer = start_ensemble()
    trainer.network.eval()
    with torch.no_grad():
        predicted = trainer.network.timestep_logits(batch["data"]).softmax(2).mean(0).argmax(1)
        found = trainer.validation_step(batch)
    truth = batch["target"][:, 0] == 1
    counts = [(predicted == 1) & truth, (predicted == 1) & ~truth, (predicted == 0) & truth]
    expected = [int(count.sum()) for count in counts]
    assert [int(found[name].item()) for name in ("tp_hard", "fp_hard", "fn_hard")] == expected


# ---- checkpoints


def test_the_checkpoint_alone_holds_what_prediction_needs(start_ensemble, randn, tmp_path):
    trainer, images = start_ensemble(), randn(2, 1, 16, 16)
    trainer.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    checkpoint = torch.load(tmp_path / "checkpoint_final.pth", weights_only=False)
    manager, configuration = trainer.plans_manager, trainer.configuration_manager
    network = DiffusionEnsembleTrainer.build_network_architecture(manager, configuration, 1, 2, False)
    network.load_state_dict(checkpoint["network_weights"])
    with torch.no_grad():
        assert torch.equal(network.eval()(images), trainer.network.eval()(images))
