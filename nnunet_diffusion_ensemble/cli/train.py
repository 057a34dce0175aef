"""`nnunet-diffusion train`: nnU-Net's training for a given time."""

import argparse
from typing import TYPE_CHECKING

from nnunet_diffusion_ensemble.cli.argument_types import fold

if TYPE_CHECKING:
    from nnunet_diffusion_ensemble.study.timed_training import TimeBudget

HELP = "nnU-Net's training of one fold, of any trainer, for a given time"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand, those of `nnUNetv2_train` under its names."""
    parser.add_argument("dataset", help="number or name of the data set")
    parser.add_argument("configuration", help="e.g. 2d, 3d_fullres")
    parser.add_argument("fold", type=fold, help="of splits_final.json, or all")
    parser.add_argument("-tr", default="DiffusionEnsembleTrainer", metavar="TRAINER", help="%(default)s")
    parser.add_argument("-p", default="nnUNetDiffusionEnsemblePlans", metavar="PLANS", help="%(default)s")
    parser.add_argument("--c", action="store_true", help="continue from the last checkpoint")
    parser.add_argument("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="%(default)s")
    add_length(parser, required=True)


def add_length(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Adds the options that say how long a training is."""
    parser.add_argument("--minutes", type=float, required=required, help="train each for this long, in as many epochs")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: time of one process with its augmentation, on machines that do other things as well (wall)",
    )
    parser.add_argument("--iterations-per-epoch", type=int, default=250, help="with --minutes (%(default)s)")


def budget(args: argparse.Namespace) -> "TimeBudget":
    """What the options of `add_length` say."""
    from nnunet_diffusion_ensemble.study.timed_training import TimeBudget

    return TimeBudget(minutes=args.minutes, clock=args.clock, iterations_per_epoch=args.iterations_per_epoch)


def run(args: argparse.Namespace) -> int:
    """Trains one fold."""
    from nnunet_diffusion_ensemble.study.timed_training import Fold, train_for

    train_for(Fold(args.dataset, args.configuration, args.fold, args.tr, args.p, args.device), budget(args), args.c)
    return 0
