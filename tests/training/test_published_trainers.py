"""Trainers of the paper's rows: each is its definition whatever the plans say, trains, and is rebuilt from plans."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_diffusion_ensemble.denoiser.pretrained import read_pretrained
from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.network.ensemble import TimestepEnsembleNetwork
from nnunet_diffusion_ensemble.nnunet.register import PUBLISHED_TRAINERS
from nnunet_diffusion_ensemble.trainers import published_trainers
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

EIGHT, THREE = [1, 10, 25, 50, 200, 400, 600, 800], [50, 150, 250]
# Timesteps, their fusion, hidden layers, levels read, noise, whether the denoiser learns.
DEFINITIONS: dict[str, tuple] = {
    "TEDMTrainer": (EIGHT, "mean_prediction", [128, 32], None, True, False),
    "LEDMTrainer": (THREE, "concatenated_features", [128, 32], None, True, False),
    "LEDMeTrainer": (EIGHT, "concatenated_features", [128, 32], None, True, False),
    "PDDMTrainer": ([0], "mean_prediction", [], 1, False, True),
    "SingleTimestepTrainer": ([7], "mean_prediction", [], None, True, False),
    "SingleTimestep1Trainer": ([1], "mean_prediction", [], None, True, False),
    "SingleTimestep10Trainer": ([10], "mean_prediction", [], None, True, False),
    "SingleTimestep25Trainer": ([25], "mean_prediction", [], None, True, False),
    "SingleTimestep50Trainer": ([50], "mean_prediction", [], None, True, False),
    "SingleTimestep500Trainer": ([500], "mean_prediction", [], None, True, False),
    "SingleTimestep950Trainer": ([950], "mean_prediction", [], None, True, False),
}
# Plans in which every setting of a definition is another one.
OTHER_PLANS = {
    "ensemble.timesteps": (3, 4, 5),
    "ensemble.single_timestep": 7,
    "ensemble.adds_noise": False,
    "ensemble.head.hidden_features": (6,),
    "ensemble.head.interpolation": "linear",
    "ensemble.head.finest_levels": 2,
    "training.fine_tune_denoiser": True,
    "training.head_first": 0.5,
    "training.timesteps_per_image": 2,
    "training.augmentation": "shift",
}
# One of each kind; variants of a kind differ in a number.
KINDS = ["TEDMTrainer", "LEDMTrainer", "PDDMTrainer", "SingleTimestepTrainer"]
REGIONS = {"background": 0, "whole": [1, 2], "part": [2]}


def trainer_class(name: str) -> type:
    return getattr(published_trainers, name)


@pytest.fixture
def started(make_trainer: Callable, randomise: Callable) -> Callable[..., Any]:
    """Trainers of a name with random weights, at the start of an epoch."""

    def start(name: str, options: dict[str, Any] | None = None, **others: Any) -> Any:
        trainer = make_trainer(trainer_class(name), options, **others)
        trainer.initialize()
        randomise(trainer.network)
        trainer.on_train_epoch_start()
        return trainer

    return start


def test_every_row_is_registered() -> None:
    assert set(PUBLISHED_TRAINERS) == set(DEFINITIONS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_the_plans_beside_the_model_say_the_definition_whatever_the_plans_said(
    name: str, make_trainer: Callable
) -> None:
    trainer = make_trainer(trainer_class(name), OTHER_PLANS)
    method = trainer.plans_manager.plans["configurations"]["2d"]["diffusion"]
    ensemble, training = method["ensemble"], method["training"]
    head = ensemble["head"]
    found = (ensemble["timesteps"], ensemble["fusion"], head["hidden_features"], head["finest_levels"])
    found += (ensemble["adds_noise"], training["fine_tune_denoiser"])
    assert found == DEFINITIONS[name]
    assert (head["interpolation"], training["timesteps_per_image"]) == ("nearest", None)
    assert (training["augmentation"], training["head_first"]) == ("nnunet", 0.0)
    assert trainer.method == DiffusionMethod.from_plans({"diffusion": method})


def test_the_trainer_of_the_package_leaves_the_plans_as_they_are(make_trainer: Callable) -> None:
    trainer = make_trainer(DiffusionEnsembleTrainer, OTHER_PLANS)
    assert trainer.method.with_options(OTHER_PLANS) == trainer.method


@pytest.mark.parametrize(
    ("name", "expected"), [("TEDMTrainer", (0, 1, 2, 5, 20, 40, 60, 80)), ("SingleTimestep950Trainer", (95,))]
)
def test_timesteps_of_a_shorter_diffusion_process_are_as_far_on_the_way(
    name: str, expected: tuple[int, ...], make_trainer: Callable
) -> None:
    options = {"denoiser.num_diffusion_steps": 100, "ensemble.timesteps": (1,), "pretraining.timestep_bands": (10,)}
    assert make_trainer(trainer_class(name), options).method.ensemble.timesteps == expected


def test_a_single_timestep_that_the_process_does_not_have_is_refused(make_trainer: Callable) -> None:
    with pytest.raises(ValueError, match=r"ensemble\.single_timestep must be below .* 1000; got 1000"):
        make_trainer(trainer_class("SingleTimestepTrainer"), {"ensemble.single_timestep": 1000})


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("labels", [{"background": 0, "organ": 1}, REGIONS, {"background": 0, "a": 1, "ignore": 2}])
def test_a_step_changes_what_the_method_trains(name: str, labels: dict, started: Callable, randn: Callable) -> None:
    has_regions = labels is REGIONS
    trainer = started(name, {"ensemble.averaging": "sigmoid" if has_regions else "softmax"}, labels=labels)
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    target = (randn(2, 2 if has_regions else 1, 16, 16) > 0).float()
    if "ignore" in labels:
        target[..., 12:] = 2
    batch = {"data": randn(2, 1, 16, 16), "target": target}
    assert torch.tensor(trainer.train_step(batch)["loss"]).isfinite()
    changed = {name for name, p in trainer.network.named_parameters() if not torch.equal(p, before[name])}
    head = {name for name in before if name.startswith("head.")}
    # A convolution's bias before a norm has no gradient but for rounding.
    denoiser = {name for name in before if name.startswith("denoiser.") and name.endswith(".weight")}
    denoiser -= {"denoiser.unet.output.weight"}
    assert head <= changed
    assert {name for name in changed - head if name.endswith(".weight")} == (
        denoiser if name == "PDDMTrainer" else set()
    )
    assert trainer.validation_step(batch)["tp_hard"].shape == ((2,) if has_regions else (1,))


@pytest.mark.parametrize("name", KINDS)
def test_the_network_of_the_checkpoint_is_built_from_the_changed_plans_alone(
    name: str, started: Callable, randn: Callable, tmp_path: Path
) -> None:
    trainer, images = started(name, OTHER_PLANS), randn(2, 1, 16, 16)
    trainer.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    checkpoint = torch.load(tmp_path / "checkpoint_final.pth", weights_only=False)
    manager = PlansManager(trainer.plans_manager.plans)  # what nnU-Net writes beside the model
    build = trainer_class(checkpoint["trainer_name"]).build_network_architecture
    network = build(manager, manager.get_configuration("2d"), 1, 2, False)
    network.load_state_dict(checkpoint["network_weights"])
    with torch.no_grad():
        assert torch.equal(network.eval()(images), trainer.network.eval()(images))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("averaging", ["softmax", "sigmoid"])
@pytest.mark.parametrize("topology", ["3d_anisotropic"])
def test_volumes_of_several_channels_are_trained_on_and_predicted(
    name: str, averaging: str, topology: str, architecture: Callable, size_of: Callable, randn: Callable
) -> None:
    plans_of = DiffusionMethod().with_options({"ensemble.averaging": averaging})
    method = plans_of.with_options(trainer_class(name).changes_to(plans_of))
    network = TimestepEnsembleNetwork(architecture(topology), 2, 3, method, size_of(topology))
    images, timesteps = randn(2, 2, *size_of(topology)), network.timesteps[:, None].expand(-1, 2)
    noise = randn(len(timesteps), *images.shape) if method.ensemble.adds_noise else None
    network(images, noise, timesteps).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    with torch.no_grad():
        prediction = network.eval()(images)
    assert prediction.shape == (2, 3, *size_of(topology))
    if averaging == "softmax":
        torch.testing.assert_close(prediction.exp().sum(1), torch.ones(2, *size_of(topology)))


@pytest.mark.parametrize("name", KINDS)
def test_the_order_of_nnunets_tiles_does_not_matter(
    name: str, started: Callable, randn: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, image = started(name), randn(1, 1, 40, 28)
    network = trainer.network.eval()
    with torch.no_grad():  # certainty would hide differences
        largest = network.timestep_logits(image[..., :16, :16]).abs().max()
        for parameter in network.head.seg_layers[-1].parameters():
            parameter.mul_(3 / largest)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    configuration, dataset = trainer.configuration_manager, trainer.dataset_json
    predictor.manual_initialization(network, trainer.plans_manager, configuration, None, dataset, name, None)
    tiles = predictor._internal_get_sliding_window_slicers
    found = []
    for order in (1, -1):
        monkeypatch.setattr(
            predictor, "_internal_get_sliding_window_slicers", lambda size, order=order: tiles(size)[::order]
        )
        found.append(predictor.predict_sliding_window_return_logits(image).float())
    assert len(tiles(image.shape[1:])) > 10
    # nnU-Net adds them up in float16.
    torch.testing.assert_close(*found, rtol=0, atol=0.1 * found[0].std().item())


def test_the_fine_tuned_denoiser_has_a_learning_rate_of_its_own_that_falls_alike(started: Callable) -> None:
    rates = {"training.learning_rate": 0.5, "training.denoiser_learning_rate": 0.02, "training.num_epochs": 10}
    trainer = started("PDDMTrainer", rates)
    head, denoiser = trainer.optimizer.param_groups
    assert {id(p) for p in head["params"]} == {id(p) for p in trainer.network.head.parameters()}
    learns = {id(p) for p in trainer.network.denoiser.parameters() if p.requires_grad}
    assert {id(p) for p in denoiser["params"]} == learns
    assert [head["lr"], denoiser["lr"]] == [0.5, 0.02]
    trainer.lr_scheduler.step(5)
    assert [head["lr"], denoiser["lr"]] == pytest.approx([0.5 * 0.5**0.9, 0.02 * 0.5**0.9])


def test_learning_rates_go_on_where_a_fine_tuning_was_interrupted(started: Callable, tmp_path: Path) -> None:
    rates = {"training.learning_rate": 0.5, "training.denoiser_learning_rate": 0.02, "training.num_epochs": 10}
    trainer = started("PDDMTrainer", rates)
    trainer.current_epoch = 4
    trainer.save_checkpoint(str(tmp_path / "saved.pth"))
    resumed = started("PDDMTrainer", rates)
    resumed.load_checkpoint(str(tmp_path / "saved.pth"))
    resumed.lr_scheduler.step(resumed.current_epoch)
    found = [group["lr"] for group in resumed.optimizer.param_groups]
    assert found == pytest.approx([0.5 * 0.5**0.9, 0.02 * 0.5**0.9])


def test_a_denoiser_fine_tuned_for_segmentation_is_not_taken_for_a_pretrained_one(
    started: Callable, tmp_path: Path
) -> None:
    for name in ("PDDMTrainer", "TEDMTrainer"):
        started(name).save_checkpoint(str(tmp_path / f"{name}.pth"))
    with pytest.raises(ValueError, match="PDDMTrainer has fine-tuned for segmentation: it does not denoise any more"):
        read_pretrained(tmp_path / "PDDMTrainer.pth")
    assert read_pretrained(tmp_path / "TEDMTrainer.pth").channels == 1


def test_plans_that_fine_tune_make_no_pretraining_unreadable(make_trainer: Callable, tmp_path: Path) -> None:
    trainer = make_trainer(DiffusionPretrainTrainer, {"training.fine_tune_denoiser": True})
    trainer.initialize()
    trainer.save_checkpoint(str(tmp_path / "pretrained.pth"))
    assert read_pretrained(tmp_path / "pretrained.pth").channels == 1
