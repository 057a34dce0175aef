"""`nnunet-diffusion register`: make nnU-Net's -tr and -pl find our classes."""

import argparse

HELP = "make nnU-Net's -tr and -pl find our classes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="only say how things stand")
    group.add_argument("--undo", action="store_true", help="take the registration back")


def run(args: argparse.Namespace) -> int:
    """Writes, checks or removes the shims."""
    from nnunet_diffusion_ensemble.nnunet.register import run

    text, status = run(check_only=args.check, undo=args.undo)
    print(text)
    return status
