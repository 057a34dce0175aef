"""The page in a browser that may fetch nothing from elsewhere: looked at by clicks, on a laptop and on a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_data import oblique_slices, save, save_series, xray
from looks import calibrate, write_volume
from PIL import Image

from nnunet_diffusion_ensemble.demo.hospitals import SAMPLE

pytestmark = pytest.mark.slow
XRAY = SAMPLE / "shenzhen" / "images" / "CHNCXR_0001_0.png"
TIMEOUT_MS = 120_000
WIDTHS = {"laptop": 1280, "phone": 390}
FOLDER = "#folder textarea, #folder input"
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


def dicom_xray(folder: Path) -> Path:
    """The same pixels in DICOM, with a patient."""
    pixels = np.asarray(Image.open(XRAY).convert("L")).astype(np.uint16)
    return save(xray(pixels * 16, ImagerPixelSpacing=[0.5, 0.5]), folder / "IM0001")


@pytest.mark.parametrize(
    ("device", "make", "ending"),
    [("laptop", lambda folder: XRAY, ".png"), ("phone", dicom_xray, ".nii.gz")],
    ids=["laptop, PNG", "phone, DICOM"],
)
def test_an_xray_is_looked_at(
    browser: Any, address: tuple[str, Path], device: str, make: Any, ending: str, tmp_path: Path
) -> None:
    visitor, file = Visitor(browser, address[0], WIDTHS[device]), make(tmp_path)
    assert "128 x 128, 1 channel" in visitor.choose(file)
    assert not list(address[1].rglob(file.name))
    assert "denoising error" in visitor.look()
    assert visitor.tab.inner_text("#scores").count("training images") == 3
    assert not visitor.tab.is_visible("#slice")
    with visitor.tab.expect_download() as download:
        visitor.tab.click("#download")
    assert download.value.suggested_filename.endswith(f"_mask{ending}")
    download.value.save_as(tmp_path / f"mask{ending}")
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"mask{ending}")))
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


def test_a_series_is_looked_at_slice_by_slice_with_the_dice_to_expect(
    browser: Any, address: tuple[str, Path], model_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_folder()
    calibrate(model)
    monkeypatch.delenv("nnUNet_preprocessed")  # its training images are of another kind
    voxels = np.random.default_rng(0).normal(300, 40, (12, 40, 36)).astype(np.int16)
    voxels[:, 10:25, 8:20] += 300
    file = shutil.make_archive(str(tmp_path / "series"), "zip", save_series(tmp_path / "in", oblique_slices(voxels)))
    visitor = Visitor(browser, address[0], WIDTHS["phone"])
    visitor.tab.click("text=A results folder of nnU-Net")
    visitor.tab.fill(FOLDER, str(model))
    visitor.tab.press(FOLDER, "Enter")
    visitor.tab.wait_for_function("document.querySelectorAll('#timesteps input').length === 3")
    assert "12 x 40 x 36, 1 channel" in visitor.choose(Path(file))
    told = visitor.look()
    assert "Expect a Dice of about" in told and "rests on 2 labelled cases" in told
    before = visitor.tab.evaluate(PICTURE)
    shown = int(visitor.tab.input_value("#slice input[type=number]"))
    visitor.tab.fill("#slice input[type=number]", str((shown + 1) % 12))
    visitor.tab.press("#slice input[type=number]", "Enter")
    visitor.tab.wait_for_function(f"({PICTURE})() !== '{before}'")
    assert visitor.tab.evaluate(OUTSIDE) == []
    assert "Doe" not in visitor.tab.content()
    assert visitor.problems == []
    visitor.context.close()


def test_what_does_not_work_is_told_in_a_sentence(browser: Any, address: tuple[str, Path], tmp_path: Path) -> None:
    visitor = Visitor(browser, address[0], 1280)
    visitor.tab.click("#look")
    visitor.tab.wait_for_function("document.querySelector('#sentence').innerText.includes('Choose an image first')")
    (tmp_path / "letter.png").write_text("no image")
    assert "letter.png cannot be read" in visitor.choose(tmp_path / "letter.png")
    slices = oblique_slices()
    slices[0].SeriesInstanceUID = slices[0].SOPInstanceUID
    two = shutil.make_archive(str(tmp_path / "two"), "zip", save_series(tmp_path / "in", slices))
    assert "two.zip holds 2 different images or series" in visitor.choose(Path(two))
    assert "3 x 20 x 24" in visitor.choose(write_volume(tmp_path / "head.nii.gz"))
    visitor.tab.click("#look")
    visitor.tab.wait_for_function("document.querySelector('#sentence').innerText.includes('is a volume')")
    visitor.tab.click("text=A results folder of nnU-Net")
    visitor.tab.fill(FOLDER, "/nowhere")
    visitor.tab.press(FOLDER, "Enter")
    visitor.tab.wait_for_function("document.querySelector('#sentence').innerText.includes('has no finished fold')")
    assert visitor.problems == []
    visitor.context.close()
