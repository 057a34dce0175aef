"""The summary as PDF: always one page, with the numbers of the results, and a count of what is not on it."""

import hashlib
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pypdf import PdfReader
from report_data import Made, make_results

from nnunet_diffusion_ensemble.benchmark.record import RECORD, BenchmarkRecord
from nnunet_diffusion_ensemble.benchmark.results import read_results
from nnunet_diffusion_ensemble.report.one_page import OnePage, Row, one_page
from nnunet_diffusion_ensemble.report.one_page_layout import one_page_pdf
from nnunet_diffusion_ensemble.report.sections import gather
from nnunet_diffusion_ensemble.report.view import ReportOptions, choose

SMALL = Made(models=("Ensemble", "nnU-Net"), seeds=(0, 1), labelled_cases=(6,), num_cases=5, has_images=False)
LONG = "a name that is so long that it would fill a line of the table, and tells only in the end that it is"
LARGE = Made(
    models=tuple(f"{number}, {LONG}"[:99] for number in range(2)),
    with_timesteps=(),
    seeds=(0,),
    labelled_cases=(None,),
    roles={f"{letter}, {LONG}"[:99]: "target" if letter > "A" else "source" for letter in "ABC"},
    labels={f"{letter}, {LONG}": value for value, letter in enumerate("vwxyz", start=1)},
    metrics=("Dice", "HD95"),
    num_cases=2,
    has_images=False,
    has_calibration=False,
)
ROW = re.compile(r"0\.\d{3} \[0\.\d{3}, [01]\.\d{3}\]")  # a mean Dice with its interval


def page_of(folder: Path, made: Made) -> OnePage:
    make_results(folder, made)
    return one_page(gather(choose(read_results(folder), ReportOptions())), "Does it survive?")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OnePage]:
    """A folder of results, and their page."""
    folder = tmp_path_factory.mktemp("small")
    return folder, page_of(folder, SMALL)


def text_of(pdf: bytes) -> str:
    """Of the one page; all of it stands within the page."""
    (page,) = PdfReader(io.BytesIO(pdf)).pages
    heights = []

    def note_height(text: str, matrix: list[float], of_text: list[float], *_: object) -> None:
        if text.strip():
            heights.append(of_text[4] * matrix[1] + of_text[5] * matrix[3] + matrix[5])

    text = page.extract_text(visitor_text=note_height)
    assert min(heights) > 0 and max(heights) < page.mediabox.height
    return " ".join(text.split())


def test_the_page_has_the_means_and_the_worst_cases_of_the_results(small: tuple[Path, OnePage]) -> None:
    text = text_of(one_page_pdf(small[1]))
    results = read_results(small[0]).results
    own = results[results["timestep"].isna() & (results["domain"] == "Away") & (results["model"] == "nnU-Net")]
    dice = own[own["metric"] == "Dice"].groupby("case")["value"].mean()
    assert f"{dice.mean():.3f} [" in text and f" {np.quantile(dice, 0.05):.3f} " in text
    assert f"{own[own['metric'] == 'HD95']['value'].mean():.2f} [" in text
    assert "HD95 (mm)" in text and "2 models: Ensemble, nnU-Net. Trained on 6 labelled cases." in text
    assert "Away (target): 5 cases." in text and "more row" not in text


def test_the_page_has_the_findings_and_the_coverage_of_the_report(small: tuple[Path, OnePage]) -> None:
    text = text_of(one_page_pdf(small[1]))
    assert "In Away (target; 5 cases, 2 seeds, trained on 6 labelled), Ensemble has the best mean Dice for lung" in text
    assert "Ensemble (seed 1): in Away (target), the interval of Dice holds in 5 of 5 cases, 100%" in text
    assert "no approval for clinical use" in text


def test_the_page_names_the_record(small: tuple[Path, OnePage], tmp_path: Path) -> None:
    work = [{"predicting": None, "evaluating": {"finished": "2031-05-06T07:08:09+00:00"}}]
    assert "There is no benchmark.json" in small[1].identity and "date unknown" in small[1].subtitle
    shutil.copytree(small[0], tmp_path, dirs_exist_ok=True)
    BenchmarkRecord({}, {}, [], [], {"results.csv": "other"}, work, []).write(tmp_path)
    page = one_page(gather(choose(read_results(tmp_path), ReportOptions())), "Does it survive?")
    text = text_of(one_page_pdf(page))
    assert hashlib.sha256((tmp_path / RECORD).read_bytes()).hexdigest() in text
    assert "2031-05-06" in text
    assert "Changed since it was written, by hand or by a run that did not finish: results.csv." in text


def test_many_models_labels_and_domains_with_long_names_still_are_one_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, LARGE)
    text = text_of(one_page_pdf(page))
    num_rows = len(ROW.findall(text))
    hidden = re.search(r"(\d+) more row\(s\)", text)
    assert len(page.rows) == 2 * 3 * 4 == num_rows + (int(hidden[1]) if hidden else 0)
    assert num_rows >= 12
    assert re.search(r"1 more label\(s\)", text)
    assert f"{len(page.findings)} more" not in text and re.search(r"\d+ more sentence\(s\) in report\.html", text)
    assert "Would one notice" not in text  # no model is calibrated


def test_what_is_left_out_is_counted(small: tuple[Path, OnePage]) -> None:
    names = ("tested", "findings", "trust")
    marked = {name: tuple(f"[{name}] {LONG} {LONG} {LONG}" for _ in range(40)) for name in names}
    text = text_of(one_page_pdf(replace(small[1], **marked)))
    left_out = [int(number) for number in re.findall(r"(\d+) more (?:domain|sentence)\(s\)", text)]
    assert left_out == [40 - text.count(f"[{name}]") for name in names] and max(left_out) < 40


def test_where_rows_are_left_out_the_best_models_of_each_group_come_first(
    small: tuple[Path, OnePage],
) -> None:
    rows = [Row(i // 60, i % 60, ("A", "lung", f"M{i // 60}-{i % 60:02d}", "2", "", "", "")) for i in range(120)]
    text = text_of(one_page_pdf(replace(small[1], rows=tuple(rows))))
    shown = [tuple(map(int, found)) for found in re.findall(r"M(\d)-(\d\d)", text)]
    ranks = [[rank for group, rank in shown if group == one] for one in (0, 1)]
    assert shown == sorted(shown) and len(ranks[0]) - len(ranks[1]) in (0, 1)
    assert all(of_group == list(range(len(of_group))) for of_group in ranks)
    assert f"{120 - len(shown)} more row(s)" in text


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    page = page_of(tmp_path, replace(SMALL, models=("<b>&$x$", "Ångström"), with_timesteps=()))
    text = text_of(one_page_pdf(page))
    assert "<b>&$x$" in text and "Ångström" in text


def test_another_metric_has_no_second_column_of_its_own(small: tuple[Path, OnePage]) -> None:
    options = ReportOptions(metric="HD95")
    page = one_page(gather(choose(read_results(small[0]), options)), "Does it survive?")
    assert page.headings == ("Domain", "Label", "Model", "Cases", "HD95 (mm)", "Worst 5%")
    assert "HD95 (mm)" in text_of(one_page_pdf(page))


def test_undefined_values_are_a_dash(tmp_path: Path) -> None:
    results = make_results(tmp_path, replace(SMALL, with_timesteps=()))
    undefined = replace(results, results=results.results.assign(value=float("nan")))
    page = one_page(gather(choose(undefined, ReportOptions())), "Does it survive?")
    assert {row.cells[4] for row in page.rows} == {"\N{EN DASH}"}
    assert "nnU-Net 5" in text_of(one_page_pdf(page))


def test_the_same_results_give_the_same_bytes(small: tuple[Path, OnePage]) -> None:
    assert one_page_pdf(small[1]) == one_page_pdf(small[1])
