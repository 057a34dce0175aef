"""`nnunet-diffusion join`: several benchmarks as one, of further models or of further hospitals."""

import argparse
from pathlib import Path

HELP = "join finished benchmarks of other models, or of other hospitals, without their images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument(
        "results",
        type=Path,
        nargs="+",
        help="outputs of `nnunet-diffusion benchmark`, or of this: folders or zip files",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="folder to write, or a .zip file to send to somebody"
    )
    parser.add_argument(
        "--rename",
        nargs=3,
        action="append",
        default=[],
        metavar=("RESULTS", "MODEL", "NAME"),
        help="another name for a model of one of the results",
    )
    parser.add_argument(
        "--without-folders", action="store_true", help="leave out in which folders of this machine everything lies"
    )


def run(args: argparse.Namespace) -> int:
    """Joins and says what was left out."""
    from nnunet_diffusion_ensemble.joining.join import join_results
    from nnunet_diffusion_ensemble.joining.parts import Renaming

    renamings = [Renaming(Path(part), model, name) for part, model, name in args.rename]
    joined = join_results(args.results, args.output, args.command_line, renamings, not args.without_folders)
    if joined.metrics_left_out:
        print(f"Left out, since not all of them have it: {', '.join(joined.metrics_left_out)}")
    is_file = joined.place.is_file()
    print(f"Wrote {joined.place}. Next: nnunet-diffusion {'join' if is_file else 'report'} {joined.place}")
    return 0
