"""What is gained by removing components that are too small to be any of those that were labelled, as Markdown.

    python benchmarks/components.py RESULTS [RESULTS ...] [--share 0.25]     # of `nnunet-diffusion benchmark`

In each labelled image of a fold, the smallest component of the label is measured against the largest one; specks below
5% of the label's area count for nothing. Of a prediction, components go that are smaller, against its largest one, than
`--share` of the least of these ratios. Binary labels of 2D pictures; the data set must be in nnUNet_preprocessed.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import label
from skimage.io import imread

from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec

SPECK = 0.05


def component_sizes(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbered components, and the pixels of each; the first is none."""
    components, _ = label(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return components, sizes


def least_ratio(masks: list[np.ndarray]) -> float:
    """Of the smallest component of a mask to its largest."""
    found = []
    for mask in masks:
        sizes = component_sizes(mask)[1]
        found += [sizes[sizes >= SPECK * sizes.sum()].min() / sizes.max()] if mask.any() else []
    return min(found, default=0.0)


def without_small(mask: np.ndarray, ratio: float) -> np.ndarray:
    components, sizes = component_sizes(mask)
    return mask & (sizes >= ratio * sizes.max())[components]


def rows(results: Path, share: float) -> Iterator[dict[str, object]]:
    """For each training and domain."""
    spec = read_spec(results / "spec.yaml")
    for model in spec.models:
        data = Path(os.environ["nnUNet_preprocessed"]) / model.folder.parent.name
        splits = json.loads((data / "splits_final.json").read_text())
        for seed, folds in model.seeds.items():
            trained_on = [case for fold in folds for case in splits[int(fold)]["train"]]
            ratio = share * least_ratio([imread(data / "gt_segmentations" / f"{case}.png") > 0 for case in trained_on])
            for domain in spec.domains:
                folder = results / "runs" / f"{model.key}_seed{seed}" / domain.key / "prediction"
                found = []
                for file in sorted(folder.glob("*.png")):
                    mask, reference = imread(file) > 0, imread(Path(domain.references) / file.name) > 0
                    found.append([_dice(mask, reference), _dice(without_small(mask, ratio), reference)])
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


def _dice(mask: np.ndarray, reference: np.ndarray) -> float:
    return float(2 * (mask & reference).sum() / max(mask.sum() + reference.sum(), 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--share", type=float, default=0.25)
    args = parser.parse_args()
    found = pd.DataFrame([row for results in args.results for row in rows(results, args.share)])
    means = found.groupby(["domain", "model", "labelled cases"]).mean().reset_index()
    print(f"| {' | '.join(means)} |\n|{'---|' * len(means.columns)}")
    for row in means.itertuples(index=False):
        print(f"| {' | '.join(f'{v:.3f}' if isinstance(v, float) else str(v) for v in row)} |")


if __name__ == "__main__":
    main()
