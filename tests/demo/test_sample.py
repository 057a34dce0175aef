"""The X-rays that ship with the package."""

import json

import numpy as np
import pytest
from PIL import Image

from nnunet_diffusion_ensemble.demo.hospitals import SAMPLE

MOST_BYTES = 3_000_000


@pytest.mark.parametrize(("hospital", "count"), [("montgomery", 30), ("shenzhen", 40)])
def test_every_labelled_image_has_a_mask_of_its_size_with_two_values(hospital: str, count: int) -> None:
    images, masks = (
        {f.name: np.asarray(Image.open(f).convert("L")) for f in (SAMPLE / hospital / kind).iterdir()}
        for kind in ("images", "masks")
    )
    assert images.keys() == masks.keys()
    assert len(images) == count
    for name, mask in masks.items():
        assert images[name].shape == mask.shape == (128, 128)
        assert set(np.unique(mask)) == {0, 255}


def test_there_are_120_unlabelled_images() -> None:
    files = list((SAMPLE / "nih").iterdir())
    assert len(files) == 120
    assert {Image.open(file).size for file in files} == {(128, 128)}


def test_the_split_gives_each_case_one_part() -> None:
    split = json.loads((SAMPLE / "montgomery" / "split.json").read_text())
    cases = [case for part in ("train", "val", "test") for case in split[part]]
    assert {part: len(names) for part, names in split.items()} == {"train": 6, "val": 4, "test": 20}
    assert sorted(cases) == sorted(file.stem for file in (SAMPLE / "montgomery" / "images").iterdir())


def test_all_of_it_is_small_and_has_its_notices() -> None:
    assert sum(file.stat().st_size for file in SAMPLE.rglob("*") if file.is_file()) < MOST_BYTES
    notice = (SAMPLE / "NOTICE.md").read_text()
    for source in ("Jaeger", "Candemir", "Stirenko", "CC BY-NC-SA 4.0", "NIH Clinical Center", "Wang"):
        assert source in notice
