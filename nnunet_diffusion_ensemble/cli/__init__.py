"""Command line `nnunet-diffusion`: one module a command."""

from nnunet_diffusion_ensemble.cli.parser import main

__all__ = ["main"]
