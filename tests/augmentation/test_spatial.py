"""Where a bright pixel goes, what comes in from outside, and what a seed draws."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform

from nnunet_diffusion_ensemble.augmentation.spatial import ShiftSpatialTransform

STILL = {"rotation": 0, "scale": 0, "stretch": 0, "translation": 0, "black_probability": 1}


def image_with(size: tuple[int, ...], bright: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """One voxel of 1 and of label 1 among zeros."""
    image, segmentation = torch.zeros(1, *size), torch.zeros(1, *size, dtype=torch.int16)
    image[(0, *bright)], segmentation[(0, *bright)] = 1, 1
    return {"image": image, "segmentation": segmentation}


def drawing(monkeypatch: pytest.MonkeyPatch, *values: Any) -> None:
    """What `np.random.uniform` returns, call by call."""
    left = list(values)
    monkeypatch.setattr(np.random, "uniform", lambda *_: left.pop(0))


@pytest.mark.parametrize(
    ("size", "bright", "moved_to", "share"),
    [
        ((10, 20), (4, 8), (6, 8), (0.2, 0.0)),  # 0.2 of 10 rows are 2 rows down
        ((10, 20), (4, 8), (4, 3), (0.0, -0.25)),  # 0.25 of 20 columns are 5 columns to the left
        ((8, 10, 20), (4, 4, 8), (2, 5, 12), (-0.25, 0.1, 0.2)),
    ],
)
def test_a_voxel_moves_by_the_share_of_the_patch_that_is_drawn(
    monkeypatch: pytest.MonkeyPatch, size: tuple, bright: tuple, moved_to: tuple, share: tuple
) -> None:
    none = np.zeros(len(size))
    drawing(monkeypatch, 0.0, none, np.array(share), 0.0)
    result = ShiftSpatialTransform(size, **STILL | {"translation": 0.3})(**image_with(size, bright))
    expected = image_with(size, moved_to)
    assert torch.allclose(result["image"], expected["image"], atol=1e-4)
    inside = result["segmentation"] >= 0
    assert torch.equal(result["segmentation"][inside], expected["segmentation"][inside])


def test_a_quarter_turn_brings_the_right_to_the_bottom_or_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    transform = ShiftSpatialTransform((9, 9), **STILL | {"rotation": math.pi / 2})
    result = transform(**image_with((9, 9), (4, 7)))
    row, column = np.unravel_index(int(result["image"].argmax()), (9, 9))
    assert column == 4 and row in (1, 7)
    assert int(result["segmentation"][0, row, column]) == 1


def test_a_positive_draw_magnifies_each_axis_by_its_own_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A square of 4 x 4 in the middle becomes 8 rows by 16 columns: factors 2 and 4."""
    image = torch.zeros(1, 32, 32)
    image[:, 14:18, 14:18] = 1
    drawing(monkeypatch, math.log(2), np.array([0.0, math.log(2)]), np.zeros(2), 0.0)
    result = ShiftSpatialTransform((32, 32), **STILL)(image=image)["image"][0]
    assert (result.amax(1) > 0.5).sum() == 8
    assert (result.amax(0) > 0.5).sum() == 16


def test_outside_has_the_lowest_value_of_its_channel_and_the_label_of_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.stack([torch.full((8, 8), 2.0), torch.full((8, 8), 30.0)])
    image[0, 0, 7], image[1, 7, 7] = -3, 10
    data = {"image": image, "segmentation": torch.ones(1, 8, 8, dtype=torch.int16)}
    drawing(monkeypatch, 0.0, np.zeros(2), np.array([0.0, 0.25]), 0.0)
    result = ShiftSpatialTransform((8, 8), **STILL)(**data)
    assert torch.allclose(result["image"][0, :, :2], torch.tensor(-3.0))
    assert torch.allclose(result["image"][1, :, :2], torch.tensor(10.0))
    assert (result["segmentation"][0, :, :2] == -1).all()
    assert (result["segmentation"][0, :, 2:] == 1).all()


def test_padding_of_the_loader_is_filled_and_is_not_the_lowest_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader pads with 0, here the lowest number of all; the image itself goes down to 5."""
    image, segmentation = torch.full((1, 8, 8), 7.0), torch.zeros(1, 8, 8, dtype=torch.int16)
    image[0, 3, 3], image[0, :2], segmentation[0, :2] = 5, 0, -1
    drawing(monkeypatch, 0.0, np.zeros(2), np.zeros(2), 0.0)
    result = ShiftSpatialTransform((8, 8), **STILL)(image=image, segmentation=segmentation)
    assert torch.allclose(result["image"][0, :2], torch.tensor(5.0))
    assert torch.allclose(result["image"][0, 2], torch.tensor(7.0))


def test_outside_is_zero_as_in_prediction_where_black_is_not_drawn() -> None:
    data = image_with((8, 8), (4, 4))
    data["image"] -= 3
    data["segmentation"][0, :, 6:] = -1
    result = ShiftSpatialTransform((8, 8), **STILL | {"black_probability": 0})(**data)
    assert torch.allclose(result["image"][0, :, 6:], torch.tensor(0.0))
    assert torch.allclose(result["image"][0, :, :4], torch.tensor(-3.0))


def test_a_patch_that_lies_outside_altogether_stays_finite() -> None:
    outside = torch.full((1, 8, 8), -1, dtype=torch.int16)
    result = ShiftSpatialTransform((8, 8), **STILL)(image=torch.full((1, 8, 8), 4.0), segmentation=outside)
    assert torch.allclose(result["image"], torch.tensor(4.0))


def test_an_ignore_label_moves_with_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    data = image_with((10, 10), (4, 4))
    data["segmentation"][data["segmentation"] == 1] = 2  # nnU-Net's ignore label is the highest
    drawing(monkeypatch, 0.0, np.zeros(2), np.array([0.3, 0.3]), 0.0)
    result = ShiftSpatialTransform((10, 10), **STILL)(**data)
    assert result["segmentation"][0, 7, 7] == 2
    assert (result["segmentation"] == 2).sum() == 1


def test_image_and_segmentation_move_alike(randn: Callable) -> None:
    """A smooth image whose sign is its label: the signs agree afterwards but at the border between them."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = ((rows / 9).sin() + (columns / 11).cos())[None]
    transform = ShiftSpatialTransform((64, 64), (-0.26, 0.26), black_probability=0)
    np.random.seed(0)
    for _ in range(5):
        result = transform(image=image.clone(), segmentation=(image > 0).to(torch.int16))
        sure = (result["image"].abs() > 0.1) & (result["segmentation"] >= 0)
        assert torch.equal((result["image"] > 0)[sure], (result["segmentation"] == 1)[sure])


def test_thick_slices_move_within_their_planes_and_keep_the_values_of_their_channel() -> None:
    """As nnU-Net handles them: slices as further channels. The second channel lies 10 above the first one."""
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    data = {"image": torch.cat([image, image + 10]), "segmentation": torch.zeros(1, 3, 16, 16, dtype=torch.int16)}
    data["segmentation"][0, 1, :4] = -1  # of the middle slice alone
    for transform in (Convert3DTo2DTransform(), ShiftSpatialTransform((16, 16), **STILL), Convert2DTo3DTransform()):
        data = transform(**data)
    inside = torch.ones(3, 16, 16, dtype=torch.bool)
    inside[1, :4] = False
    assert data["image"].shape == (2, 3, 16, 16)
    lowest = image[0][inside].min()
    assert torch.allclose(data["image"][0, 1, :4], lowest, atol=1e-5)
    assert torch.allclose(data["image"][1, 1, :4], lowest + 10, atol=1e-5)
    assert torch.allclose(data["image"][0][inside], image[0][inside], atol=1e-5)


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    results = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        results.append(ShiftSpatialTransform((16, 16), (-0.2, 0.2))(image=image.clone())["image"])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("size", [(24, 16), (8, 24, 16)])
def test_translations_stay_within_their_share_and_use_it(size: tuple) -> None:
    """The middle of the patch shows the place that lies the drawn offset away from the image's middle."""
    transform = ShiftSpatialTransform(size, **STILL | {"translation": 0.15})
    np.random.seed(0)
    odd = tuple(n + 1 for n in size)  # so that there is a voxel in the middle
    transform.patch_size = odd
    middles = [
        transform.get_parameters(image=torch.zeros(1, *odd))["grid"][tuple(n // 2 for n in odd)] for _ in range(300)
    ]
    reached = torch.stack(middles).abs().amax(0)  # in halves of the image
    assert (reached <= 2 * 0.15).all() and (reached > 2 * 0.14).all()


def test_regression_targets_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="not regression targets"):
        ShiftSpatialTransform((8, 8), 0)(image=torch.zeros(1, 8, 8), regression_target=torch.zeros(1, 8, 8))
