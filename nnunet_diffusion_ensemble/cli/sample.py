"""`nnunet-diffusion sample`: draw images from a pretrained denoiser."""

import argparse
from pathlib import Path

from nnunet_diffusion_ensemble.cli.argument_types import DENOISER_HELP, add_trust, not_negative, positive

HELP = "draw images from a pretrained denoiser"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("denoiser", help=DENOISER_HELP)
    parser.add_argument("output", type=Path, help="PNG to write: a grid, of volumes the middle slices")
    add_trust(parser)
    parser.add_argument("--num-images", type=positive, default=16, help="how many (16)")
    parser.add_argument("--steps", type=positive, default=50, help="passes of the denoiser, DDIM (50)")
    parser.add_argument("--seed", type=not_negative, default=0, help="of the noise at the start (0)")
    parser.add_argument("--size", type=positive, nargs="+", help="in pixels or voxels (the patch size of the plans)")


def run(args: argparse.Namespace) -> int:
    """Draws images and writes their grid."""
    import torch

    from nnunet_diffusion_ensemble.denoiser.pretrained import read_pretrained
    from nnunet_diffusion_ensemble.denoiser.sampling import ddim_sample, save_sample_grid
    from nnunet_diffusion_ensemble.denoiser.source import denoiser_file
    from nnunet_diffusion_ensemble.system.places import refuse_folder

    refuse_folder(args.output)
    pretrained = read_pretrained(denoiser_file(args.denoiser), args.trust)
    denoiser = pretrained.module().to("cuda" if torch.cuda.is_available() else "cpu")
    size = tuple(args.size or pretrained.patch_size)
    denoiser.unet.check_size(size)
    save_sample_grid(ddim_sample(denoiser, args.num_images, size, args.steps, args.seed), args.output)
    print(f"Wrote {args.num_images} samples of {' x '.join(map(str, size))} to {args.output}")
    return 0
