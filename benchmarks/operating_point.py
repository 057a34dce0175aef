"""What one threshold of the probability for a whole hospital would bring, against 0.5, as Markdown.

    python benchmarks/operating_point.py RESULTS [RESULTS ...]     # folders of `nnunet-diffusion benchmark`

If a model draws all borders a little further out than a hospital's references do, one threshold that is chosen with
them sets it right: what it gains is a rule of drawing, not a mistake in single cases. With a threshold for each case
anew, little but the shape is judged. Both look at the references, so neither is a result. Binary labels of 2D pictures.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from masks import dice_of, print_means
from skimage.io import imread

from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec
from nnunet_diffusion_ensemble.images.maps import read_map

THRESHOLDS = np.linspace(0.05, 0.95, 19)


def rows(results: Path) -> Iterator[dict[str, object]]:
    """For each training and domain."""
    spec = read_spec(results / "spec.yaml")
    for model in spec.models:
        for seed in model.seeds:
            for domain in spec.domains:
                folder = results / "runs" / f"{model.key}_seed{seed}" / domain.key / "prediction" / "probability"
                files = sorted(folder.glob("1_*/*.tif"))
                references = [imread(Path(domain.references) / f"{file.stem}.png") > 0 for file in files]
                maps = [read_map(file, "NaturalImage2DIO")[0] for file in files]
                dice = np.array(
                    [[dice_of(p > t, r) for t in THRESHOLDS] for p, r in zip(maps, references, strict=True)]
                )
                areas = [(p > 0.5).sum() / r.sum() for p, r in zip(maps, references, strict=True)]
                yield {
                    "model": model.name,
                    "labelled cases": model.labelled_cases,
                    "domain": domain.name,
                    "Dice at 0.5": dice[:, len(THRESHOLDS) // 2].mean(),
                    "at the best threshold of the hospital": dice.mean(0).max(),
                    "which is": THRESHOLDS[dice.mean(0).argmax()],
                    "of each case": dice.max(1).mean(),
                    "area predicted / drawn": np.mean(areas),
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    found = pd.DataFrame([row for results in parser.parse_args().results for row in rows(results)])
    print_means(found)


if __name__ == "__main__":
    main()
