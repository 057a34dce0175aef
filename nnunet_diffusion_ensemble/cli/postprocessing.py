"""`nnunet-diffusion postprocessing`: which components of a prediction are too small, learned from labels."""

import argparse

from nnunet_diffusion_ensemble.cli import predict as cli_predict

HELP = "learn from a model's labels which components are too small, for nnUNetv2_apply_postprocessing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand; the model is named as for `nnunet-diffusion predict`."""
    cli_predict.add_naming_arguments(parser)
    parser.add_argument(
        "--share",
        type=float,
        default=0.25,
        help="of the smallest labelled component that a predicted one must have (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the file, and says what it does and how to apply it."""
    from nnunet_diffusion_ensemble.held_out.postprocessing import learn_postprocessing, write_postprocessing

    if not 0 < args.share <= 1:
        raise ValueError(f"--share is above 0 and at most 1, such as 0.25, got {args.share:g}.")
    folder, folds = cli_predict.model_folder(args), tuple(args.f)
    smallest = learn_postprocessing(folder, folds, args.share, args.chk)
    file = write_postprocessing(folder, folds, smallest)
    for name, share in smallest.items():
        print(f"{name}: components below {share:.1%} of the largest are removed")
    print(f"Wrote {file}")
    print(f"Next: nnUNetv2_apply_postprocessing -i PREDICTIONS -o OUTPUT -pp_pkl_file {file}")
    return 0
