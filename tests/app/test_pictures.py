"""The pictures of the page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from looks import make_look
from matplotlib import colormaps
from matplotlib.colors import to_hex

from nnunet_diffusion_ensemble.app.look import Inspection
from nnunet_diffusion_ensemble.app.pictures import (
    DPI,
    ENSEMBLE_COLORS,
    TITLE_INCHES,
    Display,
    contours_picture,
    entropy_picture,
    first_shown,
    grey_steps,
)


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    codes = np.unique(picture.astype(int) @ (1 << 16, 1 << 8, 1))
    return {(code >> 16, code >> 8 & 255, code & 255) for code in codes.tolist()}


def rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def in_image(picture: np.ndarray, row: float, column: float) -> np.ndarray:
    """A pixel by its place in the image, from 0 to 1; above the image is its title, below it the legend."""
    side = picture.shape[1]
    return picture[int(TITLE_INCHES * DPI + row * side), int(column * side)]


@pytest.fixture
def look(tmp_path: Path) -> Inspection:
    return make_look(tmp_path)


def test_the_window_decides_what_is_black_and_white(look: Inspection) -> None:
    unmarked = replace(look, prediction=replace(look.prediction, segmentation=np.zeros((1, 8, 8), int), timesteps=None))
    for level, window, left, right in ((100, 200, 0, 255), (300, 100, 0, 0), (-100, 50, 255, 255), (200, 400, 0, 128)):
        picture = contours_picture(unmarked, Display(0, level, window))
        assert in_image(picture, 0.7, 0.2) == pytest.approx(left, abs=2)
        assert in_image(picture, 0.7, 0.8) == pytest.approx(right, abs=2)


def test_contours_of_the_ensemble_and_of_each_timestep_are_drawn(look: Inspection) -> None:
    shown, segmentation = first_shown(look), look.prediction.segmentation
    left = np.zeros_like(segmentation)
    left[..., :2] = 1
    pictures = {
        name: contours_picture(replace(look, prediction=replace(look.prediction, timesteps=timesteps)), shown)
        for name, timesteps in (("none", None), ("one", {1: left}), ("two", {1: left, 50: segmentation}))
    }
    assert all(rgb(ENSEMBLE_COLORS[0]) in colours(picture) for picture in pictures.values())
    first, last = (rgb(to_hex(colormaps["plasma"](share))) for share in (0.25, 1.0))
    assert {name: {first, last} & colours(picture) for name, picture in pictures.items()} == {
        "none": set(),
        "one": {first},
        "two": {first, last},
    }


def test_an_image_in_which_nothing_is_found_is_drawn_without_a_warning(
    look: Inspection, recwarn: pytest.WarningsRecorder
) -> None:
    nothing = np.zeros((1, 8, 8), int)
    contours_picture(
        replace(look, prediction=replace(look.prediction, segmentation=nothing, timesteps={1: nothing})),
        first_shown(look),
    )
    assert not [warning for warning in recwarn if "contour" in str(warning.message).lower()]


def test_entropy_colours_where_it_is_high_and_nothing_else(look: Inspection) -> None:
    entropy = np.zeros((1, 8, 8), np.float32)
    entropy[0, 6:] = 1
    picture = entropy_picture(replace(look, prediction=replace(look.prediction, entropy=entropy)), Display(0, 100, 200))
    assert np.ptp(in_image(picture, 0.3, 0.2)) == 0  # grey
    assert np.ptp(in_image(picture, 0.9, 0.2).astype(int)) > 40


def test_the_slice_that_is_asked_for_is_shown(look: Inspection) -> None:
    voxels = np.stack([np.zeros((8, 8)), np.full((8, 8), 200.0)])[None].astype(np.float32)
    nothing = np.zeros((2, 8, 8), int)
    volume = replace(
        look,
        upload=replace(look.upload, voxels=voxels),
        prediction=replace(look.prediction, segmentation=nothing, entropy=nothing.astype(float), timesteps=None),
    )
    dark, bright = (in_image(contours_picture(volume, Display(i, 100, 200)), 0.5, 0.5) for i in (0, 1))
    assert (dark.tolist(), bright.tolist()) == ([0, 0, 0], [255, 255, 255])


def test_the_slice_with_the_most_foreground_comes_first(look: Inspection) -> None:
    segmentation = np.zeros((3, 8, 8), int)
    segmentation[1, :2], segmentation[2, :1] = 1, 1
    voxels = np.repeat(look.upload.voxels, 3, axis=1)
    volume = replace(
        look,
        upload=replace(look.upload, voxels=voxels),
        prediction=replace(look.prediction, segmentation=segmentation),
    )
    assert first_shown(volume).slice_index == 1
    empty = replace(volume, prediction=replace(look.prediction, segmentation=np.zeros((3, 8, 8), int)))
    assert first_shown(empty).slice_index == 1


def test_the_first_window_spans_the_image_but_for_its_extremes(look: Inspection) -> None:
    values = np.arange(1000, dtype=np.float32).reshape(1, 1, 25, 40)
    shown = first_shown(replace(look, upload=replace(look.upload, voxels=values)))
    assert shown.limits == pytest.approx((0.005 * 999, 0.995 * 999))


def test_an_image_of_one_grey_value_can_be_shown(look: Inspection) -> None:
    flat = replace(look, upload=replace(look.upload, voxels=np.full((1, 1, 8, 8), 7, np.float32)))
    shown = first_shown(flat)
    assert shown.window > 0
    contours_picture(flat, shown)


def test_a_contour_at_the_edge_leaves_the_image_in_its_place(look: Inspection) -> None:
    whole = np.ones((1, 8, 8), int)
    marked = replace(look, prediction=replace(look.prediction, segmentation=whole, timesteps=None))
    picture = contours_picture(marked, Display(0, 100, 200))
    bare = entropy_picture(marked, Display(0, 100, 200))
    for row, column in ((0.5, 0.49), (0.5, 0.51)):  # either side of the border between black and white
        assert in_image(picture, row, column) == pytest.approx(in_image(bare, row, column), abs=2)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 255, (0, 255, 1)),
        (-1024, 3071, (-1030, 3080, 10)),
        (0, 61198, (0, 61200, 100)),
        (0.03, 0.91, (0.03, 0.91, 0.001)),
        (7, 7, (7, 8, 1)),
    ],
)
def test_sliders_go_in_round_steps(low: float, high: float, expected: tuple[float, ...]) -> None:
    assert grey_steps(low, high) == pytest.approx(expected)
