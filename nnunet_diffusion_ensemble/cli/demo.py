"""`nnunet-diffusion demo`: two models trained on real X-rays and tested on two hospitals, and the report."""

import argparse
from pathlib import Path

HELP = "train two models on six real X-rays, test them on two hospitals, write the report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("folder", type=Path, nargs="?", default=Path("nnunet-diffusion-demo"), help="where it all goes")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="shorter trainings and fewer cases (2 minutes)")
    sizes.add_argument("--pretrain", action="store_true", help="pretrain a denoiser of its own, the whole chain")
    parser.add_argument(
        "--open",
        action=argparse.BooleanOptionalAction,
        help="show the report in a browser at the end (at a terminal of a desktop)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the demo in its folder."""
    from nnunet_diffusion_ensemble.demo.run import run_demo
    from nnunet_diffusion_ensemble.demo.steps import QUICK, DemoOptions

    return run_demo(args.folder, QUICK if args.quick else DemoOptions(pretrain=args.pretrain), opens_report=args.open)
