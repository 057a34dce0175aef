"""Command line `nnunet-diffusion`. Each subcommand imports what it needs when it runs, so that help comes at once."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from nnunet_diffusion_ensemble import __version__, cli_benchmark, cli_few_label, cli_predict, cli_report, cli_train
from nnunet_diffusion_ensemble.argument_types import positive
from nnunet_diffusion_ensemble.cli_child import INTERRUPTED

DENOISER_HELP = "checkpoint of DiffusionPretrainTrainer or DiffusionEnsembleTrainer, or name of a shipped denoiser"
# Subcommands with a module of their own.
MODULES = {
    "predict": (cli_predict, "nnU-Net's prediction with probability, entropy, timesteps, a score for unusual images"),
    "train": (cli_train, "nnU-Net's training of one fold, of any trainer, for a given time"),
    "benchmark": (cli_benchmark, "test trained models on several hospitals: predictions, metrics, tables"),
    "report": (cli_report, "write the page, figures and tables of a finished benchmark"),
    "few-label": (cli_few_label, "train several trainers on few labelled cases, several draws, and benchmark them"),
}
USER_ERRORS = (ValueError, OSError, RuntimeError)  # nnU-Net's are the last


def _register(args: argparse.Namespace) -> int:
    from nnunet_diffusion_ensemble.register import run

    text, status = run(check_only=args.check, undo=args.undo)
    print(text)
    return status


def _convert(args: argparse.Namespace) -> int:
    from nnunet_diffusion_ensemble.convert import convert, dataset_folder

    report = convert(
        args.images,
        args.masks,
        args.unlabelled,
        dataset_folder(args.dataset),
        labels=_named_values(args.labels),
        mask_suffix=args.mask_suffix,
        channel_name=args.channel_name,
        resize=tuple(args.resize) if args.resize else None,
        test_images=args.test_images,
        overwrite=args.overwrite,
    )
    print(report)
    return 0


def _named_values(pairs: Sequence[str] | None) -> dict[str, int] | None:
    if not pairs:
        return None
    values = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not value.isdigit():
            raise ValueError(f"--labels takes NAME=VALUE with the value in the masks, e.g. lung=255; got {pair!r}.")
        values[name] = int(value)
    return values


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


def _plan(args: argparse.Namespace) -> int:
    from nnunet_diffusion_ensemble.plan import plan
    from nnunet_diffusion_ensemble.planners.diffusion_ensemble_planner import PlanningOptions

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


def _preprocess(args: argparse.Namespace) -> int:
    from nnunet_diffusion_ensemble.plan import preprocess

    has_denoiser = preprocess(args.dataset, args.configurations, args.plans_name, args.num_processes)
    fold, trainer = ("0", "DiffusionEnsembleTrainer") if has_denoiser else ("all", "DiffusionPretrainTrainer")
    print(
        f"\nPreprocessed. Next: nnUNetv2_train {args.dataset} {args.configurations[0]} {fold} "
        f"-tr {trainer} -p {args.plans_name}"
    )
    return 0


def _sample(args: argparse.Namespace) -> int:
    import torch

    from nnunet_diffusion_ensemble.denoiser_source import denoiser_file
    from nnunet_diffusion_ensemble.pretrained import read_pretrained
    from nnunet_diffusion_ensemble.sampling import ddim_sample, save_sample_grid

    pretrained = read_pretrained(denoiser_file(args.denoiser))
    denoiser = pretrained.module().to("cuda" if torch.cuda.is_available() else "cpu")
    size = tuple(args.size or pretrained.patch_size)
    denoiser.unet.check_size(size)
    save_sample_grid(ddim_sample(denoiser, args.num_images, size, args.steps, args.seed), args.output)
    print(f"Wrote {args.num_images} samples of {' x '.join(map(str, size))} to {args.output}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from nnunet_diffusion_ensemble.denoiser_source import denoiser_file
    from nnunet_diffusion_ensemble.export import export_denoiser, export_folded

    if args.timestep is None:
        export_denoiser(denoiser_file(args.checkpoint), args.output, args.half)
    else:
        export_folded(denoiser_file(args.checkpoint), args.output, args.timestep, args.half)
    print(f"Wrote {args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
    if args.timestep is not None:
        print(f"Next: nnUNetv2_train ID CONFIGURATION FOLD -p PLANS -pretrained_weights {args.output}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from nnunet_diffusion_ensemble.cli_demo import DemoOptions, run_demo

    return run_demo(args.folder, DemoOptions(pretrain=args.pretrain))


def _add_register(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "register", _register, "make nnU-Net's -tr and -pl find our classes")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="only say how things stand")
    group.add_argument("--undo", action="store_true", help="take the registration back")


def _add_convert(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "convert", _convert, "turn folders of PNGs into an nnU-Net data set")
    parser.add_argument("dataset", help="name of the new data set, e.g. Dataset001_Lungs, made in nnUNet_raw")
    parser.add_argument("--images", type=Path, help="folder of images with masks")
    parser.add_argument("--masks", type=Path, help="folder of their masks, of the same names")
    parser.add_argument("--mask-suffix", default="", help="what mask names have after the image's name, e.g. _mask")
    parser.add_argument("--labels", nargs="+", metavar="NAME=VALUE", help="values in the masks, e.g. lung=255")
    parser.add_argument("--unlabelled", type=Path, nargs="+", default=[], help="folders of images without masks")
    parser.add_argument("--test-images", type=Path, help="folder of images for imagesTs")
    parser.add_argument("--resize", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="new size in pixels")
    parser.add_argument("--channel-name", help="name in dataset.json; decides nnU-Net's normalisation")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set of this name")


def _add_plan(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "plan", _plan, "extract the fingerprint and plan, with options of the method")
    _add_dataset_arguments(parser)
    parser.add_argument("--base-features", type=int, help="features of the first stage (nnU-Net: 32)")
    parser.add_argument("--blocks-per-stage", type=int, help="residual blocks in each stage (nnU-Net: 1 3 4 6 6 ...)")
    parser.add_argument("--batch-size", type=int, help="images in an iteration of the segmentation training")
    parser.add_argument("--gpu-memory-target", type=float, help="in GB, as nnU-Net's -gpu_memory_target")
    parser.add_argument("--target-spacing", type=float, nargs=3, help="in mm, as nnU-Net's -overwrite_target_spacing")
    parser.add_argument("--clean", action="store_true", help="extract the fingerprint anew")
    parser.add_argument("--unlabelled", action="store_true", help="the data set has only imagesUn: plan a pretraining")
    parser.add_argument(
        "--denoiser", help=f"plan for the use of a pretrained denoiser: {DENOISER_HELP}, or LIBRARY:PATH"
    )
    for option, _, kind, several, text in METHOD_OPTIONS:
        parser.add_argument(option, type=kind, nargs="+" if several else None, help=text)


def _add_preprocess(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "preprocess", _preprocess, "preprocess labelled and unlabelled images")
    _add_dataset_arguments(parser)
    parser.add_argument("-c", "--configurations", nargs="+", required=True, help="e.g. 2d 3d_fullres")


def _add_sample(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "sample", _sample, "draw images from a pretrained denoiser")
    parser.add_argument("denoiser", help=DENOISER_HELP)
    parser.add_argument("output", type=Path, help="PNG to write: a grid, of volumes the middle slices")
    parser.add_argument("--num-images", type=positive, default=16, help="how many (16)")
    parser.add_argument("--steps", type=positive, default=50, help="passes of the denoiser, DDIM (50)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise at the start (0)")
    parser.add_argument("--size", type=positive, nargs="+", help="in pixels or voxels (the patch size of the plans)")


def _add_export(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "export", _export, "write a denoiser to pass on: averaged weights and plans only")
    parser.add_argument("checkpoint", help="checkpoint of DiffusionPretrainTrainer or DiffusionEnsembleTrainer")
    parser.add_argument("output", type=Path, help="file to write, e.g. DENOISER.pth")
    parser.add_argument("--half", action="store_true", help="parameters in float16: half the size")
    parser.add_argument("--timestep", type=int, help="instead, for nnUNetTrainer -pretrained_weights: the U-Net at it")


def _add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--dataset", type=int, required=True, help="number of the data set")
    parser.add_argument("-p", "--plans-name", default="nnUNetDiffusionEnsemblePlans", help="name of the plans")
    parser.add_argument("--num-processes", "-np", type=int, default=8, help="processes of preprocessing")


def _add_demo(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "demo", _demo, "train and test on a sample of real X-rays (2 minutes)")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("nnunet-diffusion-demo"), help="where it all goes")
    parser.add_argument("--pretrain", action="store_true", help="pretrain a denoiser of its own, the whole chain")


def _command(
    commands: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def build_parser() -> argparse.ArgumentParser:
    """The parser of `nnunet-diffusion` with all its subcommands."""
    parser = argparse.ArgumentParser(prog="nnunet-diffusion", description="Diffusion ensembles as an nnU-Net plugin.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_register, _add_convert, _add_plan, _add_preprocess, _add_sample, _add_export, _add_demo):
        add(commands)
    for name, (module, text) in MODULES.items():
        module.add_arguments(_command(commands, name, module.run, text))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; a user's mistake ends with its message and exit status 2, Ctrl-C with 130."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = build_parser().parse_args(arguments)
    args.command_line = shlex.join(["nnunet-diffusion", *arguments])  # for what is written to say how it was made
    try:
        return args.run(args)
    except USER_ERRORS as error:
        print(f"nnunet-diffusion: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("nnunet-diffusion: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
