"""The parser of `nnunet-diffusion`. Each command imports what it needs when it runs, so that help comes at once."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from nnunet_diffusion_ensemble import __version__
from nnunet_diffusion_ensemble.cli import (
    app,
    benchmark,
    calibrate,
    convert,
    demo,
    distil,
    doctor,
    export,
    few_label,
    join,
    pack,
    plan,
    postprocessing,
    predict,
    preprocess,
    register,
    report,
    sample,
    self_train,
    train,
)
from nnunet_diffusion_ensemble.system.child_processes import INTERRUPTED
from nnunet_diffusion_ensemble.system.told import told_to_user

COMMANDS = {
    "register": register,
    "convert": convert,
    "pack": pack,
    "plan": plan,
    "preprocess": preprocess,
    "train": train,
    "calibrate": calibrate,
    "predict": predict,
    "postprocessing": postprocessing,
    "sample": sample,
    "export": export,
    "self-train": self_train,
    "distil": distil,
    "benchmark": benchmark,
    "join": join,
    "report": report,
    "few-label": few_label,
    "demo": demo,
    "app": app,
    "doctor": doctor,
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of `nnunet-diffusion` with all its subcommands."""
    parser = argparse.ArgumentParser(prog="nnunet-diffusion", description="Diffusion ensembles as an nnU-Net plugin.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        command.set_defaults(run=module.run)
        module.add_arguments(command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; a user's mistake ends with its message and exit status 2, ours with 3, Ctrl-C with 130."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = build_parser().parse_args(arguments)
    args.command_line = shlex.join(["nnunet-diffusion", *arguments])  # for what is written to say how it was made
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("nnunet-diffusion: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        text, status = told_to_user(error)
        print(f"nnunet-diffusion: error: {text}", file=sys.stderr)
        return status
