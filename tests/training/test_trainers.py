"""Both trainers on the CPU, step by step: what a step changes, what a checkpoint holds, what a resumed run does."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.training.processes import BatchShare

Begin = Callable[..., Any]
BOTH = pytest.mark.parametrize("trainer_class", [DiffusionPretrainTrainer, DiffusionEnsembleTrainer])


@pytest.fixture
def begin(make_trainer: Callable, randomise: Callable) -> Begin:
    """Trainers with random weights, at the start of an epoch."""

    def begun(trainer_class: type, options: dict[str, Any] | None = None, seed: int = 0, **others: Any) -> Any:
        trainer = make_trainer(trainer_class, options, **others)
        trainer.initialize()
        randomise(trainer.network, seed)
        trainer.on_train_epoch_start()
        return trainer

    return begun


def make_batch(seed: int) -> dict[str, Tensor]:
    """Two images with a label each, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(2, 1, 16, 16, generator=generator)
    return {"data": data, "target": (data > 0.5).to(torch.int16)}


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def changed_by_a_step(trainer: Any) -> set[str]:
    """Names of the parameters that one training step changes."""
    before = copied(dict(trainer.network.named_parameters()))
    trainer.train_step(make_batch(0))
    return {name for name, value in trainer.network.named_parameters() if not torch.equal(value, before[name])}


def saved(trainer: Any, folder: Path) -> dict[str, Any]:
    trainer.save_checkpoint(str(folder / "saved.pth"))
    return torch.load(folder / "saved.pth", weights_only=False)


# ---- a training step


def test_a_step_of_the_ensemble_trainer_changes_the_head_alone(begin: Begin) -> None:
    trainer = begin(DiffusionEnsembleTrainer)
    changed = changed_by_a_step(trainer)
    assert changed == {name for name, _ in trainer.network.named_parameters() if name.startswith("head.")}


def test_a_step_of_pretraining_changes_every_weight_of_the_denoiser(begin: Begin) -> None:
    trainer = begin(DiffusionPretrainTrainer)
    changed = changed_by_a_step(trainer)
    # Biases of convolutions are left out: the norm that follows takes them away, so that their gradient is zero.
    expected = {name for name, _ in trainer.network.named_parameters() if name.endswith(".weight")}
    assert len(expected) > 20
    assert not expected - changed


def test_the_loss_of_a_denoiser_that_predicts_zero_is_the_mean_square_of_the_noise(
    make_trainer: Callable, inputs_of: Callable
) -> None:
    options = {"denoiser.prediction_type": "epsilon"}
    trainer = make_trainer(DiffusionPretrainTrainer, options)
    trainer.initialize()
    trainer.on_train_epoch_start()
    calls = inputs_of(trainer.network)
    loss = trainer.train_step(make_batch(0))["loss"]
    assert loss == pytest.approx(calls[0][1].square().mean().item(), rel=1e-5)


def test_pretraining_notes_lowest_and_highest_scaled_intensity(begin: Begin) -> None:
    trainer = begin(DiffusionPretrainTrainer, {"denoiser.input_scale": (0.5,), "denoiser.input_shift": (1.0,)})
    for seed, extreme in ((0, -40.0), (1, 60.0)):
        batch = make_batch(seed)
        batch["data"][0, 0, 3, 3] = extreme
        trainer.train_step(batch)
    assert trainer.network.denoiser.intensity_range.tolist() == [-19.0, 31.0]


def gradient_in_one_pass(trainer: Any, batch: dict[str, Tensor], noise: Tensor) -> dict[str, Tensor]:
    """Gradient of the head for given noise of all timesteps, without chunks."""
    trainer.network.zero_grad()
    timesteps = trainer.network.timesteps[:, None].expand(-1, 2)
    logits = trainer.network(batch["data"], noise, timesteps)
    trainer.loss(logits.flatten(0, 1), batch["target"].repeat(3, 1, 1, 1)).backward()
    return {name: p.grad for name, p in trainer.network.named_parameters() if p.grad is not None}


# With 4 images in a pass the chunks have 2 and 1 timesteps and must not weigh the same. Batch norm in training takes
# its statistics from one chunk, so that the two can be equal only with fixed statistics, and Dice image by image.
@pytest.mark.parametrize(("images_per_pass", "num_passes"), [(2, 3), (4, 2)])
def test_with_fixed_norms_the_gradient_added_up_over_chunks_is_that_of_one_pass(
    images_per_pass: int, num_passes: int, begin: Begin, inputs_of: Callable
) -> None:
    trainer = begin(DiffusionEnsembleTrainer, {"ensemble.images_per_pass": images_per_pass})
    batch, calls = make_batch(0), inputs_of(trainer.network)
    trainer.network.eval()
    trainer.gradient_clip = math.inf
    before = copied(trainer.network.state_dict())
    trainer.train_step(batch)
    found = {name: p.grad.clone() for name, p in trainer.network.named_parameters() if p.grad is not None}
    trainer.network.load_state_dict(before)
    assert len(calls) == num_passes
    noise = torch.cat([arguments[1] for arguments in calls])
    torch.testing.assert_close(found, gradient_in_one_pass(trainer, batch, noise), rtol=1e-3, atol=1e-5)


# ---- random numbers


def noise_in_steps(trainer: Any, calls: list[tuple], num_steps: int, epoch: int = 0) -> Tensor:
    """What the network is given in the first steps of an epoch: (steps, timesteps or 1, images, channel, *space)."""
    trainer.current_epoch = epoch
    trainer.logger.local_logger.my_fantastic_logging["lrs"] = [0.0] * epoch
    trainer.on_train_epoch_start()
    noise = []
    for seed in range(num_steps):
        calls.clear()
        trainer.train_step(make_batch(seed))
        noise.append(torch.cat([call[1].reshape(-1, *call[0].shape) for call in calls]))
    return torch.stack(noise)


@BOTH
def test_noise_of_an_epoch_repeats_in_another_run(trainer_class: type, begin: Begin, inputs_of: Callable) -> None:
    drawn = []
    for seed in (1, 2):
        trainer = begin(trainer_class, seed=seed)
        torch.manual_seed(seed)
        drawn.append(noise_in_steps(trainer, inputs_of(trainer.network), 2, epoch=3))
    assert torch.equal(*drawn)


@BOTH
def test_noise_differs_between_seeds_epochs_iterations_timesteps_and_images(
    trainer_class: type, begin: Begin, inputs_of: Callable
) -> None:
    noise = []
    for seed in (1, 2):
        trainer = begin(trainer_class, {"pretraining.seed": seed, "ensemble.noise_seed": seed})
        calls = inputs_of(trainer.network)
        noise += [noise_in_steps(trainer, calls, 3, epoch).reshape(-1, 256) for epoch in (0, 1)]
    drawn = torch.cat(noise)
    num_timesteps = 3 if trainer_class is DiffusionEnsembleTrainer else 1
    assert len({tuple(values) for values in drawn.tolist()}) == 2 * 2 * 3 * num_timesteps * 2
    # Seeds that follow each other do not give noise that resembles: the correlations are those of chance.
    correlations = np.corrcoef(drawn)[np.triu_indices(len(drawn), 1)]
    assert np.abs(correlations).max() < 6 / 256**0.5
    assert drawn.std().item() == pytest.approx(1, abs=0.05)


def test_noise_of_a_timestep_does_not_depend_on_the_passes(begin: Begin, inputs_of: Callable) -> None:
    drawn = []
    for images_per_pass in (2, 64):
        trainer = begin(DiffusionEnsembleTrainer, {"ensemble.images_per_pass": images_per_pass})
        drawn.append(noise_in_steps(trainer, inputs_of(trainer.network), 2))
    assert torch.equal(*drawn)


@BOTH
def test_processes_draw_what_one_process_draws_for_their_images(
    trainer_class: type, begin: Begin, inputs_of: Callable
) -> None:
    drawn = []
    for start in (0, 1):
        trainer = begin(trainer_class)
        trainer.share = BatchShare(start)
        drawn.append(noise_in_steps(trainer, inputs_of(trainer.network), 1))
    whole, second = drawn
    assert torch.equal(whole[:, :, 1], second[:, :, 0])


# ---- checkpoints


def test_network_weights_of_a_pretraining_checkpoint_are_the_averaged_ones(begin: Begin, tmp_path: Path) -> None:
    trainer, steps = begin(DiffusionPretrainTrainer), []
    for seed in range(3):
        trainer.train_step(make_batch(seed))
        steps.append(copied(dict(trainer.network.named_parameters())))
    checkpoint = saved(trainer, tmp_path)
    for name, first in steps[0].items():
        average = first
        for num_updates in (1, 2):
            decay = 1 - (1 + num_updates) ** -0.75
            average = decay * average + (1 - decay) * steps[num_updates][name]
        torch.testing.assert_close(checkpoint["network_weights"][name], average)
        assert torch.equal(checkpoint["trained_weights"][name], steps[2][name])


def test_a_pretraining_checkpoint_says_how_long_the_denoiser_was_trained(begin: Begin, tmp_path: Path) -> None:
    trainer = begin(DiffusionPretrainTrainer)
    trainer.train_step(make_batch(0))
    trainer.train_step(make_batch(1))
    assert saved(trainer, tmp_path)["network_weights"]["denoiser.trained_iterations"] == 2


def next_epoch(trainer: Any) -> tuple[float, dict[str, Tensor], float]:
    """Loss, weights and learning rate of the first step of the epoch that is due."""
    trainer.on_train_epoch_start()
    loss = float(trainer.train_step(make_batch(7))["loss"])
    return loss, copied(trainer.network.state_dict()), trainer.optimizer.param_groups[0]["lr"]


@BOTH
def test_a_resumed_trainer_goes_on_as_the_uninterrupted_one(trainer_class: type, begin: Begin, tmp_path: Path) -> None:
    uninterrupted = begin(trainer_class)
    for seed in range(2):
        uninterrupted.train_step(make_batch(seed))
    saved(uninterrupted, tmp_path)
    uninterrupted.current_epoch += 1
    resumed = begin(trainer_class, seed=1)
    resumed.load_checkpoint(str(tmp_path / "saved.pth"))
    assert resumed.current_epoch == 1
    expected, found = next_epoch(uninterrupted), next_epoch(resumed)
    assert found[0] == expected[0]
    assert all(torch.equal(found[1][name], value) for name, value in expected[1].items())
    assert found[2] == expected[2]


def test_a_resumed_pretraining_goes_on_with_the_same_average(begin: Begin, tmp_path: Path) -> None:
    uninterrupted, resumed = begin(DiffusionPretrainTrainer), begin(DiffusionPretrainTrainer, seed=1)
    for seed in range(2):
        uninterrupted.train_step(make_batch(seed))
    uninterrupted.save_checkpoint(str(tmp_path / "saved.pth"))
    uninterrupted.current_epoch += 1
    resumed.load_checkpoint(str(tmp_path / "saved.pth"))
    next_epoch(uninterrupted), next_epoch(resumed)
    found, expected = (trainer.averaged_network.state_dict() for trainer in (resumed, uninterrupted))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("trainer_class", "expected"),
    [
        # Iteration 4 of 12, of which 1 is warm-up; epoch 1 of 50 with nnU-Net's polynomial.
        (DiffusionPretrainTrainer, 4e-4 * (1 + math.cos(math.pi * 3 / 11)) / 2),
        (DiffusionEnsembleTrainer, 1e-3 * (1 - 1 / 50) ** 0.9),
    ],
)
def test_the_learning_rate_after_resuming_is_that_of_the_epoch(
    trainer_class: type, expected: float, begin: Begin, tmp_path: Path
) -> None:
    saved(begin(trainer_class), tmp_path)
    resumed = begin(trainer_class)
    resumed.load_checkpoint(str(tmp_path / "saved.pth"))
    assert next_epoch(resumed)[2] == pytest.approx(expected)


@BOTH
def test_a_kill_while_saving_leaves_the_old_checkpoint_whole(
    trainer_class: type, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, file, save = begin(trainer_class), tmp_path / "saved.pth", torch.save

    def killed(checkpoint: dict, path: str) -> None:
        save(checkpoint, buffer := io.BytesIO())
        Path(path).write_bytes(buffer.getvalue()[: buffer.tell() // 2])
        raise KeyboardInterrupt

    trainer.save_checkpoint(str(file))
    before = file.read_bytes()
    trainer.train_step(make_batch(0))
    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        trainer.save_checkpoint(str(file))
    assert file.read_bytes() == before


@BOTH
@pytest.mark.parametrize("why", [{"disable_checkpointing": True}, {"local_rank": 1}])
def test_a_process_that_does_not_save_leaves_half_written_files_alone(
    trainer_class: type, why: dict[str, Any], begin: Begin, tmp_path: Path
) -> None:
    trainer, file = begin(trainer_class), tmp_path / "saved.pth"
    file.write_text("old")
    Path(f"{file}.partial").write_text("ha")
    vars(trainer).update(why)
    trainer.save_checkpoint(str(file))
    assert file.read_text() == "old"


# ---- from pretraining to the ensemble

COMMAND = "nnUNetv2_train Dataset001_Made 2d all -tr DiffusionPretrainTrainer -p nnUNetDiffusionEnsemblePlans"


def test_without_a_denoiser_training_stops_and_names_the_command(make_trainer: Callable) -> None:
    with pytest.raises(FileNotFoundError, match=COMMAND):
        make_trainer(DiffusionEnsembleTrainer).on_train_start()


def test_training_starts_with_the_denoiser_of_the_pretraining(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)  # it wants files of a real data set
    pretraining, trainer = begin(DiffusionPretrainTrainer, fold="all"), begin(DiffusionEnsembleTrainer, seed=1)
    pretraining.train_step(make_batch(0))
    pretraining.save_checkpoint(str(Path(pretraining.output_folder) / "checkpoint_final.pth"))
    trainer.on_train_start()
    expected = pretraining.averaged_network.denoiser.state_dict()
    assert all(torch.equal(trainer.network.denoiser.state_dict()[name], value) for name, value in expected.items())


def test_nnunets_own_loader_loads_the_pretraining_checkpoint(begin: Begin, tmp_path: Path) -> None:
    pretraining, trainer = begin(DiffusionPretrainTrainer), begin(DiffusionEnsembleTrainer, seed=1)
    for seed in range(2):
        pretraining.train_step(make_batch(seed))
    head, expected = copied(trainer.network.head.state_dict()), saved(pretraining, tmp_path)["network_weights"]
    load_pretrained_weights(trainer.network, str(tmp_path / "saved.pth"))
    loaded = trainer.network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())
    assert all(torch.equal(loaded[f"head.{name}"], value) for name, value in head.items())


@BOTH
def test_a_cascade_is_refused(trainer_class: type, make_trainer: Callable) -> None:
    with pytest.raises(NotImplementedError, match=r"2d is a cascade.*Use 2d, 3d_fullres or 3d_lowres"):
        make_trainer(trainer_class, previous_stage="3d_lowres")
