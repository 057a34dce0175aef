"""Settings of the method: their way through the plans' JSON, and changes by dotted path."""

import json
from typing import Any

import pytest

from nnunet_diffusion_ensemble.method import (
    PLANS_KEY,
    ContrastiveSettings,
    DenoiserSettings,
    DiffusionMethod,
    EnsembleSettings,
    HeadSettings,
    LibrarySettings,
    PretrainingSettings,
    TrainingSettings,
)
from nnunet_diffusion_ensemble.method.keys import keys

# No value is the default, so that a setting lost on the way is missed.
UNUSUAL = DiffusionMethod(
    denoiser=DenoiserSettings(
        num_diffusion_steps=500,
        schedule="linear",
        prediction_type="epsilon",
        input_scale=(2.0, 0.5),
        input_shift=(-1.0, 0.25),
        library=LibrarySettings(name="monai", arguments={"channels": [4, 8], "name": None, "of": {"its": ["own"]}}),
    ),
    pretraining=PretrainingSettings(
        num_epochs=7,
        num_iterations_per_epoch=3,
        batch_size=5,
        learning_rate=1e-3,
        warmup_iterations=9,
        gradient_clip=2.0,
        ema_decay=0.99,
        validation_fraction=0.5,
        max_validation_images=8,
        timestep_bands=(3, 40),
        save_samples_every=2,
        num_samples=4,
        num_sampling_steps=11,
        seed=99,
        max_hours=0.5,
        loss_weighting="min_snr",
        min_snr_gamma=3.0,
        precision="bfloat16",
        augmentation="shift",
    ),
    ensemble=EnsembleSettings(
        network_class_name="a.Network",
        timesteps=(2, 30),
        single_timestep=5,
        fusion="concatenated_features",
        averaging="sigmoid",
        adds_noise=False,
        noise_seed=7,
        images_per_pass=3,
        head=HeadSettings(hidden_features=(), kernel_size=5, interpolation="linear", finest_levels=2),
    ),
    training=TrainingSettings(
        num_epochs=2,
        num_iterations_per_epoch=4,
        num_val_iterations_per_epoch=6,
        optimizer="SGD",
        learning_rate=0.1,
        weight_decay=0.2,
        fine_tune_denoiser=True,
        head_first=0.5,
        denoiser_learning_rate=0.3,
        timesteps_per_image=None,
        augmentation="shift",
        precision="float16",
    ),
    mirror_axes=(0, 2),
    pretrained_checkpoint="/somewhere/checkpoint_final.pth",
    contrastive=ContrastiveSettings(
        num_epochs=7,
        num_iterations_per_epoch=3,
        learning_rate=1e-4,
        temperature=0.5,
        projection_features=16,
        num_decoder_stages=1,
        num_regions=5,
        region_size=2,
        pretrained_checkpoint="/elsewhere/checkpoint_final.pth",
    ),
)


def plans(**changes: Any) -> dict[str, Any]:
    """One configuration of the plans with the default settings and some changed."""
    return {"patch_size": [16, 16], PLANS_KEY: changes}


# A number of timesteps an image does not go with concatenated features.
TWO_TIMESTEPS_AN_IMAGE = UNUSUAL.with_options({"ensemble.fusion": "mean_prediction", "training.timesteps_per_image": 2})


def value_at(settings: Any, path: str) -> Any:
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


def test_no_value_of_the_unusual_settings_is_the_default() -> None:
    # Below `library`, which is null by default, there are none.
    paths = [key.path for key in keys() if not key.path.startswith("denoiser.library")]
    assert [path for path in paths if value_at(UNUSUAL, path) == value_at(DiffusionMethod(), path)] == []


@pytest.mark.parametrize("method", [DiffusionMethod(), UNUSUAL, TWO_TIMESTEPS_AN_IMAGE])
def test_settings_survive_the_way_through_json(method: DiffusionMethod) -> None:
    configuration = json.loads(json.dumps({PLANS_KEY: method.to_plans()}))
    assert DiffusionMethod.from_plans(configuration) == method


def test_mirroring_switched_off_differs_from_mirroring_left_to_nnunet() -> None:
    assert DiffusionMethod.from_plans(plans(mirror_axes=[])).mirror_axes == ()
    assert DiffusionMethod.from_plans(plans(mirror_axes=None)).mirror_axes is None


def test_plans_hold_every_setting_in_words_that_json_knows() -> None:
    written = DiffusionMethod().to_plans()
    assert written["ensemble"]["timesteps"] == [1, 10, 25, 50, 200, 400, 600, 800]
    assert written["ensemble"]["head"] == {
        "hidden_features": [128, 32],
        "kernel_size": 3,
        "interpolation": "nearest",
        "finest_levels": None,
    }
    assert written["denoiser"]["input_scale"] == [1.0]


def test_a_setting_missing_from_the_plans_takes_its_default() -> None:
    method = DiffusionMethod.from_plans(plans(ensemble={"timesteps": [3], "head": {"interpolation": "linear"}}))
    assert method == DiffusionMethod(
        ensemble=EnsembleSettings(timesteps=(3,), head=HeadSettings(interpolation="linear"))
    )


def test_plans_of_another_planner_are_refused_with_the_planner_to_use() -> None:
    with pytest.raises(ValueError, match=r"no 'diffusion' settings.*-pl DiffusionEnsemblePlanner"):
        DiffusionMethod.from_plans({"patch_size": [16, 16]})


@pytest.mark.parametrize("timesteps", [(0,), (999,), (999, 0)])
def test_the_first_and_the_last_timestep_are_allowed(timesteps: tuple[int, ...]) -> None:
    assert DiffusionMethod(ensemble=EnsembleSettings(timesteps=timesteps)).ensemble.timesteps == timesteps


def test_options_change_what_their_path_names_and_nothing_else() -> None:
    changed = UNUSUAL.with_options({"ensemble.head.interpolation": "nearest", "mirror_axes": None})
    assert changed.ensemble.head == UNUSUAL.ensemble.head.changed(interpolation="nearest")
    assert changed.mirror_axes is None
    assert changed.with_options({"ensemble.head.interpolation": "linear", "mirror_axes": (0, 2)}) == UNUSUAL


def test_options_leave_the_original_as_it_was() -> None:
    method = DiffusionMethod()
    method.with_options({"training.num_epochs": 3})
    assert method == DiffusionMethod()


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"diffusion\.ensemble\.timesteps must be below .* 1000; got \[2000\]"):
        DiffusionMethod().with_options({"ensemble.timesteps": (2000,)})


@pytest.mark.parametrize("reverse", [False, True])
def test_options_that_fit_each_other_are_taken_in_any_order(reverse: bool) -> None:
    options = {
        "denoiser.num_diffusion_steps": 100,
        "ensemble.timesteps": (1, 50),
        "pretraining.timestep_bands": (10,),
    }
    method = DiffusionMethod().with_options(dict(sorted(options.items(), reverse=reverse)))
    assert (method.denoiser.num_diffusion_steps, method.ensemble.timesteps) == (100, (1, 50))


def test_options_below_null_make_what_they_need() -> None:
    method = DiffusionMethod().with_options({"denoiser.library.name": "monai"})
    assert method.denoiser.library == LibrarySettings(name="monai")


def test_settings_cannot_be_changed_after_their_check() -> None:
    with pytest.raises(ValueError, match="frozen"):
        DiffusionMethod().training.num_epochs = 3
