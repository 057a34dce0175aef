"""Pretraining beside its steps: images held out, and losses."""

import shutil
from pathlib import Path

import blosc2
import numpy as np
import pytest
import torch
from pretraining_trainers import CASES, FOLDER
from shards_data import write_shard

from nnunet_diffusion_ensemble.data.loose_cases import CASE_FILE_ENDINGS
from nnunet_diffusion_ensemble.data.packed_shards import FORMAT, PackedShard
from nnunet_diffusion_ensemble.nnunet.raw_shards import read_shard
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

# ---- settings


def test_pretraining_has_its_own_batch_size_and_the_plans_keep_theirs(started):
    trainer = started({"pretraining.batch_size": 3}, batch_size=2)
    assert trainer.batch_size == 3
    assert trainer.my_init_kwargs["plans"]["configurations"]["2d"]["batch_size"] == 2


@pytest.mark.parametrize(
    "labels", [{"background": 0, "organ": 1, "ignore": 2}, {"background": 0, "whole": [1, 2], "part": [2]}]
)
def test_no_label_region_or_ignore_label_plays_a_part(make_trainer, labels):
    manager = make_trainer(DiffusionPretrainTrainer, labels=labels).label_manager
    assert not manager.has_regions
    assert not manager.has_ignore_label
    assert manager.foreground_labels == []


def test_images_are_moved_and_mirrored_but_their_intensities_not_changed(make_trainer):
    trainer = make_trainer(DiffusionPretrainTrainer)
    rotation, dummy_2d, _, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    composed = trainer.get_training_transforms((16, 16), rotation, None, axes, dummy_2d, use_mask_for_norm=[False])
    names = [type(transform).__name__ for transform in composed.transforms]
    assert names == ["SpatialTransform", "MirrorTransform", "RemoveLabelTransform"]


def test_a_step_without_gradients_leaves_all_weights_as_they_are(started):
    trainer = started()
    trainer.on_train_epoch_start()
    before = [parameter.detach().clone() for parameter in trainer.network.parameters()]
    for parameter in trainer.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    assert all(torch.equal(*both) for both in zip(trainer.network.parameters(), before, strict=True))


def test_no_patch_is_drawn_for_its_foreground(make_pretraining, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    trainer = make_pretraining()
    trainer.initialize()
    loader = trainer.get_dataloaders()[0].data_loader
    assert loader.batch_size == 3
    assert not any(loader.get_do_oversample(position) for position in range(3))


# ---- images


def test_without_unlabelled_images_nnunets_fold_is_held_out(make_pretraining):
    trainer = make_pretraining(fold=2)
    training, held_out = trainer.get_tr_and_val_datasets()
    assert (sorted(training.identifiers), sorted(held_out.identifiers)) == tuple(map(sorted, trainer.do_split()))
    assert len(held_out.identifiers) == 1


def test_with_a_fold_its_cases_and_a_share_of_the_unlabelled_are_held_out(make_pretraining):
    trainer = make_pretraining(10, {"pretraining.validation_fraction": 0.3}, fold=2)
    training, held_out = (set(dataset.identifiers) for dataset in trainer.get_tr_and_val_datasets())
    labelled_tr, labelled_val = map(set, trainer.do_split())
    assert {name for name in training if name in CASES} == labelled_tr
    assert {name for name in held_out if name in CASES} == labelled_val
    assert len(held_out - labelled_val) == 3
    assert not training & held_out
    assert training | held_out == {*CASES, *(f"other_{i}" for i in range(10))}


def test_with_fold_all_a_share_of_all_images_is_held_out(make_pretraining):
    trainer = make_pretraining(10, {"pretraining.validation_fraction": 0.2}, fold="all")
    training, held_out = (set(dataset.identifiers) for dataset in trainer.get_tr_and_val_datasets())
    assert len(held_out) == 3
    assert not training & held_out
    assert training | held_out == {*CASES, *(f"other_{i}" for i in range(10))}


def test_a_single_image_is_too_few(make_pretraining, tmp_path):
    trainer = make_pretraining(fold="all")
    for name in CASES[1:]:
        for file in (tmp_path / FOLDER).glob(f"{name}*"):
            file.unlink()
    with pytest.raises(ValueError, match=r"1 or more images to train on .* found 0 and 1\. Put .* into imagesUn/"):
        trainer.get_tr_and_val_datasets()


def test_held_out_images_are_the_middles_of_the_cases(make_pretraining, tmp_path):
    trainer = make_pretraining(fold=0)
    trainer.initialize()
    training, held_out = trainer.get_dataloaders()
    case = trainer.do_split()[1][0]
    image = blosc2.open(str(tmp_path / FOLDER / f"{case}.b2nd"))[:]
    np.testing.assert_array_equal(next(held_out)["data"], image[:, :, 2:18, 1:17])  # of 20 x 18 pixels
    assert next(training)["data"].shape == (3, 1, 16, 16)


def test_without_labels_only_unlabelled_images_are_used(make_pretraining, tmp_path):
    trainer = make_pretraining(6, fold="all", labels={"background": 0})
    shutil.rmtree(tmp_path / FOLDER)  # where labelled cases would be
    trainer.initialize()
    training, held_out = (dataset.identifiers for dataset in trainer.get_tr_and_val_datasets())
    assert sorted([*training, *held_out]) == [f"other_{i}" for i in range(6)]
    assert next(trainer.get_dataloaders()[0])["data"].shape == (3, 1, 16, 16)


def in_one_shard(folder: Path) -> None:
    """Packs the preprocessed cases of a folder, as `preprocess_unlabelled` does with those of a shard."""
    cases = sorted(file.stem for file in folder.glob("*.pkl"))
    members = {case + ending: (folder / (case + ending)).read_bytes() for case in cases for ending in CASE_FILE_ENDINGS}
    for name in members:
        (folder / name).unlink()
    file = write_shard(folder / "shard.tar", members)
    where = read_shard(file)
    extents = np.array([[where[case + ending] for ending in CASE_FILE_ENDINGS] for case in cases])
    record = {"format": FORMAT, "written_size": file.stat().st_size}
    PackedShard(file, np.array(cases), extents, record).write_index()


@pytest.mark.parametrize("fold", [2, "all"])
def test_from_a_shard_the_same_images_are_held_out_as_from_files(make_pretraining, tmp_path, fold):
    splits = []
    for layout in (lambda folder: None, in_one_shard):
        trainer = make_pretraining(10, {"pretraining.validation_fraction": 0.3}, fold=fold)
        layout(tmp_path / f"{FOLDER}_unlabelled")
        splits.append([dataset.identifiers.tolist() for dataset in trainer.get_tr_and_val_datasets()])
    assert splits[0] == splits[1]
    assert len(splits[0][1]) == (3 + 1 if fold == 2 else round(0.3 * 15))


def test_without_labels_and_files_a_shard_is_pretrained_on(make_pretraining, tmp_path):
    trainer = make_pretraining(6, fold="all", labels={"background": 0})
    in_one_shard(tmp_path / f"{FOLDER}_unlabelled")
    trainer.initialize()
    training, held_out = trainer.get_dataloaders()
    assert next(training)["data"].shape == (3, 1, 16, 16)
    image = blosc2.open(str(tmp_path / FOLDER / "case_0.b2nd"))[:]  # of which all are copies
    np.testing.assert_array_equal(next(held_out)["data"], image[:, :, 2:18, 1:17])


def test_without_labels_there_is_no_fold_but_all(make_pretraining):
    with pytest.raises(ValueError, match="without labels has no folds: pretrain on fold all, not 2"):
        make_pretraining(6, fold=2, labels={"background": 0})


def test_without_labels_and_without_images_there_is_nothing_to_pretrain_on(make_pretraining):
    trainer = make_pretraining(0, fold="all", labels={"background": 0})
    with pytest.raises(ValueError, match="imagesUn of the raw data set holds no images"):
        trainer.initialize()


def test_no_more_images_are_held_in_memory_than_the_plans_allow(make_pretraining):
    options = {"pretraining.validation_fraction": 0.9, "pretraining.max_validation_images": 5}
    trainer = make_pretraining(10, options)
    trainer.initialize()
    _, held_out = trainer.get_dataloaders()
    assert [len(batch["data"]) for batch in held_out.batches] == [3, 2]
    assert trainer.num_val_iterations_per_epoch == 2


# ---- loss


def test_held_out_loss_of_a_denoiser_that_predicts_zero_is_the_mean_square_of_its_fixed_noise(started, randn):
    trainer = started({"denoiser.prediction_type": "epsilon", "pretraining.seed": 100})
    found = trainer.validation_step({"data": randn(2, 1, 16, 16), "index": 6})["losses"]
    noise = np.random.RandomState(100 + 1 + 6).standard_normal((2, 256))
    np.testing.assert_allclose(found, np.repeat((noise**2).mean(1)[:, None], 5, axis=1), rtol=1e-5)


def test_held_out_loss_of_a_velocity_depends_on_the_timestep_by_the_schedule(started):
    # Images are 2 everywhere and nothing is predicted: the mean square of signal * noise - sigma * 2.
    bands = {"pretraining.timestep_bands": (400,)}
    trainer = started({"denoiser.prediction_type": "v_prediction", "pretraining.seed": 4, **bands})
    found = trainer.validation_step({"data": torch.full((1, 1, 16, 16), 2.0), "index": 0})["losses"]
    noise = np.random.RandomState(5).standard_normal(256)
    # The first image stands at half the golden ratio, 0.309, of each band: 0.309 * 400 and 400 + 0.309 * 600.
    alpha_bar = trainer.network.denoiser.schedule.alpha_bar[[123, 585]].double().numpy()[:, None]
    expected = ((np.sqrt(alpha_bar) * noise - np.sqrt(1 - alpha_bar) * 2) ** 2).mean(1)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)


def test_held_out_loss_is_that_of_the_averaged_weights(started, randomise, randn):
    trainer, batch = started(), {"data": randn(2, 1, 16, 16), "index": 0}
    before = trainer.validation_step(batch)["losses"]
    randomise(trainer.network)
    np.testing.assert_array_equal(trainer.validation_step(batch)["losses"], before)
    randomise(trainer.averaged_network)
    assert np.abs(trainer.validation_step(batch)["losses"] - before).mean() > 0.1


def test_held_out_loss_is_weighted_as_the_training_loss_is(started, randn):
    trainer = started({"pretraining.loss_weighting": "min_snr"})
    found = trainer.validation_step({"data": randn(2, 1, 16, 16), "index": 3})
    timesteps = trainer.bands.fixed_timesteps(3, 2)
    alpha_bar = trainer.plain_network.denoiser.schedule.alpha_bar[timesteps].T.double().numpy()
    snr = alpha_bar / (1 - alpha_bar)
    np.testing.assert_allclose(found["weighted"], np.minimum(snr, 5) / (snr + 1) * found["losses"], rtol=1e-4)


def test_every_held_out_image_counts_the_same_whatever_its_batch(started):
    trainer = started()
    losses = [np.full((2, 5), 1.0), np.full((1, 5), 4.0)]
    trainer.on_validation_epoch_end([{"losses": one, "weighted": 10 * one} for one in losses])
    assert trainer.logger.get_value("val_losses", step=-1) == pytest.approx(20.0)
    assert trainer.logger.get_value("val_loss_per_band", step=-1) == [2.0] * 5


def test_held_out_loss_is_the_mean_over_all_timesteps_as_in_training(started):
    trainer = started({"pretraining.timestep_bands": (100, 250)})  # 100, 150 and 750 of 1000 timesteps
    losses = np.array([[8.0, 4.0, 2.0]])
    trainer.on_validation_epoch_end([{"losses": losses, "weighted": losses}])
    assert trainer.logger.get_value("val_losses", step=-1) == pytest.approx(0.1 * 8 + 0.15 * 4 + 0.75 * 2)


def test_training_loss_is_logged_by_the_timesteps_drawn(started, inputs_of, monkeypatch):
    # At first nothing is predicted, and the loss is the mean square of the noise.
    trainer = started({"pretraining.timestep_bands": (100, 250), "denoiser.prediction_type": "epsilon"})
    trainer.on_train_epoch_start()
    calls = inputs_of(trainer.network)
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: torch.tensor([10, 99, 600]))
    trainer.on_train_epoch_end([trainer.train_step({"data": torch.ones(3, 1, 16, 16)})])
    squares = calls[0][1].square().mean((1, 2, 3))
    found = trainer.logger.get_value("train_loss_per_band", step=-1)
    assert [found[0], found[2]] == pytest.approx([float(squares[:2].mean()), float(squares[2])])  # without weights
    assert np.isnan(found[1])


def test_learning_rate_is_set_at_every_iteration(started, randn):
    options = {"num_epochs": 1, "num_iterations_per_epoch": 20, "warmup_iterations": 2, "learning_rate": 1.0}
    trainer, rates = started({f"pretraining.{name}": value for name, value in options.items()}), []
    trainer.on_train_epoch_start()
    for _ in range(4):
        trainer.train_step({"data": randn(1, 1, 16, 16)})
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    cosine = [0.5 * (1 + np.cos(np.pi * i / 18)) for i in (0, 1)]
    assert rates == pytest.approx([0.5, 1.0, *cosine])


def test_the_denoiser_learns_to_find_the_noise_in_constant_images(started):
    # There eps = (x - signal * 1) / sigma, while predicting zero, as at the start, costs 1.
    options = {"learning_rate": 0.02, "num_iterations_per_epoch": 30, "num_epochs": 1, "ema_decay": 0.9}
    options = {f"pretraining.{name}": value for name, value in options.items()}
    trainer = started({"denoiser.prediction_type": "epsilon", **options})
    trainer.on_train_epoch_start()
    losses = [trainer.train_step({"data": torch.ones(4, 1, 16, 16)})["loss"] for _ in range(30)]
    assert losses[0] == pytest.approx(1.0, abs=0.1)
    assert np.mean(losses[-10:]) < 0.6


def test_min_snr_weights_the_loss_of_each_image(started, inputs_of):
    epsilon = {"denoiser.prediction_type": "epsilon"}
    plain, weighted = (started({"pretraining.loss_weighting": how, **epsilon}) for how in ("prediction", "min_snr"))
    losses, calls = [], inputs_of(plain.network)
    for trainer in (plain, weighted):
        trainer.on_train_epoch_start()
        losses.append(float(trainer.train_step({"data": torch.ones(1, 1, 16, 16)})["loss"]))
    alpha_bar = float(plain.plain_network.denoiser.schedule.alpha_bar[calls[0][2]])
    snr = alpha_bar / (1 - alpha_bar)
    assert losses[1] == pytest.approx(losses[0] * min(snr, 5.0) / snr)
