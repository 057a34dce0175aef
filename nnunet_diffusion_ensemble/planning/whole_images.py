"""Large 2D images: the coarsest size at which a patch can show the whole image and its labels are still what they were.

Where an organ lies, and that the other lung looks alike, a network knows only if it sees the image. nnU-Net plans a
coarser configuration for volumes that are too large, but for 2D images never.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import count, takewhile
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn, region_or_label_to_mask
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_diffusion_ensemble.images.reading import read_segmentation
from nnunet_diffusion_ensemble.nnunet.labelled_cases import find_labelled_cases, spread_over

SMALLEST_SIZE = 64  # pixels along the longer side, doubled until the labels are kept
KEPT_DICE = 0.99
NUM_CASES = 12  # label maps that are read
SIZE_WITHOUT_LABELS = 256  # what lungs need

logger = logging.getLogger(__name__)


def choose_size(
    shape: np.ndarray,
    spacing: np.ndarray,
    patch_size: Callable[[np.ndarray, np.ndarray], Sequence[int]],
    dataset_json: Mapping[str, Any],
    maps: Callable[[], Sequence[np.ndarray]] | None,
) -> int | None:
    """Pixels of the longer side at which to plan 2D images, or None for their own size. Says what was chosen and why.

    Args:
        shape: rows and columns of the median image.
        spacing: of the two.
        patch_size: the patch that nnU-Net plans for images of a shape and spacing.
        dataset_json: with the labels.
        maps: reads label maps (1, rows, columns); None if there are none.

    Raises:
        ImageError: one of them cannot be read.
    """

    def covered(at: np.ndarray, factor: float = 1.0) -> bool:
        return bool(np.all(np.greater_equal(patch_size(at, spacing * factor), at)))

    if covered(shape):
        return None
    sizes = takewhile(lambda size: size < max(shape), (SMALLEST_SIZE * 2**i for i in count()))
    shapes = {size: np.maximum(np.round(shape * size / max(shape)), 1) for size in sizes}
    fitting = [size for size, coarse in shapes.items() if covered(coarse, max(shape) / size)]
    if maps is None:
        chosen, kept = max((size for size in fitting if size <= SIZE_WITHOUT_LABELS), default=None), ""
    else:
        read = maps()
        found = ((size, dice_that_is_kept(read, dataset_json, max(shape) / size)) for size in fitting)
        chosen, kept_dice = next(((size, there) for size, there in found if there >= KEPT_DICE), (None, 0.0))
        kept = f", at which your labels keep a Dice of {kept_dice:.3f}"
    part = f"Patches of {in_pixels(patch_size(shape, spacing))} show a part of your images of {in_pixels(shape)}"
    if chosen is None:
        logger.warning(f"{part}: at no size at which they show all do your labels keep a Dice of {KEPT_DICE}.")
    else:
        logger.warning(
            f"{part}. Planned are whole images of {in_pixels(shapes[chosen])} instead{kept}; masks are predicted at "
            "your images' size. For patches at their own size: nnunet-diffusion plan --no-whole-images."
        )
    return chosen


def in_pixels(shape: Sequence[float] | np.ndarray) -> str:
    """Rows x columns."""
    return " x ".join(f"{n:.0f}" for n in shape)


def label_maps(raw_dataset_folder: Path, dataset_json: Mapping[str, Any], reader: BaseReaderWriter) -> list[np.ndarray]:
    """Some label maps (1, rows, columns) of a raw data set, from all over the list of its cases.

    Raises:
        ImageError: one cannot be read.
    """
    cases, _ = find_labelled_cases(raw_dataset_folder, dataset_json)
    files = [case.label for case in cases if case.label is not None]
    return [read_segmentation(reader, file)[0] for file in spread_over(files, NUM_CASES)]


def dice_that_is_kept(maps: Sequence[np.ndarray], dataset_json: Mapping[str, Any], factor: float | np.ndarray) -> float:
    """Dice of label maps with what a perfect prediction at a coarser resolution would make of them.

    A map is resampled as nnU-Net's preprocessing does it, and its masks back as nnU-Net does with probabilities.

    Args:
        maps: label maps (1, rows, columns).
        dataset_json: with the labels.
        factor: by which rows and columns become fewer; one, or one of each.

    Returns:
        mean over the maps that have a label, of the label or region that loses most; NaN if no map has one.
    """
    labels = LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))
    having = {
        one: [each for each in maps if region_or_label_to_mask(each, one).any()]
        for one in (labels.foreground_regions if labels.has_regions else labels.foreground_labels)
    }
    means = (
        fmean(_dice_that_is_kept(each, one, labels.ignore_label, factor) for each in those)
        for one, those in having.items()
        if those
    )
    return min(means, default=float("nan"))


def _dice_that_is_kept(
    fine: np.ndarray, label: int | tuple[int, ...], ignore_label: int | None, factor: float | np.ndarray
) -> float:
    shape = np.maximum(1, np.round(np.array(fine.shape[1:]) / factor)).astype(int)
    coarse = region_or_label_to_mask(_resampled(fine, shape, is_seg=True), label)
    back = _resampled(coarse.astype(np.float32), fine.shape[1:], is_seg=False) > 0.5
    ignored = None if ignore_label is None else fine == ignore_label
    tp, fp, fn, _ = compute_tp_fp_fn_tn(region_or_label_to_mask(fine, label), back, ignored)
    return float(2 * tp / (2 * tp + fp + fn))


def _resampled(image: np.ndarray, shape: Sequence[int], is_seg: bool) -> np.ndarray:
    """An image (1, rows, columns) with other rows and columns."""
    spacing = (1.0, *(old / new for old, new in zip(image.shape[1:], shape, strict=True)))
    return resample_data_or_seg_to_shape(
        image[None], (1, *shape), (1.0, 1.0, 1.0), spacing, is_seg, order=1, order_z=0, force_separate_z=False
    )[0]
