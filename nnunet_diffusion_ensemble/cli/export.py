"""`nnunet-diffusion export`: write a denoiser to pass on: averaged weights and plans only."""

import argparse
from pathlib import Path

from nnunet_diffusion_ensemble.cli.argument_types import add_trust, not_negative

HELP = "write a denoiser to pass on: averaged weights and plans only"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("checkpoint", help="checkpoint of DiffusionPretrainTrainer or DiffusionEnsembleTrainer")
    parser.add_argument("output", type=Path, help="file to write, e.g. DENOISER.pth or DENOISER.safetensors")
    add_trust(parser)
    parser.add_argument("--half", action="store_true", help="parameters in float16: half the size")
    parser.add_argument(
        "--timestep", type=not_negative, help="instead, for nnUNetTrainer -pretrained_weights: the U-Net at it"
    )
    parser.add_argument(
        "--format",
        choices=("nnssl",),
        help="with --timestep, of volumes: a checkpoint of nnssl, for a later nnU-Net",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the file and says how large it is."""
    from nnunet_diffusion_ensemble.api.denoiser import load_denoiser

    load_denoiser(args.checkpoint, "cpu", args.trust).export(
        args.output, args.half, args.timestep, for_nnssl=args.format == "nnssl"
    )
    print(f"Wrote {args.output}: {args.output.stat().st_size / 1e6:.1f} MB")
    if args.format == "nnssl":
        print(f"Next, if nnU-Net has it: nnUNetv2_plan_like_dynamic -d ID -n NAME -pc {args.output} -pl PLANS")
    elif args.timestep is not None:
        print(f"Next: nnUNetv2_train ID CONFIGURATION FOLD -p PLANS -pretrained_weights {args.output}")
    return 0
