"""Folders of PNGs as a user has them: grey noise with a brighter rectangle, whose mask is 255."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE_PX = 64


def write_png(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(file)


def write_png_folders(root: Path, num_labelled: int, num_unlabelled: int = 2) -> None:
    """`images` with `masks` of the same names, and `unlabelled`: case_0.png, case_1.png, ... of 64 x 64 pixels."""
    random = np.random.default_rng(0)
    for case in range(num_labelled + num_unlabelled):
        mask = np.zeros((SIZE_PX, SIZE_PX))
        mask[8 + case : 40, 10 : 50 - case] = 255
        kind = "images" if case < num_labelled else "unlabelled"
        write_png(root / kind / f"case_{case}.png", mask / 2 + random.integers(0, 90, mask.shape))
        if case < num_labelled:
            write_png(root / "masks" / f"case_{case}.png", mask)
