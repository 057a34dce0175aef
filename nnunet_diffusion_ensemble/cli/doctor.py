"""`nnunet-diffusion doctor`: whether all is well, from the installation to each data set, and what to do if not."""

import argparse
import json
import os
from dataclasses import asdict
from itertools import chain

from nnunet_diffusion_ensemble.cli.argument_types import not_negative, positive

HELP = "say whether all is well, from the installation to each data set, and what to do if not"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("-d", "--dataset", type=not_negative, help="one data set, with all its images read")
    parser.add_argument("--json", action="store_true", help="findings as JSON")
    parser.add_argument("--num-processes", "-np", type=positive, default=8, help="that read images")


def run(args: argparse.Namespace) -> int:
    """Prints what was found; exit status 1 if something will fail."""
    from nnunet_diffusion_ensemble.doctor.datasets import DataFolders, look_at_datasets
    from nnunet_diffusion_ensemble.doctor.finding import PROBLEM, is_well
    from nnunet_diffusion_ensemble.doctor.images import examine
    from nnunet_diffusion_ensemble.doctor.machine import look_at_machine

    findings, places = [], DataFolders.of(os.environ)
    everything = chain(look_at_machine(), look_at_datasets(places))
    for finding in everything if args.dataset is None else examine(args.dataset, places, args.num_processes):
        findings.append(finding)
        if not args.json:
            print(finding, flush=True)
    well = is_well(findings)
    if args.json:
        print(json.dumps({"well": well, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        problems = sum(finding.verdict == PROBLEM for finding in findings)
        print("All is well." if well else f"{problems} problem(s).")
    return 0 if well else 1
