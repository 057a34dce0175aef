"""Large 2D images are planned whole, at the coarsest size that their labels survive."""

import logging
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    ResEncUNetPlanner,
)
from planning_data import make_dataset, plan

from nnunet_diffusion_ensemble.planning.options import PlanningOptions
from nnunet_diffusion_ensemble.planning.planner import DiffusionEnsemblePlanner
from nnunet_diffusion_ensemble.planning.unlabelled import UnlabelledPlanner
from nnunet_diffusion_ensemble.planning.whole_images import choose_size, dice_that_is_kept

ORGAN = {"labels": {"background": 0, "organ": 1}}
SHAPE = (2048, 1024)


def disc(shape=SHAPE, radius=300):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside = (rows - shape[0] / 2) ** 2 + (columns - shape[1] / 2) ** 2 < radius**2
    return inside.astype(np.uint8)[None]


def line(shape=SHAPE):
    """Two pixels wide."""
    labels = np.zeros((1, *shape), np.uint8)
    labels[:, 100:-100, 496:498] = 1  # the coarser pixels of test_a_line... are read at 499.5
    return labels


# ---- what a coarser resolution leaves of labels


def dice_by_torch(fine, factor):
    """Linear interpolation there and back."""
    coarse = [round(n / factor) for n in fine.shape[1:]]
    low = torch.nn.functional.interpolate(torch.tensor(fine)[None].float(), coarse, mode="bilinear") > 0.5
    back = torch.nn.functional.interpolate(low.float(), fine.shape[1:], mode="bilinear")[0].numpy() > 0.5
    return 2 * (back & (fine == 1)).sum() / (back.sum() + fine.sum())


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.2, 8.0])
def test_dice_is_that_of_linear_interpolation_there_and_back(factor):
    fine = disc((160, 128), 37.3)
    assert dice_that_is_kept([fine], ORGAN, factor) == pytest.approx(dice_by_torch(fine, factor), abs=2e-3)  # ties


def test_a_line_of_two_pixels_is_lost_at_an_eighth_of_the_resolution():
    assert dice_that_is_kept([line()], ORGAN, 1.0) == 1.0
    assert dice_that_is_kept([line()], ORGAN, 8.0) == 0.0


def test_it_is_that_of_the_label_that_loses_most_over_the_images_that_have_it():
    two = {"labels": {"background": 0, "organ": 1, "wire": 2}}
    wire = line() * 2
    assert dice_that_is_kept([disc(), disc()], two, 8.0) == dice_that_is_kept([disc()], ORGAN, 8.0) > 0.99
    assert dice_that_is_kept([disc(), wire], two, 8.0) == 0.0


def test_regions_are_measured_and_ignored_pixels_are_not():
    regions = {"labels": {"background": 0, "all": [1, 2], "wire": 2}, "regions_class_order": [1, 2]}
    both = np.maximum(disc(), line() * 2)
    assert dice_that_is_kept([both], regions, 8.0) < 0.1
    ignored = {"labels": {"background": 0, "organ": 1, "ignore": 2}}
    halves = disc()
    halves[:, :, :512][halves[:, :, :512] == 0] = 2  # all that is not organ on the left
    assert dice_that_is_kept([halves], ignored, 8.0) > 0.99


def test_without_a_labelled_pixel_nothing_is_known():
    assert math.isnan(dice_that_is_kept([np.zeros((1, 64, 64), np.uint8)], ORGAN, 2.0))


# ---- which size is chosen


def of_at_most(pixels):
    """Memory for patches of as many rows and columns."""
    return lambda shape, spacing: [min(int(n), pixels) for n in shape]


@pytest.mark.parametrize(
    ("memory", "maps", "expected"),
    [
        (2048, [disc()], None),  # a patch shows all
        (512, [disc()], 256),
        (512, [disc(radius=100)], 512),
        (256, [disc(radius=100)], None),  # would need 512
        (512, [line()], None),
        (32, [disc()], None),
        (512, None, 256),
        (100, None, 64),
    ],
)
def test_it_is_the_smallest_at_which_labels_are_kept(memory, maps, expected):
    read = None if maps is None else lambda: maps
    if maps and expected:
        assert dice_by_torch(maps[0], 2048 / expected) >= 0.99 > dice_by_torch(maps[0], 2 * 2048 / expected)
    assert choose_size(np.array(SHAPE), np.ones(2), of_at_most(memory), ORGAN, read) == expected


def test_what_was_chosen_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        choose_size(np.array(SHAPE), np.ones(2), of_at_most(512), ORGAN, lambda: [disc()])
        choose_size(np.array(SHAPE), np.ones(2), of_at_most(512), ORGAN, lambda: [line()])
    assert (
        "Patches of 512 x 512 show a part of your images of 2048 x 1024. Planned are whole images of 256 x 128"
        in caplog.text
    )
    assert "--no-whole-images" in caplog.text
    assert "at no size at which they show all do your labels keep a Dice of 0.99" in caplog.text


# ---- in plans


def large_dataset(tmp_path, monkeypatch, labels):
    name = make_dataset(tmp_path, monkeypatch, {"0": "X-ray"}, (1, *SHAPE), (999.0, 1.0, 1.0))
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "raw" / name / "labelsTr" / "case.nii.gz"))
    return name


def test_large_images_are_planned_whole(tmp_path, monkeypatch):
    planned = plan(DiffusionEnsemblePlanner(large_dataset(tmp_path, monkeypatch, disc()), plans_name="Ours"))["2d"]
    assert planned["spacing"] == [8.0, 8.0]
    assert planned["median_image_size_in_voxels"] == [256, 128]
    assert planned["patch_size"] == [256, 128]
    assert planned["data_identifier"] == "Ours_2d"


class Stock(ResEncUNetPlanner):
    """Estimates memory without drawing weights, which takes half a minute."""

    static_estimate_VRAM_usage = staticmethod(DiffusionEnsemblePlanner.static_estimate_VRAM_usage)


@pytest.mark.parametrize(("labels", "options"), [(disc(), {"whole_images": False}), (line(), {})])
def test_otherwise_patches_are_those_of_nnunet(tmp_path, monkeypatch, labels, options):
    name = large_dataset(tmp_path, monkeypatch, labels)
    planned = plan(DiffusionEnsemblePlanner(name, options=PlanningOptions(**options)))["2d"]
    stock = plan(Stock(name))["2d"]
    assert planned["patch_size"] == stock["patch_size"] == [768, 320]
    assert planned["data_identifier"] == stock["data_identifier"]


def test_a_size_that_the_user_gives_is_taken(tmp_path, monkeypatch):
    name = large_dataset(tmp_path, monkeypatch, line())
    planned = plan(DiffusionEnsemblePlanner(name, options=PlanningOptions(image_size=256)))["2d"]
    assert planned["median_image_size_in_voxels"] == [256, 128]


def test_without_labels_large_images_are_planned_at_256_pixels(tmp_path, monkeypatch):
    name = make_dataset(tmp_path, monkeypatch, {"0": "X-ray"}, (1, *SHAPE), (999.0, 1.0, 1.0), num_unlabelled=1)
    image = sitk.GetImageFromArray(np.zeros((1, 8, 8), np.float32))
    sitk.WriteImage(image, str(tmp_path / "raw" / name / "imagesUn" / "other0_0000.nii.gz"))
    planned = plan(UnlabelledPlanner(name))["2d"]
    assert planned["median_image_size_in_voxels"] == [256, 128]
