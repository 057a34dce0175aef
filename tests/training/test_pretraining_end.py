"""What pretraining does at the end of an epoch, of its time and of all; and its precision."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.training import denoising
from nnunet_diffusion_ensemble.training.held_out import random_patches
from nnunet_diffusion_ensemble.training.log import HeldOutLossLogger


def run_epoch(trainer: DiffusionPretrainTrainer, held_out_loss: float) -> set[str]:
    """An epoch with a given held-out loss; names of the files that its end writes anew."""
    trainer.logger.plot_progress_png = lambda folder: None  # takes a second, and is tested by itself
    for file in Path(trainer.output_folder).glob("*.p*"):
        file.unlink()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([{"loss": torch.tensor(1.0)}])
    losses = np.full((2, 5), held_out_loss)
    trainer.on_validation_epoch_end([{"losses": losses, "weighted": losses}])
    trainer.on_epoch_end()
    return {file.name for file in Path(trainer.output_folder).glob("*.p*")}


# ---- end of an epoch


def test_the_best_checkpoint_is_that_of_the_lowest_held_out_loss(started):
    trainer = started({"pretraining.num_epochs": 5, "pretraining.save_samples_every": 100})
    written = [run_epoch(trainer, loss) for loss in (0.5, 0.7, 0.5, 0.4)]
    assert written == [{"checkpoint_best.pth"}, set(), set(), {"checkpoint_best.pth"}]
    assert trainer.current_epoch == 4


def test_samples_are_drawn_every_few_epochs_and_at_the_last(started):
    trainer = started({"pretraining.num_epochs": 3, "pretraining.save_samples_every": 2})
    written = [{name for name in run_epoch(trainer, 0.5) if "samples" in name} for _ in range(3)]
    assert written == [set(), {"samples_epoch_2.png"}, {"samples_epoch_3.png"}]


def test_the_latest_state_is_kept_every_few_epochs_but_not_beside_the_final_one(started):
    trainer = started({"pretraining.num_epochs": 4, "pretraining.save_samples_every": 100})
    trainer.save_every = 2
    written = [{name for name in run_epoch(trainer, 0.5) if "latest" in name} for _ in range(4)]
    assert written == [set(), {"checkpoint_latest.pth"}, set(), set()]


def log_of(trainer: DiffusionPretrainTrainer) -> str:
    return Path(trainer.log_file).read_text()


def test_instead_of_a_validation_samples_are_drawn_and_compared(make_pretraining):
    trainer = make_pretraining(6, {"pretraining.validation_fraction": 0.3})
    trainer.initialize()
    trainer.perform_actual_validation()
    assert (Path(trainer.output_folder) / "samples.png").is_file()
    assert not (Path(trainer.output_folder) / "validation").exists()
    # Four labelled cases and six unlabelled images; two of these, and one case, are held out.
    assert "Memorisation check: the nearest of 8 training images is" in log_of(trainer)
    assert "95% of 3 held-out images" in log_of(trainer)


def test_samples_that_are_training_images_are_at_no_distance(make_pretraining, monkeypatch):
    trainer = make_pretraining()
    trainer.initialize()
    trainer.get_tr_and_val_datasets()
    patch = next(random_patches(trainer.training_images, (16, 16), 0))[:2]
    mirrored = patch.flip(-1)  # as this training's augmentation does
    monkeypatch.setattr(denoising, "ddim_sample", lambda *arguments: mirrored)
    trainer.perform_actual_validation()
    assert "training images is 0.000 away from a sample" in log_of(trainer)


# ---- precision


@pytest.mark.parametrize(
    ("precision", "expected"), [(None, torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_the_network_computes_in_the_precision_of_the_plans(started, randn, precision, expected):
    trainer, seen = started({"pretraining.precision": precision}), []
    trainer.plain_network.denoiser.unet.encoder.stem.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    trainer.averaged_network.denoiser.unet.encoder.stages[0].blocks[0].conv1.conv.register_forward_hook(
        lambda *call: seen.append(call[2].dtype)
    )
    trainer.on_train_epoch_start()
    batch = {"data": randn(2, 1, 16, 16), "index": 0}
    loss, losses = trainer.train_step(batch)["loss"], trainer.validation_step(batch)["losses"]
    assert set(seen) == {expected}
    assert (loss.dtype, losses.dtype) == (torch.float32, np.float32)
    assert all(parameter.dtype == torch.float32 for parameter in trainer.network.parameters())


def test_bfloat16_learns_what_float32_learns(started, randn):
    batches, losses = [randn(4, 1, 16, 16) for _ in range(6)], []
    for precision in ("float32", "bfloat16"):
        trainer = started({"pretraining.precision": precision, "pretraining.learning_rate": 0.01})
        trainer.on_train_epoch_start()
        losses.append([float(trainer.train_step({"data": batch})["loss"]) for batch in batches])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


# ---- time limit


@pytest.fixture
def without_progress(monkeypatch):
    monkeypatch.setattr(HeldOutLossLogger, "plot_progress_png", lambda self, folder: None)  # takes a second


def final_checkpoint(trainer: DiffusionPretrainTrainer) -> Path:
    return Path(trainer.output_folder) / "checkpoint_final.pth"


def test_a_time_limit_ends_the_training_with_a_final_checkpoint(make_pretraining, without_progress):
    trainer = make_pretraining(0, {"pretraining.max_hours": 1e-6})
    trainer.run_training()
    checkpoint = torch.load(final_checkpoint(trainer), weights_only=False)
    assert checkpoint["current_epoch"] == 1
    assert checkpoint["used_seconds"] > 0
    assert (Path(trainer.output_folder) / "samples_epoch_1.png").is_file()


def test_a_training_that_was_ended_by_its_limit_does_not_go_on(make_pretraining, make_trainer, without_progress):
    options = {"pretraining.max_hours": 1e-6}
    trainer = make_pretraining(0, options)
    trainer.run_training()
    again = make_trainer(DiffusionPretrainTrainer, options)
    again.load_checkpoint(str(final_checkpoint(trainer)))
    again.run_training()
    assert again.current_epoch == 1


def test_without_reaching_the_limit_all_epochs_are_run(make_pretraining, without_progress):
    trainer = make_pretraining(0, {"pretraining.max_hours": 1.0})
    trainer.run_training()
    assert torch.load(final_checkpoint(trainer), weights_only=False)["current_epoch"] == 3
