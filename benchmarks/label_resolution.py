"""What a coarser resolution leaves of masks: Dice of each with what a perfect prediction at that size would be.

    python benchmarks/label_resolution.py FOLDER [FOLDER ...] [--sizes 32 64 96 128 192]

FOLDERs hold masks as PNG, of which what is above 0 counts. By it the planner chooses the size of large 2D images.
"""

import argparse
from pathlib import Path

import numpy as np
from skimage.io import imread

from nnunet_diffusion_ensemble.planning.whole_images import dice_that_is_kept

LABELS = {"labels": {"background": 0, "object": 1}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=(32, 64, 96, 128, 192), help="pixels of the longer side"
    )
    args = parser.parse_args()
    print(f"| masks | {' | '.join(map(str, args.sizes))} |\n|---{'|---' * len(args.sizes)}|")
    for folder in args.folders:
        masks = [(imread(file) > 0).astype(np.uint8)[None] for file in sorted(folder.glob("*.png"))]
        masks = [mask for mask in masks if mask.any()]
        found = [
            np.mean([dice_that_is_kept([mask], LABELS, max(mask.shape) / size) for mask in masks])
            for size in args.sizes
        ]
        print(f"| {folder} ({len(masks)}) | {' | '.join(f'{value:.3f}' for value in found)} |")


if __name__ == "__main__":
    main()
