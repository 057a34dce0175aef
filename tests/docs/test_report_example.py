"""The report that the page on reports shows: small, whole, of the demo, and without folders of who made it."""

import base64
import io
import re

import numpy as np
import pytest
from documented import DOCS
from PIL import Image
from scripts import load_script

FILE = DOCS / "how-to" / "report_example.html"
MEGABYTE = 1e6


@pytest.fixture(scope="module")
def report() -> str:
    return FILE.read_text(encoding="utf-8")


def test_it_is_small_enough_for_a_repository() -> None:
    assert FILE.stat().st_size < MEGABYTE


def test_it_compares_both_models_on_both_hospitals_of_the_demo(report: str) -> None:
    for name in ("DiffusionEnsembleTrainer", "nnUNetTrainer", "Montgomery, held out", "Shenzhen, another hospital"):
        assert name in report


def test_its_pictures_are_in_it(report: str) -> None:
    sources = re.findall(r'<img[^>]*\bsrc="([^"]{30})', report)
    assert len(sources) > 10
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_it_names_no_folder_of_the_machine_that_made_it(report: str) -> None:
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", report).replace("<wbr>", "")
    assert re.findall(r"(?<![\w.<])/(?:tmp|home|root|work|Users|var)\b\S*", text) == []
    assert "demo/nnUNet_raw/Dataset003_Shenzhen/imagesTr" in text


def test_the_page_embeds_it_and_says_whose_images_it_shows() -> None:
    page = (DOCS / "how-to" / "report.md").read_text()
    assert 'src="../report_example.html"' in page
    assert "](report_example.html)" in page  # for GitHub, which shows no frames
    assert "CC BY-NC-SA 4.0" in page


def test_a_palette_changes_no_pixel_of_a_picture_with_few_colours() -> None:
    script = load_script(DOCS / "write_report_example.py")
    pixels = np.random.default_rng(0).choice([0, 90, 255], (20, 30, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    report = f'<img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
    smaller = base64.b64decode(script.PICTURE.search(report)[0])
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(script.with_palette(smaller))).convert("RGB")), pixels
    )
