"""Every kind of wrong value in the plans, and the sentence that it gets."""

import math
import re
from typing import Any

import pytest

from nnunet_diffusion_ensemble.method import DenoiserSettings, DiffusionMethod, HeadSettings

COUNT, POSITIVE = "a whole number of at least 1", "a number above 0"

# key below `diffusion`, what came, what is allowed, and how the value is shown
WRONG: list[tuple[str, Any, str, str]] = [
    ("denoiser.num_diffusion_steps", 1, "a whole number of at least 2", "1"),
    ("denoiser.num_diffusion_steps", 1000.0, "a whole number of at least 2", "1000.0"),
    ("denoiser.schedule", "cosin", "cosine, linear or checkpoint", "'cosin'"),
    (
        "denoiser.schedule",
        "checkpoint",
        "cosine or linear for a denoiser that is not of another library",
        "'checkpoint'",
    ),
    ("denoiser.prediction_type", "v", "epsilon, v_prediction or sample", "'v'"),
    ("denoiser.input_scale", [0], "without 0, which would leave nothing of the image", "[0.0]"),
    ("denoiser.input_scale", [], "a list of one or more, each a number", "[]"),
    ("denoiser.input_scale", 2.0, "a list of one or more, each a number", "2.0"),
    ("denoiser.input_scale", [1.0, math.nan], "a list of one or more, each a finite number", "[1.0, nan]"),
    ("denoiser.input_shift", [0.0, "1"], "a list of one or more, each a number", "[0.0, '1']"),
    ("denoiser.library.name", "keras", "diffusers, monai or guided_diffusion", "'keras'"),
    ("pretraining.num_epochs", 2.5, COUNT, "2.5"),
    ("pretraining.num_epochs", 0, COUNT, "0"),
    ("pretraining.num_epochs", True, COUNT, "true"),
    ("pretraining.num_iterations_per_epoch", "250", COUNT, "'250'"),
    ("pretraining.batch_size", 0, COUNT, "0"),
    ("pretraining.learning_rate", math.inf, "a finite number above 0", "inf"),
    ("pretraining.learning_rate", math.nan, "a finite number above 0", "nan"),
    ("pretraining.learning_rate", 0.0, POSITIVE, "0.0"),
    ("pretraining.warmup_iterations", -1, "a whole number of at least 0", "-1"),
    ("pretraining.gradient_clip", 0, POSITIVE, "0"),
    ("pretraining.ema_decay", 2, "a number of at least 0 and below 1", "2"),
    ("pretraining.ema_decay", 1, "a number of at least 0 and below 1", "1"),
    ("pretraining.validation_fraction", -1, "a number of at least 0 and below 1", "-1"),
    ("pretraining.validation_fraction", 1.5, "a number of at least 0 and below 1", "1.5"),
    ("pretraining.max_validation_images", 0, COUNT, "0"),
    ("pretraining.timestep_bands", [0, 100], "a list, each a whole number of at least 1", "[0, 100]"),
    ("pretraining.timestep_bands", [100, 100], "rising", "[100, 100]"),
    ("pretraining.timestep_bands", [1000], "below denoiser.num_diffusion_steps, which is 1000", "[1000]"),
    ("pretraining.save_samples_every", 0, COUNT, "0"),
    ("pretraining.num_samples", 0, COUNT, "0"),
    ("pretraining.num_sampling_steps", 0, COUNT, "0"),
    ("pretraining.num_sampling_steps", 1001, "at most denoiser.num_diffusion_steps, which is 1000", "1001"),
    ("pretraining.seed", -1, "a whole number of at least 0", "-1"),
    ("pretraining.max_hours", 0, "a number above 0, or null", "0"),
    ("pretraining.loss_weighting", "snr", "noise, min_snr or prediction", "'snr'"),
    ("pretraining.min_snr_gamma", -5.0, POSITIVE, "-5.0"),
    ("pretraining.precision", "half", "float32, float16 or bfloat16, or null", "'half'"),
    ("pretraining.augmentation", "strong", "nnunet or shift", "'strong'"),
    ("ensemble.network_class_name", "", "text that is not empty", "''"),
    ("ensemble.timesteps", 5, "a list of one or more, each a whole number of at least 0", "5"),
    ("ensemble.timesteps", "15", "a list of one or more, each a whole number of at least 0", "'15'"),
    ("ensemble.timesteps", [], "a list of one or more, each a whole number of at least 0", "[]"),
    ("ensemble.timesteps", [1, None], "a list of one or more, each a whole number of at least 0", "[1, null]"),
    ("ensemble.timesteps", [-1], "a list of one or more, each a whole number of at least 0", "[-1]"),
    ("ensemble.timesteps", [1, 1000], "below denoiser.num_diffusion_steps, which is 1000", "[1, 1000]"),
    ("ensemble.single_timestep", 1000, "below denoiser.num_diffusion_steps, which is 1000", "1000"),
    ("ensemble.fusion", "sum", "mean_prediction or concatenated_features", "'sum'"),
    ("ensemble.averaging", "median", "softmax or sigmoid", "'median'"),
    ("ensemble.adds_noise", "no", "true or false", "'no'"),
    ("ensemble.adds_noise", 1, "true or false", "1"),
    ("ensemble.noise_seed", 1.0, "a whole number of at least 0", "1.0"),
    ("ensemble.images_per_pass", 0, COUNT, "0"),
    ("ensemble.head.hidden_features", ["a"], f"a list, each {COUNT}", "['a']"),
    ("ensemble.head.hidden_features", [128, 0], f"a list, each {COUNT}", "[128, 0]"),
    ("ensemble.head.kernel_size", 2, "odd, so that what a pixel depends on lies around it", "2"),
    ("ensemble.head.kernel_size", -1, "an odd whole number of at least 1", "-1"),
    ("ensemble.head.interpolation", "cubic", "nearest or linear", "'cubic'"),
    ("ensemble.head.finest_levels", 0, f"{COUNT}, or null", "0"),
    ("training.num_epochs", None, COUNT, "null"),
    ("training.num_val_iterations_per_epoch", 0, COUNT, "0"),
    ("training.optimizer", "Adam", "AdamW or SGD", "'Adam'"),
    ("training.learning_rate", "fast", POSITIVE, "'fast'"),
    ("training.learning_rate", True, POSITIVE, "true"),
    ("training.weight_decay", -0.1, "a number of at least 0", "-0.1"),
    ("training.fine_tune_denoiser", None, "true or false", "null"),
    ("training.denoiser_learning_rate", 0.0, POSITIVE, "0.0"),
    ("training.head_first", 1.0, "a number of at least 0 and below 1", "1.0"),
    ("training.augmentation", "strong", "nnunet or shift", "'strong'"),
    ("training.precision", 16, "float32, float16 or bfloat16, or null", "16"),
    ("training.timesteps_per_image", 0, f"{COUNT}, or null", "0"),
    ("training.timesteps_per_image", 9, "at most 8, the number of ensemble.timesteps, or null for all of them", "9"),
    ("mirror_axes", [7], "a list, each a whole number from 0 to 2, or null", "[7]"),
    ("mirror_axes", 0, "a list, each a whole number from 0 to 2, or null", "0"),
    ("mirror_axes", [2], "below 2, the number of axes of the configuration", "[2]"),
    ("pretrained_checkpoint", "", "text that is not empty, or null", "''"),
    ("contrastive.temperature", 0.0, POSITIVE, "0.0"),
    ("contrastive.num_regions", 1, "a whole number of at least 2", "1"),
    ("contrastive.region_size", 0, COUNT, "0"),
]


def plans(path: str, value: Any) -> dict[str, Any]:
    """A configuration of 2D plans in which one setting is given."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return {"patch_size": [16, 16], "diffusion": value}


@pytest.mark.parametrize(("path", "value", "allowed", "shown"), WRONG, ids=[f"{row[0]}={row[1]}" for row in WRONG])
def test_a_wrong_value_is_told_with_its_key_what_came_and_what_is_allowed(
    path: str, value: Any, allowed: str, shown: str
) -> None:
    sentence = f"diffusion.{path} must be {allowed}; got {shown}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        DiffusionMethod.from_plans(plans(path, value))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timestep": [1]}, "diffusion.timestep is unknown. Known are denoiser, pretraining, ensemble, training,"),
        (
            {"denoiser": {"scheduel": "linear"}},
            "diffusion.denoiser.scheduel is unknown; did you mean schedule? Known are num_diffusion_steps, schedule,",
        ),
        ({"denoiser": {"library": {"name": "monai", "url": 1}}}, "diffusion.denoiser.library.url is unknown. Known"),
        ({"ensemble": {"head": {"depth": 3}}}, "diffusion.ensemble.head.depth is unknown. Known are hidden_features,"),
        ({"denoiser": {"library": {}}}, "diffusion.denoiser.library.name is missing; known are name, arguments."),
        ({"ensemble": 3}, "diffusion.ensemble must have network_class_name, timesteps,"),
        ({"ensemble": {"head": [1]}}, "diffusion.ensemble.head must have hidden_features, kernel_size,"),
        ({"denoiser": None}, "diffusion.denoiser must have num_diffusion_steps, schedule,"),
        ([], "diffusion must have denoiser, pretraining, ensemble,"),
        ({"ensemble": {"timesteps": [5, 1, 5]}}, "diffusion.ensemble.timesteps: 5 twice; name each once."),
        ({"mirror_axes": [0, 0]}, "diffusion.mirror_axes: 0 twice; name each once."),
        (
            {"denoiser": {"input_scale": [1.0, 2.0], "input_shift": [0.0, 1.0, 2.0]}},
            "diffusion.denoiser.input_shift must be as many numbers as input_scale has (2), or one; got [0.0, 1.0,",
        ),
        (
            {"training": {"timesteps_per_image": 2}, "ensemble": {"fusion": "concatenated_features"}},
            "diffusion.training.timesteps_per_image must be null where ensemble.fusion is concatenated_features,",
        ),
        (
            {"denoiser": {"num_diffusion_steps": 100}, "pretraining": {"num_sampling_steps": 101}},
            "diffusion.pretraining.num_sampling_steps must be at most denoiser.num_diffusion_steps, which is 100;",
        ),
    ],
)
def test_what_is_unknown_missing_or_contradictory_is_told(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        DiffusionMethod.from_plans({"diffusion": settings})


def test_all_mistakes_are_told_at_once() -> None:
    settings = {"denoiser": {"schedule": "cosin"}, "training": {"num_epochs": 0, "num_epoch": 1}}
    with pytest.raises(ValueError, match="These settings are wrong") as raised:
        DiffusionMethod.from_plans({"diffusion": settings})
    keys = [line.split()[0].removeprefix("diffusion.") for line in str(raised.value).splitlines()[1:]]
    assert keys == ["denoiser.schedule", "training.num_epochs", "training.num_epoch"]


@pytest.mark.parametrize("configuration", [True, None, "2d", [1]])
def test_a_configuration_that_is_no_object_is_told(configuration: Any) -> None:
    with pytest.raises(ValueError, match="A configuration of the plans must be an object"):
        DiffusionMethod.from_plans(configuration)


def test_a_third_axis_is_mirrored_in_3d_only() -> None:
    settings = {"diffusion": {"mirror_axes": [2]}}
    assert DiffusionMethod.from_plans({"patch_size": [8, 8, 8], **settings}).mirror_axes == (2,)


def test_the_settings_of_the_denoiser_are_checked_without_the_others() -> None:
    configuration = {"diffusion": {"denoiser": {"schedule": "linear"}, "training": {"num_epochs": 0}}}
    assert DenoiserSettings.from_plans(configuration).schedule == "linear"
    with pytest.raises(ValueError, match=r"^diffusion\.denoiser\.prediction_type must be"):
        DenoiserSettings.from_plans(plans("denoiser.prediction_type", "v"))


def test_settings_made_in_code_are_checked_as_those_of_plans() -> None:
    with pytest.raises(ValueError, match=r"^diffusion\.ensemble\.head\.kernel_size must be odd, .*; got 4\.$"):
        HeadSettings(kernel_size=4)
    with pytest.raises(ValueError, match=r"^diffusion\.ensemble\.head\.kernel_size must be odd, .*; got 4\.$"):
        HeadSettings().changed(kernel_size=4)
