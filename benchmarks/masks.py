"""What the scripts that judge masks of a finished benchmark share."""

import numpy as np
import pandas as pd

from nnunet_diffusion_ensemble.evaluation.overlap import count_pixels, dice


def dice_of(mask: np.ndarray, reference: np.ndarray) -> float:
    """Dice of two boolean masks; 1 if both are empty."""
    return dice(count_pixels(reference, mask))


def print_means(rows: pd.DataFrame) -> None:
    """Means over seeds, as Markdown."""
    means = rows.groupby(["domain", "model", "labelled cases"]).mean().reset_index()
    print(f"| {' | '.join(means)} |\n|{'---|' * len(means.columns)}")
    for row in means.itertuples(index=False):
        print(f"| {' | '.join(f'{v:.3f}' if isinstance(v, float) else str(v) for v in row)} |")
