"""`nnunet-diffusion plan`: extract the fingerprint and plan, with options of the method."""

import argparse

from nnunet_diffusion_ensemble.cli.argument_types import DENOISER_HELP, add_dataset_arguments, positive, positive_number

HELP = "extract the fingerprint and plan, with options of the method"

# Options of `plan` that change a setting of the method: option, path in the plans, type, several values, help.
METHOD_OPTIONS: tuple[tuple[str, str, type, bool, str], ...] = (
    ("--timesteps", "ensemble.timesteps", int, True, "timesteps of the ensemble, e.g. 1 50 200 400"),
    ("--single-timestep", "ensemble.single_timestep", int, False, "the one timestep of SingleTimestepTrainer (1)"),
    ("--timesteps-per-image", "training.timesteps_per_image", int, False, "so many drawn in training (1), of all"),
    ("--hidden-features", "ensemble.head.hidden_features", int, True, "hidden layers of the head, e.g. 128 32"),
    (
        "--kernel-size",
        "ensemble.head.kernel_size",
        int,
        False,
        "of the head's layers after the first (3), e.g. 1",
    ),
    ("--interpolation", "ensemble.head.interpolation", str, False, "how coarse features reach image size"),
    ("--images-per-pass", "ensemble.images_per_pass", int, False, "noised images in one pass of the denoiser"),
    ("--mirror-axes", "mirror_axes", int, True, "axes mirrored in augmentation and prediction; -1 for none"),
    ("--epochs", "training.num_epochs", int, False, "epochs of the segmentation training"),
    ("--iterations", "training.num_iterations_per_epoch", int, False, "iterations in each of them"),
    ("--learning-rate", "training.learning_rate", float, False, "of the segmentation training"),
    ("--pretraining-epochs", "pretraining.num_epochs", int, False, "epochs of the pretraining"),
    ("--pretraining-max-hours", "pretraining.max_hours", float, False, "wall-clock limit that ends it before"),
    ("--pretraining-iterations", "pretraining.num_iterations_per_epoch", int, False, "iterations in each of them"),
    ("--pretraining-batch-size", "pretraining.batch_size", int, False, "images in each of them"),
    ("--pretraining-learning-rate", "pretraining.learning_rate", float, False, "of the pretraining"),
    ("--loss-weighting", "pretraining.loss_weighting", str, False, "of the pretraining: noise, min_snr or prediction"),
    ("--min-snr-gamma", "pretraining.min_snr_gamma", float, False, "gamma of min_snr (5)"),
    ("--precision", "pretraining.precision", str, False, "of the pretraining: float32, float16 or bfloat16"),
    ("--diffusion-steps", "denoiser.num_diffusion_steps", int, False, "length of the diffusion process"),
    ("--schedule", "denoiser.schedule", str, False, "noise schedule: cosine or linear"),
    ("--prediction-type", "denoiser.prediction_type", str, False, "what is predicted: epsilon or v_prediction"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    add_dataset_arguments(parser)
    parser.add_argument("--base-features", type=positive, help="features of the first stage (nnU-Net: 32)")
    parser.add_argument(
        "--blocks-per-stage", type=positive, help="residual blocks in each stage (nnU-Net: 1 3 4 6 6 ...)"
    )
    parser.add_argument("--batch-size", type=positive, help="images in an iteration of the segmentation training")
    parser.add_argument("--gpu-memory-target", type=positive_number, help="in GB, as nnU-Net's -gpu_memory_target")
    parser.add_argument(
        "--target-spacing", type=positive_number, nargs=3, help="in mm, as nnU-Net's -overwrite_target_spacing"
    )
    parser.add_argument("--clean", action="store_true", help="extract the fingerprint anew")
    parser.add_argument("--unlabelled", action="store_true", help="the data set has only imagesUn: plan a pretraining")
    parser.add_argument(
        "--denoiser", help=f"plan for the use of a pretrained denoiser: {DENOISER_HELP}, or LIBRARY:PATH"
    )
    for option, _, kind, several, text in METHOD_OPTIONS:
        parser.add_argument(option, type=kind, nargs="+" if several else None, help=text)


def run(args: argparse.Namespace) -> int:
    """Plans, and says what comes next."""
    from nnunet_diffusion_ensemble.planning.plan import plan
    from nnunet_diffusion_ensemble.planning.planner import PlanningOptions

    options = PlanningOptions(args.base_features, args.blocks_per_stage, args.batch_size, _method_changes(args))
    name = plan(
        args.dataset,
        options,
        args.plans_name,
        args.gpu_memory_target,
        args.target_spacing,
        args.num_processes,
        args.clean,
        args.unlabelled,
        args.denoiser,
    )
    print(f"\nPlanned. Next: nnunet-diffusion preprocess -d {args.dataset} -c CONFIGURATION -p {name}")
    return 0


def _method_changes(args: argparse.Namespace) -> dict[str, object]:
    changes: dict[str, object] = {}
    for option, path, _, several, _ in METHOD_OPTIONS:
        value = getattr(args, option[2:].replace("-", "_"))
        if value is not None:
            changes[path] = tuple(value) if several else value
    if changes.get("mirror_axes") == (-1,):
        changes["mirror_axes"] = ()
    return changes
