"""Pairing, checking and naming before a conversion: tiny folders with worked results, and every refusal."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnunet_diffusion_ensemble.data.pixels import GREY_AS_RGB, RGB
from nnunet_diffusion_ensemble.data.survey import find_source_cases, name_mask_values, some, survey_cases

PIXELS = np.array([[0, 10, 20], [30, 40, 50]], np.uint8)
COLOUR = np.stack([PIXELS, PIXELS + 1, PIXELS + 2], -1)
MASK = np.array([[0, 255, 255], [0, 0, 0]], np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save(tmp_path / "images" / "a.png", PIXELS).parent


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return save(tmp_path / "masks" / "a.png", MASK).parent


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    return save(tmp_path / "pool" / "u.png", PIXELS).parent


def assert_refused(pattern: str, *folders: object, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error, match=pattern):
        name_mask_values(survey_cases(find_source_cases(*folders, test_images=None, mask_suffix="")).values, None)


def test_lists_are_cut_after_five():
    assert some(range(5)) == "0, 1, 2, 3, 4"
    assert some(range(7), "; ") == "0; 1; 2; 3; 4; and 2 more"


@pytest.mark.parametrize("mask_name", ["a.png", "a.tif", "a.bmp", "a_0000.png"])
def test_masks_pair_by_name_whatever_the_ending(images, tmp_path, mask_name):
    mask = save(tmp_path / "masks" / mask_name, MASK)
    (case,) = find_source_cases(images, mask.parent, [], None, "")
    assert (case.name, case.mask, case.folder) == ("a", mask, "imagesTr")


def test_images_and_masks_may_share_a_folder_if_a_suffix_tells_them_apart(images):
    mask = save(images / "a_mask.png", MASK)
    (case,) = find_source_cases(images, images, [], None, "_mask")
    assert (case.image, case.mask) == (images / "a.png", mask)


def test_a_suffix_chooses_among_the_masks_of_a_folder(images, tmp_path):
    lung = save(tmp_path / "masks" / "a_lung.png", MASK)
    save(tmp_path / "masks" / "a_heart.png", 255 - MASK)
    (case,) = find_source_cases(images, lung.parent, [], None, "_lung")
    assert case.mask == lung


WRONG_IMAGES = {
    "no image at all": (lambda f: (f / "a.png").rename(f / "a.dcm"), r"no fitting image \(.png"),
    "two endings": (lambda f: save(f / "a.bmp", PIXELS), "differ only in their ending: a. Keep"),
    "image without mask": (lambda f: save(f / "b.png", PIXELS), r"without a mask .*b.png.*as unlabelled"),
    "sizes differ": (lambda f: save(f / "a.png", PIXELS.T.copy()), "a.png is 3 x 2, its mask .*a.png 2 x 3"),
    "name ends in _seg": (lambda f: save(f / "a_seg.png", PIXELS), "end in _seg: rename a_seg.png"),
}

WRONG_MASKS = {
    "mask without image": (lambda f: save(f / "b.png", MASK), r"Masks without an image .*b.png"),
    "JPEG": (lambda f: [(f / "a.png").unlink(), save(f / "a.jpg", MASK)], "JPEG .*a.jpg.*Export them as PNG"),
    "colour": (lambda f: save(f / "a.png", COLOUR), "a.png is a colour mask: save it as a grey image"),
    "gap": (lambda f: save(f / "a.png", MASK // 255 * 3), r"values 0, 3 \(e.g. 3 in .*a.png\).*labels"),
    "empty": (lambda f: save(f / "a.png", MASK * 0), r"values 0 \(e.g. 0 in .*a.png\)"),
    "no background": (lambda f: save(f / "a.png", MASK * 0 + 255), r"values 255 \(e.g. 255 in .*a.png\)"),
}


@pytest.mark.parametrize("wrong", WRONG_IMAGES)
def test_wrong_images_are_refused(images, masks, wrong):
    spoil, pattern = WRONG_IMAGES[wrong]
    spoil(images)
    assert_refused(pattern, images, masks, [], error=FileNotFoundError if wrong == "no image at all" else ValueError)


@pytest.mark.parametrize("wrong", WRONG_MASKS)
def test_wrong_masks_are_refused(images, masks, wrong):
    spoil, pattern = WRONG_MASKS[wrong]
    spoil(masks)
    assert_refused(pattern, images, masks, [])


def test_folders_that_do_not_fit_are_refused(images, masks):
    assert_refused("give the mask_suffix", images, images, [])
    assert_refused("gone is not a folder", images / "gone", masks, [], error=FileNotFoundError)


@pytest.mark.parametrize("stem", ["a", "A"])
def test_labelled_and_unlabelled_cases_have_different_names(images, masks, unlabelled, stem):
    save(unlabelled / f"{stem}.png", PIXELS)
    assert_refused(rf"images.a.png and .*pool.{stem}.png are both called {stem}: rename", images, masks, [unlabelled])


def test_unlabelled_folders_have_different_names(unlabelled, tmp_path):
    other = save(tmp_path / "other" / "u.png", PIXELS).parent
    assert_refused("pool.u.png and .*other.u.png are both called u", None, None, [unlabelled, other])


def test_all_unreadable_files_are_named_at_once(unlabelled):
    for name in ("b.png", "c.png"):
        (unlabelled / name).write_text("text")
    assert_refused(r"(?s)b.png cannot be read.*c.png cannot be read", None, None, [unlabelled])


def test_grey_and_colour_images_are_not_mixed(unlabelled):
    save(unlabelled / "v.png", COLOUR)
    assert_refused(r"u.png is grey, .*v.png is RGB", None, None, [unlabelled])


def test_a_survey_adds_up_sizes_kinds_and_mask_values(images, masks):
    save(images / "b.png", np.zeros((4, 5), np.uint16))
    save(masks / "b.png", np.ones((4, 5), np.uint8))
    survey = survey_cases(find_source_cases(images, masks, [], None, ""))
    assert survey.sizes_px == {(2, 3), (4, 5)}
    assert survey.depths == {8: images / "a.png", 16: images / "b.png"}
    assert survey.values == {0: masks / "a.png", 255: masks / "a.png", 1: masks / "b.png"}
    assert survey.value_counts == {0: 4, 255: 2, 1: 20}
    assert survey.is_grey


def test_a_grey_photograph_among_colour_ones_is_no_mixture(unlabelled):
    save(unlabelled / "u.png", COLOUR)
    save(unlabelled / "v.png", np.stack([PIXELS] * 3, -1))
    survey = survey_cases(find_source_cases(None, None, [unlabelled], None, ""))
    assert survey.kinds == {RGB: unlabelled / "u.png", GREY_AS_RGB: unlabelled / "v.png"}
    assert not survey.is_grey


@pytest.mark.parametrize(
    ("found", "labels", "expected"),
    [
        ([0, 255], None, {"background": 0, "foreground": 255}),
        ([0, 1], None, {"background": 0, "foreground": 1}),
        ([0, 1, 2], None, {"background": 0, "label_1": 1, "label_2": 2}),
        ([0, 64, 128], {"lung": 128, "heart": 64}, {"background": 0, "heart": 64, "lung": 128}),
        ([7, 9], {"background": 9, "lung": 7}, {"background": 9, "lung": 7}),
        ([0, 5, 9], {"ignore": 5, "lung": 9}, {"background": 0, "lung": 9, "ignore": 5}),
    ],
)
def test_mask_values_are_named_in_the_order_of_labels(found, labels, expected):
    named = name_mask_values(dict.fromkeys(found, Path("a.png")), labels)
    assert list(named.items()) == list(expected.items())


@pytest.mark.parametrize(
    ("labels", "pattern"),
    [
        ({"lung": 1}, r"without a name: 255 \(in .*a.png\)"),
        ({"lung": 255, "heart": 255}, "a value of its own from 0 to 65535"),
        ({"lung": 0}, "a value of its own from 0 to 65535"),
        ({"lung": 255, "heart": -1}, "a value of its own from 0 to 65535"),
    ],
)
def test_labels_that_do_not_fit_the_masks_are_refused(labels, pattern):
    with pytest.raises(ValueError, match=pattern):
        name_mask_values({0: Path("masks/a.png"), 255: Path("masks/a.png")}, labels)
