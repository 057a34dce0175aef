"""What fine-tuning after contrastive pretraining, and its second stage, start from; and the U-Net from scratch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.trainers.contrastive_pretrain_trainers import (
    GlobalContrastivePretrainTrainer,
    GlobalLocalContrastivePretrainTrainer,
)
from nnunet_diffusion_ensemble.trainers.contrastive_trainers import (
    GlobalContrastiveTrainer,
    GlobalLocalContrastiveTrainer,
)
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.trainers.scratch_trainer import ScratchTrainer
from nnunet_diffusion_ensemble.training.processes import BatchShare

ENCODER, DECODER = ("encoder.", "decoder.encoder."), ("decoder.stages.0.", "decoder.transpconvs.0.")
PRETRAINING = {
    GlobalContrastiveTrainer: (GlobalContrastivePretrainTrainer, ENCODER),
    GlobalLocalContrastiveTrainer: (GlobalLocalContrastivePretrainTrainer, ENCODER + DECODER),
    GlobalLocalContrastivePretrainTrainer: (GlobalContrastivePretrainTrainer, ENCODER),
}
ALL = pytest.mark.parametrize("trainer_class", PRETRAINING)
BOTH = pytest.mark.parametrize("trainer_class", [GlobalContrastiveTrainer, GlobalLocalContrastiveTrainer])


@pytest.fixture(autouse=True)
def without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's start of a training wants the files of a real data set."""
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)


@pytest.fixture
def pretrained(make_trainer: Callable, randomise: Callable) -> Callable[..., Path]:
    """The finished result of a pretraining, with random weights."""

    def made(trainer_class: type, **arguments: Any) -> Path:
        trainer = make_trainer(trainer_class, fold="all", **arguments)
        trainer.initialize()
        randomise(trainer.network, seed=7)
        file = Path(trainer.output_folder) / "checkpoint_final.pth"
        trainer.save_checkpoint(str(file))
        return file

    return made


def weights_in(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=False)["network_weights"]


def loaded_at_the_start(trainer: Any, weights: dict[str, torch.Tensor]) -> set[str]:
    """Names of what the start of the training changes, all of which it has from the weights."""
    trainer.initialize()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.on_train_start()
    after = trainer.network.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert all(torch.equal(after[name], weights[name]) for name in changed)
    return changed


# ---- what is loaded


@ALL
def test_exactly_the_pretrained_weights_are_loaded(make_trainer, pretrained, trainer_class):
    pretraining, prefixes = PRETRAINING[trainer_class]
    weights = weights_in(pretrained(pretraining))
    expected = {name for name in weights if name.startswith(prefixes)}
    assert len(expected) > 20
    assert loaded_at_the_start(make_trainer(trainer_class), weights) == expected


def test_the_stages_are_those_that_were_pretrained_whatever_the_plans_say_now(make_trainer, pretrained):
    file = pretrained(GlobalLocalContrastivePretrainTrainer, options={"contrastive.num_decoder_stages": 2})
    trainer = make_trainer(GlobalLocalContrastiveTrainer, {"contrastive.num_decoder_stages": 1})
    loaded = loaded_at_the_start(trainer, weights_in(file))
    assert {name.split(".")[2] for name in loaded if name.startswith("decoder.stages.")} == {"0", "1"}


def test_the_encoder_alone_is_taken_from_a_file_that_the_plans_name(make_trainer, pretrained, tmp_path):
    file = pretrained(GlobalLocalContrastivePretrainTrainer).rename(tmp_path / "named.pth")
    trainer = make_trainer(GlobalContrastiveTrainer, {"contrastive.pretrained_checkpoint": str(file)})
    loaded = loaded_at_the_start(trainer, weights_in(file))
    assert loaded and all(name.startswith(ENCODER) for name in loaded)
    assert f"Pretrained weights: {file} (encoder.)" in Path(trainer.log_file).read_text()


@ALL
def test_nnunets_own_option_is_not_overruled_at_the_start(make_trainer, pretrained, trainer_class, tmp_path):
    pretraining, prefixes = PRETRAINING[trainer_class]
    file = pretrained(pretraining).rename(tmp_path / "elsewhere.pth")  # so that nothing else is found
    trainer = make_trainer(trainer_class)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(file))
    trainer.on_train_start()
    own, weights = trainer.network.state_dict(), weights_in(file)
    assert all(torch.equal(own[name], value) for name, value in weights.items() if name.startswith(prefixes))


@ALL
def test_a_training_that_is_continued_keeps_its_weights(make_trainer, randomise, trainer_class, tmp_path):
    trainer, continued = make_trainer(trainer_class), make_trainer(trainer_class)
    trainer.initialize()
    randomise(trainer.network)
    trainer.save_checkpoint(str(tmp_path / "saved.pth"))
    continued.load_checkpoint(str(tmp_path / "saved.pth"))
    continued.on_train_start()  # finds no pretraining
    expected = trainer.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in continued.network.state_dict().items())


# ---- what is refused


@ALL
def test_without_a_pretraining_training_stops_and_names_the_command(make_trainer, trainer_class):
    name = PRETRAINING[trainer_class][0].__name__
    command = f"nnUNetv2_train Dataset001_Made 2d all -tr {name} -p nnUNetDiffusionEnsemblePlans"
    with pytest.raises(FileNotFoundError, match=f"No pretrained encoder(.|\n)*{command}\n"):
        make_trainer(trainer_class).on_train_start()


def test_a_pretraining_that_has_not_finished_is_named(make_trainer, pretrained):
    file = pretrained(GlobalContrastivePretrainTrainer)
    file.rename(file.with_name("checkpoint_latest.pth"))
    with pytest.raises(FileNotFoundError, match=r"has not finished; there is only .*latest\.pth(.|\n)*--c"):
        make_trainer(GlobalContrastiveTrainer).on_train_start()


@BOTH
def test_a_file_that_the_plans_name_and_that_is_not_there_is_named(make_trainer, trainer_class):
    trainer = make_trainer(trainer_class, {"contrastive.pretrained_checkpoint": "/gone.pth"})
    with pytest.raises(FileNotFoundError, match=r"name /gone\.pth as contrastive\.pretrained_checkpoint: no such file"):
        trainer.on_train_start()


@pytest.mark.parametrize(
    ("trainer_class", "pretraining", "message"),
    [
        (GlobalContrastiveTrainer, DiffusionPretrainTrainer, "no encoder .* by DiffusionPretrainTrainer. Name a"),
        (GlobalLocalContrastiveTrainer, DiffusionPretrainTrainer, "no encoder .* checkpoint of GlobalLocalContr"),
        (GlobalLocalContrastiveTrainer, GlobalContrastivePretrainTrainer, "no decoder .* by GlobalContrastivePre"),
    ],
)
def test_a_checkpoint_without_the_weights_is_refused(make_trainer, pretrained, trainer_class, pretraining, message):
    trainer = make_trainer(trainer_class, {"contrastive.pretrained_checkpoint": str(pretrained(pretraining))})
    with pytest.raises(ValueError, match=message):
        trainer.on_train_start()


@BOTH
def test_weights_of_another_topology_are_refused_and_change_nothing(
    make_trainer, pretrained, architecture, trainer_class
):
    pretrained(PRETRAINING[trainer_class][0], architecture=architecture("2d", features_per_stage=[3, 4, 5]))
    trainer = make_trainer(trainer_class)
    trainer.initialize()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    with pytest.raises(ValueError, match=r"do not fit this network:\n.*\(3, .* in the checkpoint, \(2, .*(.|\n)*these"):
        trainer.on_train_start()
    assert all(torch.equal(value, before[name]) for name, value in trainer.network.state_dict().items())


# ---- the U-Net itself


@pytest.fixture
def started(make_trainer, randomise):
    """Trainers with random weights, the same for the same arguments, at the start of an epoch."""

    def start(trainer_class: type = ScratchTrainer, options: dict | None = None, **arguments: Any) -> Any:
        trainer = make_trainer(trainer_class, options, **arguments)
        trainer.initialize()
        randomise(trainer.network)
        trainer.on_train_epoch_start()
        return trainer

    return start


@pytest.fixture
def batch(randn) -> dict:
    data = randn(2, 1, 16, 16)
    return {"data": data, "target": (data > 0.5).to(torch.int16)}


@pytest.mark.parametrize("trainer_class", [ScratchTrainer, GlobalContrastiveTrainer, GlobalLocalContrastiveTrainer])
def test_the_network_is_the_plans_unet_with_one_output_of_full_size(started, randn, trainer_class):
    network = started(trainer_class).network
    assert type(network) is ResidualEncoderUNet
    assert network(randn(2, 1, 16, 16)).shape == (2, 2, 16, 16)


def test_length_and_optimizer_are_those_of_the_plans(started):
    settings = {"num_epochs": 7, "num_iterations_per_epoch": 6, "learning_rate": 0.25, "optimizer": "SGD"}
    trainer = started(options={f"training.{name}": value for name, value in settings.items()})
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.initial_lr) == (7, 6, 0.25)
    assert isinstance(trainer.optimizer, torch.optim.SGD)


def test_augmentation_is_nnunets_own(make_trainer: Callable):
    arguments = ((16, 16), (-1.0, 1.0), None, (0, 1), False)
    ours = make_trainer(ScratchTrainer).get_training_transforms(*arguments)
    assert str(ours) == str(nnUNetTrainer.get_training_transforms(*arguments))


@pytest.mark.parametrize("loss_weight", [1.0, 1.5])
def test_loss_is_nnunets_weighted_by_the_share_of_the_batch(started, batch, loss_weight):
    trainer, same = started(), started()
    trainer.share = BatchShare(0, loss_weight)
    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    with torch.no_grad():
        logits = same.network(batch["data"])
        expected = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)(logits, batch["target"])
    assert trainer.train_step(batch)["loss"] == pytest.approx(loss_weight * expected.item(), rel=1e-5)


def test_fine_tuning_trains_every_weight(started, batch):
    trainer = started(GlobalLocalContrastiveTrainer)
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters() if name.endswith(".weight")}
    trainer.train_step(batch)
    after = dict(trainer.network.named_parameters())
    unchanged = {name for name, value in before.items() if torch.equal(after[name], value)}
    assert unchanged == {"decoder.seg_layers.0.weight"}  # of deep supervision, which is off


def test_loss_falls_when_one_batch_is_seen_again_and_again(started, batch):
    trainer = started(options={"training.learning_rate": 0.01})
    losses = [trainer.train_step(batch)["loss"] for _ in range(20)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
