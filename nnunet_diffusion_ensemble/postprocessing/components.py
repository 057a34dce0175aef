"""Components of a segmentation that are smaller than any that was labelled.

A model of few labels takes what it has never seen, such as the dark beside an arm, for what looks alike. Sizes are
shares of the largest component in the same image, so that pixels may be of any size.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from nnunet_diffusion_ensemble.images.components import components

SPECK = 0.05  # of a label's voxels in an image: smaller components of a labelled mask are slips of the hand


def remove_small_components(
    segmentation: np.ndarray, smallest: Sequence[tuple[int | tuple[int, ...], float]], background_label: int = 0
) -> np.ndarray:
    """A segmentation without its small components; a function for nnU-Net's `postprocessing.pkl`.

    Args:
        segmentation: label map, any axes.
        smallest: for each label, or region as a tuple of labels, the share of its largest component that another one
            must have to stay.
        background_label: what takes their place.
    """
    result = np.copy(segmentation)
    for labels, share in smallest:
        numbers, sizes = _numbered(np.isin(segmentation, labels))
        is_small = sizes < share * sizes.max()
        is_small[0] = False
        result[is_small[numbers]] = background_label
    return result


def least_share(masks: Iterable[np.ndarray]) -> float | None:
    """The least share of an image's largest component that another one has in labelled masks; 1 if each has one.

    Returns:
        None if no mask holds anything.
    """
    shares = []
    for mask in masks:
        _, sizes = _numbered(mask)
        if total := sizes.sum():
            shares.append(sizes[sizes >= SPECK * total].min() / sizes.max())
    return float(min(shares)) if shares else None


def _numbered(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Components by number, and their voxels by number; number 0, which is none, has none."""
    numbers = components(mask)
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    return numbers, sizes
