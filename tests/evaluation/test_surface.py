"""Surface metrics by hand, and against scipy's distance transforms, SimpleITK and MONAI's own metrics."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from nnunet_diffusion_ensemble.evaluation.metrics import METRICS
from nnunet_diffusion_ensemble.evaluation.surface import compare_surfaces, surface_distances


def pixels(shape: tuple[int, ...], *positions: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(zip(*positions, strict=True))] = True
    return mask


def square(first_column: int) -> np.ndarray:
    mask = np.zeros((9, 12), bool)
    mask[2:7, first_column : first_column + 5] = True
    return mask


def values(reference: np.ndarray, prediction: np.ndarray, spacing: tuple = (1, 1), tolerance: float = 1.0) -> tuple:
    """HD95, ASSD and NSD."""
    surfaces = compare_surfaces(reference, prediction, spacing, tolerance)
    return tuple(METRICS[name].compute(surfaces) for name in ("HD95", "ASSD", "NSD"))


@pytest.mark.parametrize(("tolerance", "nsd"), [(0, 4 / 16), (1, 9 / 16), (2, 11 / 16), (3, 1)])
def test_squares_shifted_by_three_by_hand(tolerance: float, nsd: float) -> None:
    """Of 16 boundary pixels of each, 4 lie at distance 0, 5 at 1, 2 at 2 and 5 at 3."""
    assert values(square(2), square(5), tolerance=tolerance) == pytest.approx((3, (5 + 2 * 2 + 5 * 3) / 16, nsd))


def test_one_pixel_and_another() -> None:
    one, other = pixels((9, 9), (1, 2)), pixels((9, 9), (4, 6))
    assert values(one, other, tolerance=5) == (5, 5, 1)
    assert values(one, other, tolerance=4.99) == (5, 5, 0)


def test_spacing_belongs_to_the_axes_in_their_order() -> None:
    one, other = pixels((4, 5, 9), (1, 2, 1)), pixels((4, 5, 9), (2, 3, 7))
    assert values(one, other, (3, 2, 1)) == (7, 7, 0)  # 3^2 + 2^2 + 6^2 = 7^2


@pytest.mark.parametrize(("axis", "expected"), [(0, 4.5), (1, 2.1), (2, 1.5)])
def test_a_box_shifted_along_an_axis(axis: int, expected: float) -> None:
    box = np.zeros((12, 12, 12), bool)
    box[3:6, 3:6, 3:6] = True
    assert values(box, np.roll(box, 3, axis), (1.5, 0.7, 0.5))[0] == pytest.approx(expected)


def test_hd95_is_the_larger_percentile_of_the_two_directions() -> None:
    """Ten pixels in a row, and one more at distance 8: the 95th percentile of 11 lies halfway up to it."""
    row = [(1, column) for column in range(10)]
    reference, prediction = pixels((12, 12), *row), pixels((12, 12), *row, (9, 4))
    assert values(reference, prediction) == pytest.approx((4, 8 / 21, 20 / 21))
    assert values(prediction, reference) == pytest.approx((4, 8 / 21, 20 / 21))


def test_the_border_of_the_image_is_a_boundary() -> None:
    """All of a 4 x 4 image, and its middle: 12 boundary pixels, four of them at the corners, and 4."""
    middle = pixels((4, 4), (1, 1), (1, 2), (2, 1), (2, 2))
    assert values(np.ones((4, 4), bool), middle) == pytest.approx((math.sqrt(2), (12 + 4 * math.sqrt(2)) / 16, 12 / 16))


def test_empty_masks_give_what_is_documented() -> None:
    there, empty = square(2), np.zeros((9, 12), bool)
    diagonal = math.hypot(9 * 2, 12 * 0.5)
    assert values(empty, empty, (2, 0.5)) == (0, 0, 1)
    assert values(empty, there, (2, 0.5)) == values(there, empty, (2, 0.5)) == (diagonal, diagonal, 0)


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.RandomState(seed).randn(*shape), 2)
    return smooth > np.quantile(smooth, 0.7)


def by_distance_transform(reference: np.ndarray, prediction: np.ndarray, spacing: tuple, tolerance: float) -> tuple:
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (reference, prediction)]
    maps = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    directed = [maps[1][edges[0]], maps[0][edges[1]]]
    both = np.concatenate(directed)
    return max(np.percentile(one, 95) for one in directed), both.mean(), (both <= tolerance).mean()


@pytest.mark.parametrize(
    ("shape", "spacing"), [((40, 30), (1, 1)), ((25, 40), (0.8, 1.7)), ((9, 20, 24), (3.1, 1, 0.6))]
)
def test_random_blobs_agree_with_distance_transforms(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    reference, prediction = blobs(shape, 0), blobs(shape, 1)
    assert reference[0].any() and prediction[:, 0].any()  # some touch the border
    expected = by_distance_transform(reference, prediction, spacing, 2.05)
    assert 0 < expected[2] < 1
    assert values(reference, prediction, spacing, 2.05) == pytest.approx(expected, rel=1e-6)


def test_random_blobs_agree_with_metrics_of_monai() -> None:
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    masks = blobs((9, 20, 24), 1), blobs((9, 20, 24), 0)
    images = [torch.from_numpy(mask)[None, None].float() for mask in masks]  # prediction, reference
    options = {"include_background": True, "spacing": (3.1, 1.0, 0.6)}
    expected = (
        compute_hausdorff_distance(*images, percentile=95, **options).item(),
        compute_average_surface_distance(*images, symmetric=True, **options).item(),
        compute_surface_dice(*images, class_thresholds=[2.05], **options).item(),
    )
    assert values(masks[1], masks[0], (3.1, 1, 0.6), 2.05) == pytest.approx(expected, rel=1e-6)


def test_the_largest_distance_is_that_of_simpleitk() -> None:
    images = [sitk.GetImageFromArray(square(column).astype(np.uint8)) for column in (2, 5)]
    for image in images:
        image.SetSpacing((0.7, 1.9))  # x, y
    itk = sitk.HausdorffDistanceImageFilter()
    itk.Execute(*images)
    distances = surface_distances(square(2), square(5), (1.9, 0.7))
    assert distances.percentile(100) == pytest.approx(itk.GetHausdorffDistance())


SQUARE = np.ones((3, 3), bool)


@pytest.mark.parametrize(
    ("reference", "prediction", "spacing", "tolerance", "message"),
    [
        (SQUARE, SQUARE.astype(float), (1, 1), 1, "boolean, got bool, float64"),
        (SQUARE, SQUARE[1:], (1, 1), 1, "one shape"),
        (SQUARE[0], SQUARE[0], (1,), 1, r"2 or 3 axes, got the shape \(3,\)"),
        (SQUARE, SQUARE, (999, 1, 1), 1, r"spacing for each axis, got \(999, 1, 1\)"),
        (SQUARE, SQUARE, (1, 0), 1, "positive spacing"),
        (SQUARE, SQUARE, (1, math.nan), 1, "positive spacing"),
        (SQUARE, SQUARE, (1, math.inf), 1, "positive spacing"),
        (SQUARE, SQUARE, (1, 1), -1, "tolerance of NSD is at least 0, got -1"),
        (SQUARE, SQUARE, (1, 1), math.nan, "tolerance of NSD"),
    ],
)
def test_other_input_is_refused(reference, prediction, spacing, tolerance, message) -> None:
    with pytest.raises(ValueError, match=message):
        compare_surfaces(reference, prediction, spacing, tolerance)
