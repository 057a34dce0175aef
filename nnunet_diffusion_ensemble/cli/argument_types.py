"""Types of the command line's arguments, and arguments that several commands have."""

import argparse

DENOISER_HELP = "checkpoint of DiffusionPretrainTrainer or DiffusionEnsembleTrainer, or name of a shipped denoiser"


def positive(text: str) -> int:
    """A whole number above zero."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """A whole number, zero or above."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"must be {least} or more, got {text}")
    return value


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Adds the option for checkpoints that hold more than weights and plans."""
    parser.add_argument("--trust", action="store_true", help="run code of the file if it cannot be read without")


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name a data set and its plans."""
    parser.add_argument("-d", "--dataset", type=not_negative, required=True, help="number of the data set")
    parser.add_argument("-p", "--plans-name", default="nnUNetDiffusionEnsemblePlans", help="name of the plans")
    parser.add_argument("--num-processes", "-np", type=positive, default=8, help="processes of preprocessing")


def add_no_verify(parser: argparse.ArgumentParser) -> None:
    """Adds the option that leaves out the check of the raw data set."""
    parser.add_argument("--no-verify", action="store_true", help="do not read and check every image before")


def fold(text: str) -> int | str:
    """A fold of nnU-Net: its number, or `all`."""
    if text != "all" and not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a number or all, got {text}")
    return text if text == "all" else int(text)
