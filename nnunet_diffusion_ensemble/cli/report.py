"""`nnunet-diffusion report`: the page, its summary, figures and tables of a finished benchmark."""

import argparse
from pathlib import Path

HELP = "write the page, a summary of one page, figures and tables of a finished benchmark"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("results", type=Path, help="output folder of `nnunet-diffusion benchmark`")
    parser.add_argument("-o", type=Path, metavar="FOLDER", help="folder to write (RESULTS/report)")
    parser.add_argument("--metric", help="of the figures (Dice, or the first of the specification)")
    parser.add_argument("--labels", nargs="+", default=[], metavar="LABEL", help="of the figures (the first four)")
    parser.add_argument(
        "--labelled-cases",
        type=int,
        metavar="NUMBER",
        help="for figures that show one number of them (the one with the most models, the larger one of several)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the report and says where it is."""
    from nnunet_diffusion_ensemble.benchmark.results import read_results
    from nnunet_diffusion_ensemble.report.view import ReportOptions
    from nnunet_diffusion_ensemble.report.write import write_report

    options = ReportOptions(metric=args.metric, labels=tuple(args.labels), labelled_cases=args.labelled_cases)
    folder = args.o or args.results / "report"
    page = write_report(read_results(args.results), folder, options, args.command_line)
    print(f"Wrote {page}: {page.stat().st_size / 1e6:.1f} MB, with summary.pdf, figures and tables beside it")
    return 0
