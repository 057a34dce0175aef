"""`nnunet-diffusion pack`: pack a folder of images into shards for imagesUn."""

import argparse
from pathlib import Path

from nnunet_diffusion_ensemble.cli.argument_types import positive

HELP = "pack a folder of images into shards (tar files) for imagesUn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the subcommand."""
    parser.add_argument("folder", type=Path, help="folder of images named CASE_0000.png or the like; they stay there")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the shards, e.g. imagesUn")
    parser.add_argument("--cases-per-shard", type=positive, default=1000, help="of volumes fewer, e.g. 32")
    parser.add_argument("--file-ending", help="of the images, e.g. .nii.gz, if it is not clear")


def run(args: argparse.Namespace) -> int:
    """Packs, and says what comes next."""
    from nnunet_diffusion_ensemble.data.pack import pack

    packed = pack(args.folder, args.output, args.cases_per_shard, args.file_ending)
    kept = f" ({packed.num_kept} were there)" if packed.num_kept else ""
    print(f"Packed {packed.num_cases} cases into {packed.num_shards} shards in {args.output}{kept}.")
    print(f"Next: keep {args.folder} out of imagesUn, where a case may be once, and preprocess.")
    return 0
