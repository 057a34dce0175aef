"""`nnunet-diffusion app`: a page on this machine that shows what a model sees in an image, and how sure it is."""

import argparse
from importlib.util import find_spec

HELP = "a page on this machine: look at what a model sees in an image, and how sure it is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("-m", metavar="FOLDER", help="results folder of a trained model (a demo model of the lungs)")
    parser.add_argument("--port", type=int, help="of the page's address (the first free one from 7860)")
    parser.add_argument("-device", help="cuda, cpu or mps (cuda if it is there, else cpu)")
    parser.add_argument("--open", action="store_true", help="show the page in a browser")


def run(args: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C."""
    if find_spec("gradio") is None:
        raise RuntimeError("The page needs Gradio: pip install 'nnunet-diffusion-ensemble[app]'.")
    from nnunet_diffusion_ensemble.app.page import run_page

    run_page(args.m, args.port, args.device, args.open)
    return 0
