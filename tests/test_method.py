"""Settings of the method: their way through the plans' JSON, and every setting that is refused."""

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
    timesteps_on_the_way,
)

# No value is the default, so that a setting lost on the way is missed.
UNUSUAL = DiffusionMethod(
    DenoiserSettings(
        500,
        "linear",
        "v_prediction",
        (2.0, 0.5),
        (-1.0, 0.25),
        LibrarySettings("monai", {"channels": [4, 8], "name": None, "of": {"its": ["own"]}}),
    ),
    PretrainingSettings(7, 3, 5, 1e-3, 9, 2.0, 0.99, 0.5, 8, (3, 40), 2, 4, 11, 99),
    EnsembleSettings(
        "a.Network", (2, 30), 5, "concatenated_features", "sigmoid", False, 7, 3, HeadSettings((), 5, "linear", 2)
    ),
    TrainingSettings(2, 4, 6, "SGD", 0.1, 0.2, True, 0.3, None),
    (0, 2),
    "/somewhere/checkpoint_final.pth",
    ContrastiveSettings(7, 3, 1e-4, 0.5, 16, 1, 5, 2, "/elsewhere/checkpoint_final.pth"),
)


def plans(**changes: Any) -> dict[str, Any]:
    """One configuration of the plans with the default settings and some changed."""
    return {"patch_size": [16, 16], PLANS_KEY: changes}


# A number of timesteps an image does not go with concatenated features.
TWO_TIMESTEPS_AN_IMAGE = UNUSUAL.with_options({"ensemble.fusion": "mean_prediction", "training.timesteps_per_image": 2})


@pytest.mark.parametrize("method", [UNUSUAL, TWO_TIMESTEPS_AN_IMAGE])
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timestep": [1]}, r"Unknown settings \['timestep'\] in 'diffusion' of the plans. Allowed: .*'denoiser'"),
        ({"denoiser": {"beta": 1}}, r"Unknown settings \['beta'\] in 'diffusion.denoiser'.*'schedule'"),
        ({"ensemble": {"head": {"depth": 3}}}, r"Unknown settings \['depth'\] in 'diffusion.ensemble.head'"),
    ],
)
def test_an_unknown_setting_is_named_with_its_place(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiffusionMethod.from_plans(plans(**settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ensemble": {"timesteps": []}}, r"ensemble.timesteps must be one or more different timesteps, got \[\]"),
        ({"ensemble": {"timesteps": [5, 1, 5]}}, r"ensemble.timesteps must be one or more different.*\[5, 1, 5\]"),
        ({"ensemble": {"timesteps": [1, 1000]}}, r"ensemble.timesteps must lie between 0 and 999 .*\[1, 1000\]"),
        ({"ensemble": {"timesteps": [-1]}}, r"ensemble.timesteps must lie between 0 and 999"),
        ({"pretraining": {"precision": "half"}}, "pretraining.precision must be one of float32, float16, bfloat16"),
        ({"pretraining": {"timestep_bands": [100, 100]}}, "pretraining.timestep_bands must rise and lie between 1"),
        ({"pretraining": {"timestep_bands": [0, 100]}}, "pretraining.timestep_bands must rise and lie between 1 and"),
        ({"pretraining": {"timestep_bands": [1000]}}, "pretraining.timestep_bands must rise and lie between 1 and 999"),
        ({"denoiser": {"num_diffusion_steps": 100}}, r"between 0 and 99 \(num_diffusion_steps is 100\)"),
        ({"ensemble": {"averaging": "median"}}, "ensemble.averaging must be one of softmax, sigmoid, got 'median'"),
        ({"ensemble": {"head": {"interpolation": "cubic"}}}, "interpolation must be one of nearest, linear"),
        ({"training": {"optimizer": "Adam"}}, "training.optimizer must be one of AdamW, SGD, got 'Adam'"),
        ({"denoiser": {"library": {"name": "keras"}}}, "library.name must be one of diffusers, monai, guided_diff"),
        ({"denoiser": {"library": {}}}, "library.name must be one of diffusers, monai, guided_diffusion, got ''"),
        ({"denoiser": {"library": {"url": 1}}}, r"Unknown settings \['url'\] in 'diffusion.denoiser.library'"),
        ({"ensemble": {"single_timestep": 1000}}, r"ensemble.single_timestep must lie between 0 and 999 .*\[1000\]"),
        ({"ensemble": {"fusion": "sum"}}, "fusion must be one of mean_prediction, concatenated_features, got 'sum'"),
        ({"ensemble": {"adds_noise": "no"}}, "ensemble.adds_noise must be one of True, False, got 'no'"),
        ({"ensemble": {"head": {"finest_levels": 0}}}, "ensemble.head.finest_levels must be positive, got 0"),
        ({"training": {"fine_tune_denoiser": None}}, "training.fine_tune_denoiser must be one of True, False"),
        ({"training": {"denoiser_learning_rate": 0.0}}, "training.denoiser_learning_rate must be positive, got 0"),
        ({"training": {"timesteps_per_image": 9}}, "timesteps_per_image must lie between 1 and 8, .*; got 9"),
        ({"training": {"timesteps_per_image": 0}}, "timesteps_per_image must lie between 1 and 8, .*; got 0"),
        ({"training": {"timesteps_per_image": 2.5}}, "timesteps_per_image must lie between 1 and 8, .*; got 2.5"),
        (
            {"training": {"timesteps_per_image": 2}, "ensemble": {"fusion": "concatenated_features"}},
            "timesteps_per_image is 2, but a head on concatenated features .* needs those of all timesteps",
        ),
        ({"ensemble": {"head": {"kernel_size": 2}}}, "ensemble.head.kernel_size must be odd, .*; got 2"),
        ({"training": {"learning_rate": "fast"}}, "training.learning_rate must be positive, got fast"),
        ({"training": {"num_epochs": None}}, "training.num_epochs must be positive, got None"),
        ({"ensemble": {"images_per_pass": 0}}, "ensemble.images_per_pass must be positive, got 0"),
        ({"pretraining": {"num_epochs": 0}}, "pretraining.num_epochs must be positive"),
        ({"pretraining": {"num_iterations_per_epoch": 0}}, "pretraining.num_iterations_per_epoch must be positive"),
        ({"pretraining": {"batch_size": -2}}, "pretraining.batch_size must be positive, got -2"),
        ({"pretraining": {"learning_rate": 0.0}}, "pretraining.learning_rate must be positive"),
        ({"pretraining": {"num_samples": 0}}, "pretraining.num_samples must be positive"),
        ({"training": {"num_epochs": 0}}, "training.num_epochs must be positive"),
        ({"training": {"num_iterations_per_epoch": 0}}, "training.num_iterations_per_epoch must be positive"),
        ({"training": {"num_val_iterations_per_epoch": 0}}, "training.num_val_iterations_per_epoch must be positive"),
        ({"contrastive": {"temperature": 0.0}}, "contrastive.temperature must be positive, got 0.0"),
        ({"contrastive": {"num_regions": 1}}, "contrastive.num_regions must be at least 2: regions are compared"),
        ({"contrastive": {"num_regions": 0}}, "contrastive.num_regions must be positive"),
        ({"training": {"learning_rate": -1.0}}, "training.learning_rate must be positive"),
    ],
)
def test_a_contradictory_setting_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiffusionMethod.from_plans(plans(**settings))


@pytest.mark.parametrize("timesteps", [(0,), (999,), (999, 0)])
def test_the_first_and_the_last_timestep_are_allowed(timesteps: tuple[int, ...]) -> None:
    assert DiffusionMethod(ensemble=EnsembleSettings(timesteps=timesteps)).ensemble.timesteps == timesteps


def test_options_change_what_their_path_names_and_nothing_else() -> None:
    changed = UNUSUAL.with_options({"ensemble.head.interpolation": "nearest", "mirror_axes": None})
    assert changed.ensemble.head == HeadSettings((), 5, "nearest", 2)
    assert changed.mirror_axes is None
    assert changed.with_options({"ensemble.head.interpolation": "linear", "mirror_axes": (0, 2)}) == UNUSUAL


def test_options_leave_the_original_as_it_was() -> None:
    method = DiffusionMethod()
    method.with_options({"training.num_epochs": 3})
    assert method == DiffusionMethod()


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"ensemble\.timesteps must lie between"):
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


# Worked by hand: of 100 steps, 50 becomes 5, 1 and 4 both 0, and 999, which rounds to 100, the last.
@pytest.mark.parametrize(
    ("timesteps", "steps", "expected"),
    [((250, 50), 1000, (50, 250)), ((1, 4, 50), 100, (0, 5)), ((800, 999), 100, (80, 99)), ((1, 999), 4000, (4, 3996))],
)
def test_timesteps_of_another_length_are_as_far_on_the_way(timesteps, steps, expected) -> None:
    assert timesteps_on_the_way(timesteps, steps) == expected
