"""The whole report: complete, with working anchors, and honest about what it leaves out."""

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib.pyplot
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from pypdf import PdfReader
from report_data import Made, make_results

from nnunet_diffusion_ensemble.benchmark.results import BenchmarkResults
from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.report import write
from nnunet_diffusion_ensemble.report.view import ReportOptions
from nnunet_diffusion_ensemble.report.write import write_report

SMALL = Made(models=("Ensemble", "Scratch"), seeds=(0, 1), num_cases=3, has_images=False, metrics=("Dice", "HD95"))
LEAST = replace(SMALL, num_cases=2, seeds=(0,), labelled_cases=(6,), with_timesteps=(), has_calibration=False)
EVERYTHING = ["summary", "tested", "label_efficiency", "cases", "comparisons", "domain_gap", "timesteps", "calibration"]
EVERYTHING += ["predicted_dice", "all_metrics", "gallery", "provenance"]


NASTY = "<script>alert('1 & 2')</script>"


def unrendered(figure: Figure, stream: BinaryIO, **options: Any) -> None:
    """In place of `savefig`, which takes most of the time."""
    Image.new("L", (2, 1)).save(stream, "png")


@pytest.fixture(autouse=True)
def _unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", unrendered)


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, file: Path):
        super().__init__()
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.sources: list[str] = []
        self.alts: list[str] = []
        self.headings: list[int] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.anchors += [given["href"]] if tag == "a" else []
        self.sources += [given[name] for name in ("src", "href", "srcset") if name in given and tag != "a"]
        self.alts += [given.get("alt", "")] if tag == "img" else []
        self.headings += [int(tag[1])] if tag in ("h1", "h2", "h3", "h4") else []

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything but pictures in the gallery; one training has no results in one domain."""
    folder = tmp_path_factory.mktemp("out")
    results = make_results(folder, replace(SMALL, models=(NASTY, "Scratch"), with_timesteps=(NASTY,)))
    own = results.results
    lost = (own["model"] == "Scratch") & (own["labelled_cases"] == 1) & (own["seed"] == 1) & (own["domain"] == "Away")
    of_others = matplotlib.pyplot.get_fignums()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", unrendered)
        (folder / "few_label.txt").write_text("nnunet-diffusion few-label -d 64\n")
        write_report(replace(results, results=own[~lost]), folder / "report", command_line=f"report {folder} -o x")
    assert matplotlib.pyplot.get_fignums() == of_others
    return folder


def test_the_page_has_everything_and_needs_nothing_else(written: Path) -> None:
    page = Page(written / "report/report.html")
    assert [name for name in page.ids if name in EVERYTHING] == EVERYTHING
    assert len(set(page.ids)) == len(page.ids)
    assert {f"#{name}" for name in EVERYTHING} == set(page.anchors)
    assert page.sources and all(source.startswith("data:") for source in page.sources)
    assert all(len(alt) > 30 for alt in page.alts)
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(page.headings))


def test_a_summary_of_one_page_lies_beside_the_page(written: Path) -> None:
    (page,) = PdfReader(written / "report/summary.pdf").pages
    assert "Does the model survive Away?" in page.extract_text()


def test_figures_and_tables_lie_beside_the_page(written: Path) -> None:
    ids = [name for name in Page(written / "report/report.html").ids if name not in EVERYTHING]
    tables = {name.removeprefix("table_") for name in ids if name.startswith("table_")}
    figures = {name for name in ids if not name.startswith("table_")}
    assert {"summary", "worst_cases", "significance", "ranks", "domain_gap", "problems", "timesteps"} <= tables
    assert {f"{kind}_lung_Home" for kind in ("label_efficiency", "boxes", "timesteps", "calibration")} <= figures
    for folder, names, endings in (("tables", tables, (".csv", ".tex")), ("figures", figures, (".png", ".pdf"))):
        there = {file.name for file in (written / "report" / folder).iterdir()}
        assert there == {f"{name}{ending}" for name in names for ending in endings}


@pytest.mark.parametrize("name", ["worst_cases", "significance", "ranks", "domain_gap"])
def test_the_page_has_the_rows_of_the_figures_and_the_files_all(name: str, written: Path) -> None:
    page = (written / "report/report.html").read_text(encoding="utf-8")
    table = page.split(f'id="table_{name}"')[1].split("</table>")[0]
    raw = pd.read_csv(written / f"report/tables/{name}.csv")
    assert table.split("<tbody>")[1].count("<tr>") == (raw["metric"] == "Dice").sum() < len(raw)
    assert "Here Dice of lung; the files have all" in table
    assert ">Metric</th>" not in table and ">Domain</th>" in table.replace(">Source</th>", ">Domain</th>")
    latex = (written / f"report/tables/{name}.tex").read_text(encoding="utf-8")
    assert set(raw["metric"]) > {"Dice"} and all(metric in latex for metric in raw["metric"])


def test_the_page_tells_commands_problems_and_what_lacks(written: Path) -> None:
    text = Page(written / "report/report.html").text
    assert f"nnunet-diffusion benchmark {written}/spec.yaml" in text
    assert f"nnunet-diffusion few-label -d 64\nnnunet-diffusion benchmark {written}" in text
    assert f"report {written} -o x" in text
    assert "Away_999" in text  # the case with a problem
    assert "Scratch, 1 labelled case, seed 1, in Away" in text


def test_names_are_shown_as_they_are_and_never_as_html(written: Path) -> None:
    page = Page(written / "report/report.html")
    assert page.tags.count("script") == 1  # which opens what is folded before printing
    assert NASTY in page.text


def test_what_cannot_be_shown_is_left_out_with_the_reason(tmp_path: Path) -> None:
    bare = replace(SMALL, models=("A",), with_timesteps=(), labelled_cases=(None,), seeds=(0,), roles={"H": "source"})
    page = Page(write_report(make_results(tmp_path, replace(bare, has_calibration=False)), tmp_path / "report"))
    assert [name for name in page.ids if name in [*EVERYTHING, "left_out"]] == [
        *("summary", "tested", "cases", "all_metrics", "gallery", "left_out", "provenance")
    ]
    left_out = page.text.split("What this report leaves out")[-1]
    for reason in ("specification has none", "no two models", "a source and a target", "no model shown has", "no pred"):
        assert reason in left_out


def test_labels_whose_names_become_the_same_file_keep_their_own_figures(tmp_path: Path) -> None:
    results = make_results(tmp_path, replace(LEAST, labels={"+": 1, "-": 2}))
    page = Page(write_report(results, tmp_path / "report"))
    assert len(set(page.ids)) == len(page.ids)
    boxes = [file.name for file in (tmp_path / "report/figures").glob("boxes_*.png")]
    assert len(boxes) == 4  # two labels, two domains


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": ("HD95",), "with_timesteps": ("Ensemble",)},  # timesteps have Dice all the same
        {"num_cases": 1, "with_timesteps": ("Ensemble",)},  # no interval
    ],
)
def test_odd_results_have_a_report(tmp_path: Path, changes: dict[str, Any]) -> None:
    page = Page(write_report(make_results(tmp_path, replace(LEAST, **changes)), tmp_path / "report"))
    assert {"summary", "cases", "domain_gap", "timesteps"} <= set(page.ids)


def test_results_without_any_defined_value_have_a_report(tmp_path: Path) -> None:
    results = make_results(tmp_path, LEAST)
    undefined = replace(results, results=results.results.assign(value=float("nan")))
    page = Page(write_report(undefined, tmp_path / "report"))
    assert "no case with a defined value" in page.text
    assert "boxes_lung_Home" not in page.ids


def test_a_failure_leaves_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(write, "render", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(make_results(tmp_path, LEAST), tmp_path / "report")
    assert not [file for file in (tmp_path / "report").rglob("*") if file.suffix in (".html", ".partial")]


def test_the_command_writes_into_the_results_and_tells_its_options_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_results(tmp_path / "out", LEAST)
    assert main(["report", str(tmp_path / "out"), "--metric", "HD95", "--labelled-cases", "6"]) == 0
    page = tmp_path / "out/report/report.html"
    assert str(page) in capsys.readouterr().out
    assert f"nnunet-diffusion report {tmp_path}/out --metric HD95 --labelled-cases 6" in Page(page).text


def damage_nothing(results: BenchmarkResults) -> None: ...


def remove_results(results: BenchmarkResults) -> None:
    results.folder.results_file.unlink()


def empty_results(results: BenchmarkResults) -> None:
    results.results.iloc[:0].to_csv(results.folder.results_file, index=False)


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (remove_results, [], "results.csv. Name the output folder of a finished"),
        (empty_results, [], "has no results of any case"),
        (damage_nothing, ["--metric", "IoU"], "--metric IoU: the results have Dice, HD95"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[BenchmarkResults], None],
    options: list[str],
    message: str,
) -> None:
    damage(make_results(tmp_path, LEAST))
    assert main(["report", str(tmp_path), *options]) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert not (tmp_path / "report").exists()


def test_a_chosen_label_hides_the_others_and_says_so(tmp_path: Path) -> None:
    results = make_results(tmp_path, replace(LEAST, labels={"lung": 1, "heart": 2}))
    page = Page(write_report(results, tmp_path / "report", ReportOptions(labels=("heart",))))
    assert "Figures of lung: the tables have them" in page.text
    assert not any("boxes_lung" in name for name in page.ids)
