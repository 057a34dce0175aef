"""Continuing an interrupted training: exactly as if it had not been, from its own checkpoints and no others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock

from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.training import pretraining as image_pretraining

BOTH = pytest.mark.parametrize("trainer_class", [DiffusionPretrainTrainer, DiffusionEnsembleTrainer])
NUM_EPOCHS, NUM_ITERATIONS = 4, 3
LENGTH = {
    **{f"{part}.num_epochs": NUM_EPOCHS for part in ("pretraining", "training")},
    **{f"{part}.num_iterations_per_epoch": NUM_ITERATIONS for part in ("pretraining", "training")},
    "pretraining.save_samples_every": NUM_EPOCHS,
    "pretraining.max_hours": 145 / 3600,  # so short that the learning rate follows the clock
}
# The training that goes on begins with the third of four epochs: the denoiser learns since the second, from now on, and
# from the fourth on.
HEAD_FIRST = [{"training.fine_tune_denoiser": True, "training.head_first": share} for share in (0.25, 0.5, 0.75)]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """On which every epoch of pretraining takes 40 seconds: nnU-Net notes its start, our trainer its end."""
    monkeypatch.setattr(stock, "time", lambda: 1000.0)
    monkeypatch.setattr(image_pretraining, "time", lambda: 1040.0)


@pytest.fixture
def begin(make_trainer: Callable, randomise: Callable) -> Callable[..., Any]:
    """Trainers with random weights and a scaler of losses that changes its scale every other step."""

    def begun(trainer_class: type, seed: int = 0, settings: dict | None = None, **options: Any) -> Any:
        trainer = make_trainer(trainer_class, LENGTH | (settings or {}), **options)
        trainer.initialize()
        randomise(trainer.network, seed)
        trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
        trainer.logger.plot_progress_png = lambda folder: None
        trainer.save_every = 2
        return trainer

    return begun


def make_batch(number: int) -> dict[str, Any]:
    data = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(number))
    return {"data": data, "target": (data > 0.5).to(torch.int16), "index": 0}


def run(trainer: Any, until_epoch: int = NUM_EPOCHS, steps_of_the_next: int = 0) -> None:
    """nnU-Net's loop over epochs on batches that depend on the iteration alone; `--c` keeps no order of the data."""

    def train(num_steps: int) -> list[dict]:
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        first = trainer.current_epoch * NUM_ITERATIONS
        return [trainer.train_step(make_batch(first + i)) for i in range(num_steps)]

    while trainer.current_epoch < until_epoch:
        trainer.on_train_epoch_end(train(NUM_ITERATIONS))
        with torch.no_grad():
            trainer.on_validation_epoch_start()
            trainer.on_validation_epoch_end([trainer.validation_step(make_batch(99))])
        trainer.on_epoch_end()
    if steps_of_the_next:
        train(steps_of_the_next)


def end_of(trainer: Any) -> dict[str, Any]:
    """All numbers of the final checkpoint but the times of day."""
    trainer.on_train_end()
    checkpoint = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
    checkpoint["logging"] = {key: values for key, values in checkpoint["logging"].items() if "timestamp" not in key}
    for name in ("init_args", "trainer_name", "pretrains", "inference_allowed_mirroring_axes"):
        checkpoint.pop(name, None)
    return checkpoint


@pytest.mark.parametrize(
    ("trainer_class", "settings"),
    [(DiffusionPretrainTrainer, {}), *((DiffusionEnsembleTrainer, settings) for settings in ({}, *HEAD_FIRST))],
)
def test_a_training_that_was_interrupted_ends_exactly_as_one_that_was_not(
    trainer_class: type, settings: dict, begin: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = begin(trainer_class, settings=settings)
    run(whole)
    expected = end_of(whole)
    assert expected["grad_scaler_state"]["scale"] > 64 and expected["current_epoch"] == NUM_EPOCHS

    monkeypatch.setenv("nnUNet_results", str(tmp_path / "other_results"))
    killed = begin(trainer_class, settings=settings)
    run(killed, until_epoch=2, steps_of_the_next=2)
    continued = begin(trainer_class, seed=1, settings=settings)
    continued.load_checkpoint(str(Path(killed.output_folder) / "checkpoint_latest.pth"))
    run(continued)
    torch.testing.assert_close(end_of(continued), expected, rtol=0, atol=0, equal_nan=True)


@BOTH
def test_a_kill_after_the_latest_checkpoint_finds_the_best_one_written(
    trainer_class: type, begin: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, written = begin(trainer_class), []
    trainer.save_every = 1
    monkeypatch.setattr(trainer, "save_checkpoint", lambda file: written.append((Path(file).stem, trainer._best_ema)))
    run(trainer, until_epoch=1)
    (first, best), (second, known) = written
    assert (first, second) == ("checkpoint_best", "checkpoint_latest")
    assert best == known is not None


@BOTH
def test_the_latest_checkpoint_is_written_every_few_epochs_and_continues_with_the_next(
    trainer_class: type, begin: Callable
) -> None:
    trainer = begin(trainer_class)
    latest = Path(trainer.output_folder) / "checkpoint_latest.pth"
    run(trainer, until_epoch=1)
    assert not latest.exists()
    run(trainer, until_epoch=3)
    assert torch.load(latest, weights_only=False)["current_epoch"] == 2
    assert trainer.save_every == 2


@BOTH
def test_beside_the_final_checkpoint_no_latest_one_of_the_same_epoch_is_written(
    trainer_class: type, begin: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, written = begin(trainer_class), []
    monkeypatch.setattr(
        trainer, "save_checkpoint", lambda file: written.append((Path(file).stem, trainer.current_epoch))
    )
    run(trainer)
    assert [epoch for name, epoch in written if name == "checkpoint_latest"] == [1]  # epochs 1 and 3 would be due


# ---- files that are no checkpoint of this training


def truncated(begin: Callable, file: Path) -> None:
    begin(DiffusionPretrainTrainer).save_checkpoint(str(file))
    file.write_bytes(file.read_bytes()[:-100])


def of_the_ensemble(begin: Callable, file: Path) -> None:
    begin(DiffusionEnsembleTrainer).save_checkpoint(str(file))


def of_a_wider_network(begin: Callable, file: Path) -> None:
    trainer = begin(DiffusionPretrainTrainer)
    architecture = trainer.my_init_kwargs["plans"]["configurations"]["2d"]["architecture"]
    architecture["arch_kwargs"]["features_per_stage"] = [3, 4, 5]
    wider = begin(DiffusionPretrainTrainer, architecture=architecture)
    wider.save_checkpoint(str(file))


def of_another_prediction(begin: Callable, file: Path) -> None:
    trainer = begin(DiffusionPretrainTrainer)
    settings = trainer.my_init_kwargs["plans"]["configurations"]["2d"]["diffusion"]
    settings["denoiser"]["prediction_type"] = "epsilon"
    trainer.save_checkpoint(str(file))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, r"checkpoint_latest\.pth .*truncated"),
        (lambda begin, file: file.write_bytes(b""), r"checkpoint_latest\.pth .*empty"),
        (of_the_ensemble, "checkpoint of DiffusionEnsembleTrainer, which DiffusionPretrainTrainer cannot continue"),
        (of_a_wider_network, r"other plans:\n.*: \(3, .* in the checkpoint, \(2, .* in the network"),
        (of_another_prediction, "prediction_type: epsilon in the checkpoint, v_prediction in the plans"),
    ],
)
def test_what_cannot_be_continued_is_refused_and_changes_nothing(
    make: Callable[[Callable, Path], object], message: str, begin: Callable, tmp_path: Path
) -> None:
    make(begin, tmp_path / "checkpoint_latest.pth")
    trainer = begin(DiffusionPretrainTrainer, seed=1)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        trainer.load_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    assert all(torch.equal(trainer.network.state_dict()[name], value) for name, value in before.items())


def test_a_pretraining_is_not_continued_as_an_ensemble(begin: Callable, tmp_path: Path) -> None:
    begin(DiffusionPretrainTrainer).save_checkpoint(str(tmp_path / "saved.pth"))
    with pytest.raises(ValueError, match="of DiffusionPretrainTrainer, which DiffusionEnsembleTrainer cannot"):
        begin(DiffusionEnsembleTrainer).load_checkpoint(str(tmp_path / "saved.pth"))


# ---- what lies in the folder when a training starts

LEFT = {"checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_best.pth.partial", "progress.png"}


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, {"earlier_checkpoint_final.pth", "earlier_checkpoint_best.pth", "progress.png"}),
        (3, {"checkpoint_final.pth", "checkpoint_best.pth", "progress.png"}),
    ],
)
def test_a_new_training_sets_earlier_checkpoints_aside_and_a_continued_one_does_not(
    epoch: int, expected: set[str], begin: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise --c would take the final one for its own, and call a training that was killed early complete.
    trainer = begin(DiffusionPretrainTrainer)
    for name in LEFT:
        (Path(trainer.output_folder) / name).write_text(name)
    monkeypatch.setattr(stock.nnUNetTrainer, "on_train_start", lambda self: None)
    trainer.current_epoch = epoch
    trainer.on_train_start()
    assert {file.name for file in Path(trainer.output_folder).iterdir() if "log" not in file.name} == expected
