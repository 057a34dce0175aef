"""`nnunet-diffusion plan`: extract the fingerprint and plan, with options of the method."""

import argparse
from collections.abc import Mapping
from typing import Any

from nnunet_diffusion_ensemble.cli.argument_types import DENOISER_HELP, add_dataset_arguments, add_no_verify, add_trust
from nnunet_diffusion_ensemble.method.keys import Key, keys
from nnunet_diffusion_ensemble.planning.options import PlanningOptions

HELP = "extract the fingerprint and plan, with options of the method"

# Options with the setting that each changes: of `PlanningOptions`, and of the method by its path in the plans. The
# setting itself says type, help and default.
PLANNING_OPTIONS = {
    "--base-features": "base_features",
    "--blocks-per-stage": "blocks_per_stage",
    "--batch-size": "batch_size",
    "--gpu-memory-target": "gpu_memory_target_gb",
    "--target-spacing": "target_spacing",
    "--image-size": "image_size",
    "--whole-images": "whole_images",
}
METHOD_OPTIONS = {
    "--timesteps": "ensemble.timesteps",
    "--single-timestep": "ensemble.single_timestep",
    "--timesteps-per-image": "training.timesteps_per_image",
    "--hidden-features": "ensemble.head.hidden_features",
    "--kernel-size": "ensemble.head.kernel_size",
    "--interpolation": "ensemble.head.interpolation",
    "--images-per-pass": "ensemble.images_per_pass",
    "--mirror-axes": "mirror_axes",
    "--epochs": "training.num_epochs",
    "--iterations": "training.num_iterations_per_epoch",
    "--learning-rate": "training.learning_rate",
    "--fine-tune-denoiser": "training.fine_tune_denoiser",
    "--head-first": "training.head_first",
    "--denoiser-learning-rate": "training.denoiser_learning_rate",
    "--augmentation": "training.augmentation",
    "--training-precision": "training.precision",
    "--pretraining-epochs": "pretraining.num_epochs",
    "--pretraining-max-hours": "pretraining.max_hours",
    "--pretraining-iterations": "pretraining.num_iterations_per_epoch",
    "--pretraining-batch-size": "pretraining.batch_size",
    "--pretraining-learning-rate": "pretraining.learning_rate",
    "--pretraining-augmentation": "pretraining.augmentation",
    "--loss-weighting": "pretraining.loss_weighting",
    "--min-snr-gamma": "pretraining.min_snr_gamma",
    "--precision": "pretraining.precision",
    "--diffusion-steps": "denoiser.num_diffusion_steps",
    "--schedule": "denoiser.schedule",
    "--prediction-type": "denoiser.prediction_type",
}
NO_AXES = (-1,)  # argparse knows no empty list


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    add_dataset_arguments(parser)
    _add_options(parser, PLANNING_OPTIONS, {key.path: key for key in keys(PlanningOptions)})
    parser.add_argument("--clean", action="store_true", help="extract the fingerprint anew")
    add_no_verify(parser)
    parser.add_argument("--unlabelled", action="store_true", help="the data set has only imagesUn: plan a pretraining")
    parser.add_argument(
        "--denoiser", help=f"plan for the use of a pretrained denoiser: {DENOISER_HELP}, or LIBRARY:PATH"
    )
    add_trust(parser)
    _add_options(parser, METHOD_OPTIONS, {key.path: key for key in keys()})


def _add_options(parser: argparse.ArgumentParser, options: Mapping[str, str], known: Mapping[str, Key]) -> None:
    for option, path in options.items():
        key = known[path]
        if key.value_type is bool:
            parser.add_argument(option, action=argparse.BooleanOptionalAction, help=_help(key))
            continue
        parser.add_argument(option, type=key.value_type, nargs="+" if key.is_list else None, help=_help(key))


def _help(key: Key) -> str:
    """The key's description as plain text."""
    none = "; -1 for none" if key.path == "mirror_axes" else ""
    default = "" if key.default == "null" else f"; default {key.default}"
    allowed = key.allowed.removesuffix(", or null")
    return f"{key.description} ({allowed}{none}{default})".replace("`", "").replace("%", "%%")


def run(args: argparse.Namespace) -> int:
    """Plans, and says what comes next."""
    from nnunet_diffusion_ensemble.planning.plan import plan

    options = PlanningOptions(**_given(args, PLANNING_OPTIONS), method=_method_changes(args))
    name = plan(
        args.dataset,
        options,
        args.plans_name,
        args.num_processes,
        args.clean,
        args.unlabelled,
        args.denoiser,
        not args.no_verify,
        args.trust,
    )
    print(f"\nPlanned. Next: nnunet-diffusion preprocess -d {args.dataset} -c CONFIGURATION -p {name}")
    return 0


def _given(args: argparse.Namespace, options: Mapping[str, str]) -> dict[str, Any]:
    """By setting, the values of the options that are given."""
    values = {path: getattr(args, option[2:].replace("-", "_")) for option, path in options.items()}
    return {path: tuple(v) if isinstance(v, list) else v for path, v in values.items() if v is not None}


def _method_changes(args: argparse.Namespace) -> dict[str, Any]:
    changes = _given(args, METHOD_OPTIONS)
    if changes.get("mirror_axes") == NO_AXES:
        changes["mirror_axes"] = ()
    return changes
