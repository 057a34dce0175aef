"""The page in a browser that may fetch nothing from elsewhere: looked at by clicks, on a laptop and on a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from looks import write_volume
from PIL import Image

from nnunet_diffusion_ensemble.demo.hospitals import SAMPLE

pytestmark = pytest.mark.slow
XRAY = SAMPLE / "shenzhen" / "images" / "CHNCXR_0001_0.png"
TIMEOUT_MS = 120_000
WIDTHS = {"laptop": 1280, "phone": 375}
SHOWN = "() => [...document.querySelectorAll('#contours img, #entropy img')].filter(each => each.naturalWidth).length"
PICTURE = "() => document.querySelector('#contours img')?.src"
OUTSIDE = """() => {
  const width = document.documentElement.clientWidth;
  return [...document.querySelectorAll('#file, #model, #timesteps, #look, #sentence, #contours, #entropy, #download')]
    .filter(each => each.getClientRects().length)
    .filter(each => each.getBoundingClientRect().right > width + 1 || each.getBoundingClientRect().left < -1)
    .map(each => each.id)
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Of the page, and the folder of its files."""
    pytest.importorskip("gradio", reason="needs gradio, of the app extra")
    from nnunet_diffusion_ensemble.app.page import launch_options, make_page

    work = tmp_path_factory.mktemp("app")
    page = make_page(work, device="cpu")
    _, url, _ = page.launch(**launch_options(None), prevent_thread_lock=True)
    yield url.rstrip("/"), work
    page.close()


class Visitor:
    """A tab, and what it asked for elsewhere or stumbled over."""

    def __init__(self, browser: Any, address: str, width: int):
        self.address, self.problems = address, []
        self.context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(TIMEOUT_MS)
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on("request", lambda request: self._note(request.url))
        self.tab.goto(address)
        self.tab.wait_for_selector("#timesteps input")

    def _note(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.problems.append(url)

    def choose(self, file: Path) -> str:
        """What the page says of the file."""
        if self.tab.query_selector("#file button[aria-label='Clear']"):
            self.tab.click("#file button[aria-label='Clear']")
        self.tab.set_input_files("#file input[type=file]", str(file))
        self.tab.wait_for_function(f"document.querySelector('#file-note').innerText.includes('{file.stem}')")
        return self.tab.inner_text("#file-note")

    def look(self) -> str:
        """The sentence, when pictures and mask are there."""
        self.tab.click("#look")
        self.tab.wait_for_selector("#download", state="visible")
        self.tab.wait_for_function(f"({SHOWN})() === 2")
        return self.tab.inner_text("#sentence")


@pytest.mark.parametrize("device", WIDTHS)
def test_an_xray_is_looked_at(browser: Any, address: tuple[str, Path], device: str, tmp_path: Path) -> None:
    visitor = Visitor(browser, address[0], WIDTHS[device])
    assert "128 x 128, 1 channel" in visitor.choose(XRAY)
    assert not list(address[1].rglob(XRAY.name))
    assert "denoising error" in visitor.look()
    assert visitor.tab.inner_text("#scores").count("training images") == 3
    assert not visitor.tab.is_visible("#slice")
    with visitor.tab.expect_download() as download:
        visitor.tab.click("#download")
    download.value.save_as(tmp_path / "mask.png")
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert mask.shape == (128, 128)
    assert set(np.unique(mask)) == {0, 1}
    before = visitor.tab.evaluate(PICTURE)
    visitor.tab.fill("#level input[type=number]", "40")
    visitor.tab.press("#level input[type=number]", "Enter")
    visitor.tab.wait_for_function(f"({PICTURE})() !== '{before}'")
    assert visitor.tab.evaluate(OUTSIDE) == []
    assert visitor.tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert visitor.problems == []
    visitor.context.close()


def test_what_does_not_work_is_told_in_a_sentence(browser: Any, address: tuple[str, Path], tmp_path: Path) -> None:
    visitor = Visitor(browser, address[0], 1280)
    visitor.tab.click("#look")
    visitor.tab.wait_for_function("document.querySelector('#sentence').innerText.includes('Choose an image first')")
    (tmp_path / "letter.png").write_text("no image")
    assert "letter.png cannot be read" in visitor.choose(tmp_path / "letter.png")
    assert "3 x 20 x 24" in visitor.choose(write_volume(tmp_path / "head.nii.gz"))
    visitor.tab.click("#look")
    visitor.tab.wait_for_function("document.querySelector('#sentence').innerText.includes('is a volume')")
    visitor.tab.click("text=A results folder of nnU-Net")
    visitor.tab.fill("#folder textarea, #folder input", "/nowhere")
    visitor.tab.press("#folder textarea, #folder input", "Enter")
    visitor.tab.wait_for_function("document.querySelector('#sentence').innerText.includes('has no finished fold')")
    assert visitor.problems == []
    visitor.context.close()
