"""The report in a browser without a network: on a laptop, on a phone and printed, nothing is missing or sticks out."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from report_data import Made, make_results

from nnunet_diffusion_ensemble.report.write import write_report

pytestmark = pytest.mark.slow
LONG = "DiffusionEnsembleTrainer__nnUNetDiffusionEnsemblePlans__2d of the second hospital"
USUAL = Made(num_cases=5)
MANY = Made(
    models=(LONG, "Scratch", "nnUNetTrainer_without_any_pretraining", "Step 500"),
    with_timesteps=(LONG, "Step 500"),
    labelled_cases=(1, 12),
    num_cases=3,
    roles={"Montgomery County": "source", "Shenzhen No. 3 People's Hospital": "target"},
)
VOLUMES = Made(ending=".nii.gz", labelled_cases=(None,), labels={"whole organ": [1, 2], "core": 2}, num_cases=3)

LOOK = """() => {
  const width = document.documentElement.clientWidth, scrolls = each => each.closest('.scroll') !== null;
  const shown = each => each.getClientRects().length > 0;
  const inside = each => { const box = each.getBoundingClientRect(); return box.left >= -1 && box.right <= width + 1 };
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const told = each => `${each.tagName} ${each.id} ${each.className} ${each.textContent.trim().slice(0, 40)}`;
  return {
    page: document.documentElement.scrollWidth - width,
    broken: all('img').filter(each => !each.complete || !each.naturalWidth).map(each => each.alt),
    figures: all('figure').filter(each => each.querySelectorAll('img').length !== 1).map(told),
    outside: all('main *, header *, nav *').filter(each => shown(each) && !scrolls(each) && !inside(each)).map(told),
    cut: all('h1, h2, h3, p, li, figcaption, summary, td, th').filter(
      each => shown(each) && each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== 'inline'
    ).map(told),
    clipped: all('.scroll').filter(each => matchMedia('print').matches && each.scrollWidth > each.clientWidth + 1)
      .map(told),
    empty: all('section').filter(each => !all('p, li, img, table', each).some(part => part.matches('img')
      ? part.naturalWidth : part.textContent.trim())).map(told),
    anchors: all('nav a').filter(each => !document.querySelector(each.getAttribute('href'))).map(told),
    sections: all('section').map(each => each.id),
    tables: all('table').filter(each => !each.querySelector('tbody tr')).map(told),
    pictures: all('img').length,
    contrast: all('p, li, td, th, a, h1, h2, h3, figcaption, summary').map(each => getComputedStyle(each).color),
  }
}"""


@dataclass
class Look:
    """What the browser sees, and what went wrong meanwhile."""

    seen: dict[str, Any]
    errors: list[str] = field(default_factory=list)

    def problems(self) -> dict[str, Any]:
        lists = ("broken", "figures", "outside", "cut", "clipped", "empty", "anchors", "tables")
        found = {name: self.seen[name] for name in lists if self.seen[name]}
        if self.seen["page"] > 0:
            found["page"] = self.seen["page"]
        return found | ({"errors": self.errors} if self.errors else {})


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("usual")
    return write_report(make_results(folder, USUAL), folder / "report")


def look(browser: Any, page: Path, width: int, in_print: bool = False) -> Look:
    """Opens a page without network and collects what is there."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.set_offline(True)
    tab, errors = context.new_page(), []
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("requestfailed", lambda request: errors.append(request.url[:80]))
    tab.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
    tab.goto(page.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    if in_print:
        tab.emulate_media(media="print")
    seen = tab.evaluate(LOOK)
    context.close()
    return Look(seen, errors)


WIDTHS = {"laptop": (1280, False), "phone": (375, False), "A4": (680, True)}  # A4 less its margins, at 96 dpi


@pytest.mark.parametrize("device", WIDTHS)
def test_the_page_fits_and_nothing_is_missing(browser: Any, usual: Path, device: str) -> None:
    found = look(browser, usual, *WIDTHS[device])
    assert found.problems() == {}
    assert found.seen["sections"] == [
        *("summary", "tested", "label_efficiency", "cases", "comparisons", "domain_gap", "timesteps", "calibration"),
        *("predicted_dice", "all_metrics", "gallery", "provenance"),
    ]
    # A label and two domains: curves, boxes, timesteps, calibration, retention, one gap; three models with three cases.
    assert found.seen["pictures"] == 2 * 5 + 1 + 2 * 3 * 3


@pytest.mark.parametrize("made", [MANY, VOLUMES], ids=["many models, long names", "volumes, regions"])
def test_long_names_many_models_and_volumes_fit_as_well(browser: Any, tmp_path: Path, made: Made) -> None:
    page = write_report(make_results(tmp_path, made), tmp_path / "report")
    for width, in_print in WIDTHS.values():
        assert look(browser, page, width, in_print).problems() == {}


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda html: re.sub(r"base64,[^\"]+", "base64,AAAA", html, count=1), "broken"),
        (lambda html: re.sub(r"<img [^>]+>", "", html, count=1), "figures"),
        (lambda html: html.replace("<main>", "<main><div style='width: 2000px'>wide</div>"), "page"),
        (lambda html: html.replace('<section id="cases">', '<section id="case">'), "anchors"),
        (lambda html: html.replace("</main>", "<section id='x'><h2>Nothing</h2></section></main>"), "empty"),
        (
            lambda html: html.replace(
                "</main>", "<p style='width: 3em; white-space: nowrap; overflow: hidden'>unbroken words</p>"
            ),
            "cut",
        ),
        (lambda html: html.replace("</head>", "<script src='https://example.org/x.js'></script></head>"), "errors"),
    ],
    ids=["picture", "figure", "width", "anchor", "section", "text", "network"],
)
def test_a_spoilt_page_is_noticed(
    browser: Any, usual: Path, tmp_path: Path, spoil: Callable[[str], str], problem: str
) -> None:
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(spoil(usual.read_text()))
    assert problem in look(browser, spoilt, 375).problems()


def test_a_table_that_is_wider_than_the_paper_is_noticed(browser: Any, usual: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(usual.read_text().replace("<table", "<table style='width: 2000px'"))
    assert look(browser, spoilt, *WIDTHS["laptop"]).problems() == {}  # it scrolls
    assert "clipped" in look(browser, spoilt, *WIDTHS["A4"]).problems()


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Contrast ratio of two sRGB colours, 0 to 255 (WCAG 2.2)."""

    def luminance(color: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (one / 255 for one in color)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_all_text_stands_out_from_its_ground(browser: Any, usual: Path) -> None:
    assert contrast((255, 255, 255), (0, 0, 0)) == pytest.approx(21)
    colors = set(look(browser, usual, 1280).seen["contrast"])
    assert colors
    for color in colors:
        own = tuple(float(part) for part in re.findall(r"[\d.]+", color)[:3])
        assert contrast(own, (246, 247, 248)) >= 4.5, color  # the darker of the two grounds


def test_printing_opens_what_is_folded_and_cuts_no_table(browser: Any, tmp_path: Path) -> None:
    made = replace(USUAL, models=("Ensemble", "Scratch"), seeds=(0,), has_images=False)
    page = write_report(make_results(tmp_path, made), tmp_path / "report")
    tab = browser.new_page()
    tab.goto(page.as_uri())
    assert tab.evaluate("[...document.querySelectorAll('details')].some(each => !each.open)")
    printed = tab.pdf(prefer_css_page_size=True)
    assert printed.startswith(b"%PDF")
    assert tab.evaluate("[...document.querySelectorAll('details')].every(each => each.open)")
    tab.close()
