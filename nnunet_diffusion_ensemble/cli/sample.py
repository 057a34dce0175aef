"""`nnunet-diffusion sample`: draw images from a pretrained denoiser."""

import argparse
from pathlib import Path

from nnunet_diffusion_ensemble.cli.argument_types import DENOISER_HELP, add_trust, not_negative, positive

HELP = "draw images from a pretrained denoiser"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("denoiser", help=f"{DENOISER_HELP}, or LIBRARY:PATH")
    parser.add_argument("output", type=Path, help="PNG to write: a grid, of volumes the middle slices")
    add_trust(parser)
    parser.add_argument("--num-images", type=positive, default=16, help="how many (16)")
    parser.add_argument("--steps", type=positive, default=50, help="passes of the denoiser, DDIM (50)")
    parser.add_argument("--seed", type=not_negative, default=0, help="of the noise at the start (0)")
    parser.add_argument("--size", type=positive, nargs="+", help="in pixels or voxels (the patch size of the plans)")


def run(args: argparse.Namespace) -> int:
    """Draws images and writes their grid."""
    from nnunet_diffusion_ensemble.api.denoiser import load_denoiser
    from nnunet_diffusion_ensemble.denoiser.sampling import save_sample_grid
    from nnunet_diffusion_ensemble.system.places import refuse_folder

    refuse_folder(args.output)
    samples = load_denoiser(args.denoiser, trust=args.trust).sample(args.num_images, args.seed, args.steps, args.size)
    save_sample_grid(samples, args.output)
    print(f"Wrote {args.num_images} samples of {' x '.join(map(str, samples.shape[2:]))} to {args.output}")
    return 0
