"""The contact sheet of cases."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnunet_diffusion_ensemble.demo.overlay import OverlayCase, worst_median_best, write_overlay


def case(name: str, dice: float, reference: slice = slice(8, 24)) -> OverlayCase:
    inside = np.zeros((32, 32), bool)
    inside[8:24, reference] = True
    image = np.linspace(0, 255, 32 * 32).reshape(32, 32)
    return OverlayCase(name, image, inside, np.roll(inside, 3, axis=1), dice)


@pytest.mark.parametrize(
    ("dices", "expected"),
    [([0.5], "000"), ([0.9, 0.5], "110"), ([0.9, 0.5, 0.7], "120"), ([0.4, 0.9, 0.5, 0.7], "021")],
)
def test_worst_median_and_best_of_a_group(dices: list[float], expected: str) -> None:
    chosen = worst_median_best([case(str(i), dice) for i, dice in enumerate(dices)])
    assert list(chosen) == ["worst", "median", "best"]
    assert "".join(one.name for one in chosen.values()) == expected


def test_no_cases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give one or more"):
        worst_median_best([])
    with pytest.raises(ValueError, match="give one or more"):
        write_overlay({}, tmp_path / "overlay.png")


def colours_in(file: Path) -> set[tuple[int, int, int]]:
    with Image.open(file) as picture:
        return set(map(tuple, np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()))


def test_the_picture_shows_both_contours_and_is_written_whole(tmp_path: Path) -> None:
    write_overlay({"Here": [case("a", 0.5), case("b", 0.9)], "There": [case("c", 0.7)]}, tmp_path / "overlay.png")
    assert [file.name for file in tmp_path.iterdir()] == ["overlay.png"]
    assert {(0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)} <= colours_in(tmp_path / "overlay.png")


def test_an_empty_mask_has_no_contour_and_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    write_overlay({"Here": [case("a", 0.0, slice(0, 0))]}, tmp_path / "overlay.png")
    assert (tmp_path / "overlay.png").is_file()
    assert not [warning for warning in recwarn if "contour" in str(warning.message).lower()]
