"""The picture of accepted and rejected images: which are shown, how they are cut, and what is drawn."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from nnunet_diffusion_ensemble.self_training.image_rule import Candidate, Verdict
from nnunet_diffusion_ensemble.self_training.picture import HATCH, Legend, Shown, _draw, chosen, flat, write_picture

LEGEND = Legend({"background": (0,), "lung": (1,)}, 2)


def verdict(number: int, reasons: tuple[str, ...] = ()) -> Verdict:
    return Verdict(Candidate(f"case_{number:02d}", {"lung": 0.2}, number / 100, 0.1), reasons)


def test_the_surest_and_the_least_sure_are_shown_and_some_between() -> None:
    verdicts = [verdict(i) for i in range(9)]
    assert [v.candidate.case for v in chosen(verdicts, True, 3)] == ["case_08", "case_04", "case_00"]


def test_accepted_and_rejected_are_told_apart() -> None:
    verdicts = [verdict(0), verdict(1, ("too small",)), verdict(2)]
    assert [v.candidate.case for v in chosen(verdicts, False)] == ["case_01"]
    assert [v.candidate.case for v in chosen(verdicts, True)] == ["case_02", "case_00"]


def test_a_volume_is_cut_across_its_thickest_axis_through_most_foreground() -> None:
    image, labels = np.arange(60).reshape(3, 4, 5), np.zeros((3, 4, 5), int)
    labels[1, 0, 0] = labels[2, :2, 0] = 1
    labels[0] = 2  # dropped
    cut, cut_labels = flat(image, labels, (5.0, 1.0, 1.0), 2)
    assert np.array_equal(cut, image[2])
    assert np.array_equal(cut_labels, labels[2])
    assert flat(image, labels, (1.0, 1.0, 3.0), 2)[0].shape == (3, 4)


def test_a_picture_is_shown_whole() -> None:
    image = np.zeros((1, 4, 5))
    assert flat(image, image.astype(int), (999.0, 1.0, 1.0), 2)[0].shape == (4, 5)


@pytest.fixture
def shown() -> Shown:
    labels = np.zeros((16, 16), int)
    labels[4:10, 4:10], labels[10:12, 4:10] = 1, 2
    return Shown(verdict(1, ("lung covers 90.0%, allowed are 10.0% to 60.0%",)), np.eye(16), labels)


def test_a_panel_has_contours_hatched_pixels_and_the_reason(shown: Shown) -> None:
    axis = Figure().subplots()
    _draw(axis, shown, LEGEND)
    contour, hatched = axis.collections
    corners = contour.get_paths()[0].vertices
    assert (corners.min(0).tolist(), corners.max(0).tolist()) == ([3.5, 3.5], [9.5, 9.5])
    assert hatched.hatches == [HATCH]
    dropped = hatched.get_paths()[0].vertices
    assert (dropped.min(0).tolist(), dropped.max(0).tolist()) == ([3.5, 9.5], [9.5, 11.5])
    assert axis.get_xlabel().replace("\n", " ") == "lung covers 90.0%, allowed are 10.0% to 60.0%"


@pytest.mark.parametrize("numbers", [(1, 1), (0, 2), (7, 0)])
def test_the_file_holds_both_kinds_however_many_there_are(
    shown: Shown, tmp_path: Path, numbers: tuple[int, int]
) -> None:
    write_picture([shown] * numbers[0], [shown] * numbers[1], numbers, LEGEND, tmp_path / "images.png")
    with Image.open(tmp_path / "images.png") as image:
        assert image.size[0] > 1000
        assert len(np.unique(np.asarray(image.convert("L")))) > 2
