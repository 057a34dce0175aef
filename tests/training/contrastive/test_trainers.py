"""Contrastive pretraining: views, steps, held-out loss, processes, continuing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from torch import distributed as dist

from nnunet_diffusion_ensemble.trainers.contrastive_pretrain_trainers import (
    GlobalContrastivePretrainTrainer,
    GlobalLocalContrastivePretrainTrainer,
)
from nnunet_diffusion_ensemble.training import processes
from nnunet_diffusion_ensemble.training.contrastive.learning import TwoViews, at_regions, draw_regions, nt_xent
from nnunet_diffusion_ensemble.training.log import HeldOutLossLogger
from nnunet_diffusion_ensemble.training.processes import BatchShare, seeded_generator

BOTH = pytest.mark.parametrize(
    "trainer_class", [GlobalContrastivePretrainTrainer, GlobalLocalContrastivePretrainTrainer]
)
TEMPERATURE = 0.25


@pytest.fixture
def begin(make_pretraining, randomise):
    """Trainers with random weights, at the start of an epoch, whose training images are named."""

    def begun(trainer_class: type, options: dict | None = None, seed: int = 0, **others: Any) -> Any:
        options = {"contrastive.temperature": TEMPERATURE} | (options or {})
        trainer = make_pretraining(8, options, trainer_class, fold="all", **others)
        trainer.initialize()
        randomise(trainer.network, seed)
        trainer.get_tr_and_val_datasets()
        trainer.on_train_epoch_start()
        return trainer

    return begun


@pytest.fixture
def make_batch(randn):
    """Two views of some images each, as channels, of different cases unless these are given."""

    def make(trainer: Any, num_images: int = 2, cases: list[int] | None = None) -> dict[str, Any]:
        keys = trainer.training_images.identifiers[cases or list(range(num_images))]
        return {"data": randn(num_images, 2, 16, 16), "keys": keys}

    return make


def views_of(batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    return batch["data"][:, :1], batch["data"][:, 1:]


def changed_by_a_step(trainer: Any, batch: dict[str, Any]) -> set[str]:
    before = {name: value.detach().clone() for name, value in trainer.network.state_dict().items()}
    trainer.train_step(batch)
    return {name for name, value in trainer.network.state_dict().items() if not torch.equal(value, before[name])}


# ---- views


def augmented(trainer: Any, with_intensities: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views of one patch; the augmentation is drawn until its geometry does something."""
    rotation, dummy_2d, _, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    composed = trainer.get_training_transforms((16, 16), rotation, None, axes, dummy_2d, use_mask_for_norm=[False])
    (two_views,) = [transform for transform in composed.transforms if isinstance(transform, TwoViews)]
    assert isinstance(two_views.transform, ComposeTransforms)
    for transform in two_views.transform.transforms:
        if isinstance(transform, RandomTransform):
            transform.apply_probability = float(with_intensities)
    np.random.seed(0)
    torch.manual_seed(0)
    patches = [torch.randn(1, 16, 16) for _ in range(20)]
    found = [composed(image=patch, segmentation=torch.zeros(1, 16, 16))["image"] for patch in patches]
    assert not all(torch.equal(views[:1], patch) for views, patch in zip(found, patches, strict=True))
    first, second = torch.stack(found).unbind(1)
    return first, second


def test_views_of_the_global_loss_differ_in_place_and_intensity(make_trainer):
    trainer = make_trainer(GlobalContrastivePretrainTrainer)
    for with_intensities in (False, True):
        first, second = augmented(trainer, with_intensities)
        assert (first - second).flatten(1).abs().amax(1).gt(1e-3).float().mean() > 0.7


def test_views_of_the_local_loss_correspond_and_differ_in_intensity(make_trainer):
    trainer = make_trainer(GlobalLocalContrastivePretrainTrainer)
    first, second = augmented(trainer, with_intensities=False)
    assert torch.equal(first, second)
    first, second = augmented(trainer, with_intensities=True)
    assert ((first - second).flatten(1).abs().amax(1) > 1e-3).all()


@BOTH
def test_views_of_an_anisotropic_volume_are_made_slice_by_slice(make_trainer, trainer_class):
    transforms = make_trainer(trainer_class).get_training_transforms((4, 16, 16), (-1.0, 1.0), None, (0, 1), True)
    found = transforms(image=torch.randn(2, 4, 20, 20), segmentation=torch.zeros(1, 4, 20, 20))["image"]
    assert found.shape == (4, 4, 16, 16)


@BOTH
def test_the_data_loader_yields_both_views_and_names_the_cases(begin, trainer_class):
    trainer = begin(trainer_class, {"pretraining.batch_size": 6})
    training, held_out = trainer.get_dataloaders()
    batch = next(training)
    assert batch["data"].shape == (6, 2, 16, 16)
    assert not torch.equal(*views_of(batch))
    assert set(batch["keys"]) <= set(trainer.training_images.identifiers)
    assert next(held_out)["data"].shape[1:] == (2, 16, 16)


@BOTH
def test_views_of_the_held_out_images_are_always_the_same(begin, trainer_class):
    trainer = begin(trainer_class, {"pretraining.validation_fraction": 0.5})
    first, again = trainer.held_out_patches(), trainer.held_out_patches()
    assert len(first) == len(trainer.held_out.identifiers) > 2
    assert torch.equal(first, again)
    assert not torch.equal(*views_of({"data": first}))


# ---- steps


def test_the_global_loss_compares_images_of_different_cases(begin, make_batch):
    trainer = begin(GlobalContrastivePretrainTrainer)
    batch = make_batch(trainer, 3, cases=[1, 0, 1])
    with torch.no_grad():
        views = [trainer.network(images) for images in views_of(batch)]
    expected = nt_xent(*views, TEMPERATURE, torch.tensor([1, 0, 1]))
    assert abs(expected - nt_xent(*views, TEMPERATURE)) > 1e-3
    assert trainer.train_step(batch)["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_the_local_loss_compares_the_regions_of_each_image(begin, make_batch):
    trainer = begin(GlobalLocalContrastivePretrainTrainer, {"pretraining.seed": 9})
    trainer.iteration = 6
    batch, losses = make_batch(trainer, 3), []
    with torch.no_grad():
        features = [trainer.network(images) for images in views_of(batch)]
    for image in range(3):
        corners = draw_regions((8, 8), 3, 4, [seeded_generator(torch.device("cpu"), 9, 6, image)])
        regions = [at_regions(view[image : image + 1], corners, 3)[0] for view in features]
        losses.append(nt_xent(*regions, TEMPERATURE).item())
    assert trainer.train_step(batch)["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_global_step_changes_encoder_and_projection(begin, make_batch):
    trainer = begin(GlobalContrastivePretrainTrainer)
    changed = changed_by_a_step(trainer, make_batch(trainer))
    assert {name.split(".")[0] for name in changed if "decoder.encoder." not in name} == {"encoder", "projection"}
    expected = {name for name, _ in trainer.network.encoder.named_parameters() if name.endswith("conv.weight")}
    assert {f"encoder.{name}" for name in expected} <= changed


def test_a_local_step_leaves_the_encoder_and_later_stages_alone(begin, make_batch):
    trainer = begin(GlobalLocalContrastivePretrainTrainer)
    changed = changed_by_a_step(trainer, make_batch(trainer))
    assert {".".join(name.split(".")[:3]) for name in changed} == {
        "decoder.stages.0",
        "decoder.transpconvs.0",
        "projection.seg_layers.0",
        "projection.seg_layers.2",
    }


@BOTH
def test_the_loss_falls_when_one_batch_is_seen_again_and_again(begin, make_batch, trainer_class):
    options = {"learning_rate": 0.01, "num_epochs": 1, "num_iterations_per_epoch": 30}
    trainer = begin(trainer_class, {f"contrastive.{name}": value for name, value in options.items()})
    batch = make_batch(trainer, 4)
    losses = [trainer.train_step(batch)["loss"] for _ in range(30)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1


@BOTH
def test_length_and_rate_are_those_of_the_contrastive_settings(begin, trainer_class):
    options = {"num_epochs": 5, "num_iterations_per_epoch": 6, "learning_rate": 0.25}
    settings = {f"contrastive.{name}": value for name, value in options.items()}
    trainer = begin(trainer_class, settings | {"pretraining.batch_size": 7})
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.initial_lr) == (5, 6, 0.25)
    assert trainer.batch_size == 7


# ---- held-out loss


@BOTH
def test_the_held_out_loss_does_not_depend_on_the_batches(begin, trainer_class, randn):
    trainer, images, losses = begin(trainer_class), randn(5, 2, 16, 16), []
    for batch_size in (1, 2, 5):
        outputs = [
            trainer.validation_step({"data": images[i : i + batch_size], "index": i}) for i in range(0, 5, batch_size)
        ]
        trainer.on_validation_epoch_end(outputs)
        losses.append(trainer.logger.get_value("val_losses", step=-1))
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-4)


def test_the_held_out_loss_compares_all_held_out_images(begin, randn):
    trainer, images = begin(GlobalContrastivePretrainTrainer), randn(5, 2, 16, 16)
    outputs = [trainer.validation_step({"data": images[i : i + 3], "index": i}) for i in (0, 3)]
    trainer.on_validation_epoch_end(outputs)
    with torch.no_grad():
        expected = nt_xent(*(trainer.network(view) for view in views_of({"data": images})), TEMPERATURE)
    assert trainer.logger.get_value("val_losses", step=-1) == pytest.approx(expected.item(), rel=1e-4)


def test_two_images_or_more_are_held_out_to_be_compared(make_pretraining):
    trainer = make_pretraining(8, None, GlobalContrastivePretrainTrainer, fold="all")
    training, held_out = trainer.get_tr_and_val_datasets()
    assert (len(training.identifiers), len(held_out.identifiers)) == (11, 2)  # a share of 5% would be one of 13


def test_a_fold_that_holds_out_one_image_is_refused(make_pretraining):
    trainer = make_pretraining(0, None, GlobalContrastivePretrainTrainer, fold=0)
    with pytest.raises(ValueError, match=r"needs 2 or more images .* found 4 and 1\. Put unlabelled images"):
        trainer.get_tr_and_val_datasets()


# ---- several processes


class Processes:
    """Stands for torch.distributed: what the others would send to the process whose turn it is."""

    def __init__(self, tensors: list[list[torch.Tensor]]):
        self.tensors, self.rank = tensors, 0

    def all_gather(self, parts: list[torch.Tensor], own: torch.Tensor) -> None:
        (sent,) = [one for one in self.tensors if torch.equal(one[self.rank], own)]
        for part, tensor in zip(parts, sent, strict=True):
            part.copy_(tensor)


def test_the_mean_gradient_of_two_processes_is_that_of_one_with_all_images(begin, randn, monkeypatch):
    trainer = begin(GlobalContrastivePretrainTrainer)
    first, second, cases = randn(4, 5), randn(4, 5), torch.tensor([2, 0, 1, 2])
    whole = [tensor.clone().requires_grad_() for tensor in (first, second)]
    nt_xent(*whole, TEMPERATURE, cases).backward()
    expected = torch.stack([tensor.grad for tensor in whole])
    shares = [list(tensor.chunk(2)) for tensor in (first, second, cases)]
    others, found = Processes(shares), []
    monkeypatch.setattr(processes.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(processes.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(processes.dist, "get_rank", lambda: others.rank)
    monkeypatch.setattr(processes.dist, "all_gather", others.all_gather)
    trainer.is_ddp = True
    for others.rank in (0, 1):
        own = [share[others.rank].clone() for share in shares]
        for tensor in own[:2]:
            tensor.requires_grad_()
        loss = trainer.loss_between(*own)
        assert loss.item() == pytest.approx(nt_xent(first, second, TEMPERATURE, cases).item())
        (loss * trainer.gradient_weight).backward()
        found.append(torch.stack([tensor.grad for tensor in own[:2]]))
    # DDP takes the mean of what the processes' parts add to the gradient of the weights.
    torch.testing.assert_close(torch.cat(found, dim=1) / 2, expected)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(begin, monkeypatch):
    trainer = begin(GlobalContrastivePretrainTrainer, {"pretraining.batch_size": 5})
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    trainer.is_ddp = True
    with pytest.raises(ValueError, match="batch of 5 cannot be shared evenly by 2 processes"):
        trainer.share_batch()


def test_a_batch_of_one_image_is_refused(begin):
    with pytest.raises(ValueError, match=r"pretraining\.batch_size in the plans must be at least 2"):
        begin(GlobalContrastivePretrainTrainer, {"pretraining.batch_size": 1})


def test_a_process_draws_the_regions_of_its_part_of_the_batch(begin, make_batch, monkeypatch):
    trainer = begin(GlobalLocalContrastivePretrainTrainer)
    batch, drawn, represent = make_batch(trainer), [], trainer.represent

    def noted(images: torch.Tensor, generators: list[torch.Generator]) -> torch.Tensor:
        drawn.append([generator.initial_seed() for generator in generators])
        return represent(images, generators)

    monkeypatch.setattr(trainer, "represent", noted)
    for start in (0, 1):
        trainer.share, trainer.iteration = BatchShare(start), 0
        trainer.train_step(batch)
    assert drawn[0][1] == drawn[1][0] != drawn[0][0]


# ---- checkpoints


def end_of_epoch(trainer: Any, batches: list[dict[str, Any]]) -> None:
    """The rest of an epoch that has started."""
    trainer.logger.log("epoch_start_timestamps", 0.0, trainer.current_epoch)
    trainer.logger.plot_progress_png = lambda folder: None
    trainer.on_train_epoch_end([trainer.train_step(batch) for batch in batches])
    trainer.on_validation_epoch_end([trainer.validation_step({"data": batches[0]["data"], "index": 0})])
    trainer.on_epoch_end()


@BOTH
def test_a_training_goes_on_from_its_checkpoint_as_if_uninterrupted(begin, make_batch, trainer_class):
    trainer = begin(trainer_class)
    batches = [make_batch(trainer) for _ in range(3)]
    end_of_epoch(trainer, batches[:2])
    continued = begin(trainer_class, seed=1)
    continued.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_best.pth"))
    for one in (trainer, continued):
        one.on_train_epoch_start()
        one.train_step(batches[2])
    assert continued.current_epoch == 1
    assert continued.time_limit.used_seconds == trainer.time_limit.used_seconds > 0
    weights = trainer.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in continued.network.state_dict().items())


def test_progress_is_drawn_without_timesteps(begin, make_batch):
    trainer = begin(GlobalContrastivePretrainTrainer)
    plot = trainer.logger.plot_progress_png
    end_of_epoch(trainer, [make_batch(trainer)])
    plot(trainer.output_folder)
    assert (Path(trainer.output_folder) / "progress.png").is_file()


def test_both_stages_run_to_their_end_and_the_second_keeps_the_encoder_of_the_first(make_pretraining, monkeypatch):
    monkeypatch.setattr(HeldOutLossLogger, "plot_progress_png", lambda self, folder: None)
    weights = []
    for trainer_class in (GlobalContrastivePretrainTrainer, GlobalLocalContrastivePretrainTrainer):
        trainer = make_pretraining(8, {"pretraining.batch_size": 4}, trainer_class, fold="all")
        trainer.run_training()
        trainer.perform_actual_validation()
        assert "Held-out loss: last" in Path(trainer.log_file).read_text()
        final = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
        assert final["current_epoch"] == 3
        weights.append({k: v for k, v in final["network_weights"].items() if k.startswith("encoder.")})
    torch.testing.assert_close(*weights, rtol=0, atol=0)
