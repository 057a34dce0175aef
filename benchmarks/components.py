"""What is gained by removing components that are too small to be any of those that were labelled, as Markdown.

    python benchmarks/components.py RESULTS [RESULTS ...] [--share 0.25]     # of `nnunet-diffusion benchmark`

What goes is what `nnunet-diffusion postprocessing` says of each fold. Binary labels of 2D pictures; the data set must
be in nnUNet_preprocessed.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from masks import dice_of, print_means
from skimage.io import imread

from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec
from nnunet_diffusion_ensemble.postprocessing.components import least_share, remove_small_components


def rows(results: Path, share: float) -> Iterator[dict[str, object]]:
    """For each training and domain."""
    spec = read_spec(results / "spec.yaml")
    for model in spec.models:
        data = Path(os.environ["nnUNet_preprocessed"]) / model.folder.parent.name
        splits = json.loads((data / "splits_final.json").read_text())
        for seed, folds in model.seeds.items():
            trained_on = [case for fold in folds for case in splits[int(fold)]["train"]]
            least = least_share(imread(data / "gt_segmentations" / f"{case}.png") > 0 for case in trained_on)
            smallest = [(1, share * (least or 0.0))]
            for domain in spec.domains:
                folder = results / "runs" / f"{model.key}_seed{seed}" / domain.key / "prediction"
                found = []
                for file in sorted(folder.glob("*.png")):
                    labels, reference = imread(file), imread(Path(domain.references) / file.name) > 0
                    cleaned = remove_small_components(labels, smallest)
                    found.append([dice_of(labels == 1, reference), dice_of(cleaned == 1, reference)])
                before, after = np.mean(found, axis=0)
                yield {
                    "domain": domain.name,
                    "model": model.name,
                    "labelled cases": model.labelled_cases,
                    "Dice": before,
                    "without small components": after,
                    "cases that gain": np.mean([b > a for a, b in found]),
                    "cases that lose": np.mean([b < a for a, b in found]),
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--share", type=float, default=0.25)
    args = parser.parse_args()
    found = pd.DataFrame([row for results in args.results for row in rows(results, args.share)])
    print_means(found)


if __name__ == "__main__":
    main()
