"""`nnunet-diffusion preprocess`: preprocess labelled and unlabelled images."""

import argparse

from nnunet_diffusion_ensemble.cli.argument_types import add_dataset_arguments, add_no_verify

HELP = "preprocess labelled and unlabelled images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    add_dataset_arguments(parser)
    add_no_verify(parser)
    parser.add_argument("-c", "--configurations", nargs="+", required=True, help="e.g. 2d 3d_fullres")


def run(args: argparse.Namespace) -> int:
    """Preprocesses, and says what comes next."""
    from nnunet_diffusion_ensemble.planning.plan import preprocess

    verify = not args.no_verify
    has_denoiser = preprocess(args.dataset, args.configurations, args.plans_name, args.num_processes, verify)
    fold, trainer = ("0", "DiffusionEnsembleTrainer") if has_denoiser else ("all", "DiffusionPretrainTrainer")
    print(
        f"\nPreprocessed. Next: nnUNetv2_train {args.dataset} {args.configurations[0]} {fold} "
        f"-tr {trainer} -p {args.plans_name}"
    )
    return 0
