"""Components that are too small: which they are, and what is left."""

import numpy as np
import pytest

from nnunet_diffusion_ensemble.postprocessing.components import least_share, remove_small_components


def picture(*rows: str) -> np.ndarray:
    """A label map (1, rows, columns); a point is background."""
    return np.array([[[0 if c == "." else int(c) for c in row] for row in rows]])


LUNGS = picture(
    "1111..11.",
    "1111..11.",
    ".........",
    "1........",
)  # 8, 4 and 1 pixels


@pytest.mark.parametrize(
    ("share", "left"),
    [
        (0.0, 13),
        (0.125, 13),  # 1 of 8 is not less
        (0.13, 12),
        (0.5, 12),
        (0.51, 8),
        (1.0, 8),
    ],
)
def test_components_below_the_share_of_the_largest_go(share: float, left: int) -> None:
    cleaned = remove_small_components(LUNGS, [(1, share)])
    assert (cleaned == 1).sum() == left
    assert np.array_equal(cleaned[cleaned == 1], LUNGS[cleaned == 1])
    assert (LUNGS == 1).sum() == 13  # the input stays


def test_pixels_that_touch_by_corners_are_one_component() -> None:
    corners = picture("11..", "11..", "..1.", "...1")
    assert np.array_equal(remove_small_components(corners, [(1, 1.0)]), corners)
    volume = np.zeros((2, 2, 2), int)
    volume[0, 0, 0] = volume[1, 1, 1] = 1
    assert np.array_equal(remove_small_components(volume, [(1, 1.0)]), volume)


def test_each_label_has_its_share_and_others_stay() -> None:
    labels = picture("11.22.3", "11.22..", ".......", "1..2..3", ".......", "3......")
    expected = picture("11.22.3", "11.22..", ".......", "...2..3", ".......", "3......")
    assert np.array_equal(remove_small_components(labels, [(1, 0.5), (2, 0.25)]), expected)


def test_a_region_is_one_object_of_several_labels() -> None:
    region = picture("12...", "11...", "....2", ".....")
    expected = picture("12...", "11...", ".....", ".....")
    assert np.array_equal(remove_small_components(region, [((1, 2), 0.5)]), expected)
    assert np.array_equal(remove_small_components(region, [(1, 0.5), (2, 0.5)]), region)  # each 2 is as large


def test_what_is_removed_becomes_the_background_that_nnunet_names() -> None:
    assert (remove_small_components(LUNGS, [(1, 1.0)], background_label=7) == 7).sum() == 5


def test_empty_segmentations_stay_empty() -> None:
    assert not remove_small_components(np.zeros((1, 3, 3), np.uint8), [(1, 1.0)]).any()


def test_the_least_share_of_labelled_masks_leaves_out_specks() -> None:
    two = np.zeros((1, 20, 20), bool)
    two[0, :10, :10], two[0, 12:17, :10] = True, True  # 100 and 50
    assert least_share([two]) == 0.5
    two[0, 19, 19] = True  # 1 of 151 is below 5%
    assert least_share([two]) == 0.5
    two[0, 12:17, 12:14] = True  # 10 of 161 is not
    assert least_share([two]) == 0.1


def test_the_least_share_is_that_of_the_image_where_it_is_least() -> None:
    one, two = picture("11.", "11.") > 0, picture("11.", "...", "1..") > 0
    assert least_share([one]) == 1.0
    assert least_share([one, two, np.zeros_like(one)]) == 0.5
    assert least_share([np.zeros_like(one)]) is None
