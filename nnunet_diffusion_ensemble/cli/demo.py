"""`nnunet-diffusion demo`: train and test on a sample of real X-rays (2 minutes)."""

import argparse
from pathlib import Path

HELP = "train and test on a sample of real X-rays (2 minutes)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("folder", type=Path, nargs="?", default=Path("nnunet-diffusion-demo"), help="where it all goes")
    parser.add_argument("--pretrain", action="store_true", help="pretrain a denoiser of its own, the whole chain")


def run(args: argparse.Namespace) -> int:
    """Runs the demo in its folder."""
    from nnunet_diffusion_ensemble.demo.steps import DemoOptions, run_demo

    return run_demo(args.folder, DemoOptions(pretrain=args.pretrain))
