"""Tables for readers: digits, units and signs, and their files."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmark_rows import result_rows, together

from nnunet_diffusion_ensemble.benchmark.results import PROBLEM_COLUMNS, BenchmarkResults, ResultFolder
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec, DomainSpec, ModelSpec
from nnunet_diffusion_ensemble.report.latex import escape
from nnunet_diffusion_ensemble.report.tables import Table, format_p, format_value, make_tables, write_tables

MINUS, UNDEFINED = "\N{MINUS SIGN}", "\N{EN DASH}"


def benchmark(results: pd.DataFrame, problems: list[list[str | None]] | None = None) -> BenchmarkResults:
    """A finished benchmark in px, of a domain `here`, the source, and `there`, a target."""
    domains = [
        DomainSpec(name=name, role=role, images=Path(name), references=Path(name))
        for name, role in (("here", "source"), ("there", "target"))
    ]
    model = ModelSpec(name="TEDM", folder=Path("TEDM"), seeds={0: (0,)})
    spec = BenchmarkSpec(output=Path("out"), models=(model,), domains=tuple(domains), unit="px")
    return BenchmarkResults(
        ResultFolder(spec.output), spec, results, pd.DataFrame(), pd.DataFrame(problems or [], columns=PROBLEM_COLUMNS)
    )


def few_results() -> pd.DataFrame:
    """Two models, 8 cases, in two domains and metrics; all values of a model in a domain and metric are the same."""
    means = {"TEDM": (0.9, 3.0, 0.75, 4.0), "LE_DM & co": (0.8, 2.0, 0.6, np.nan)}
    places = [("here", "HD95"), ("here", "Dice"), ("there", "Dice"), ("there", "HD95")]
    tables = []
    for model, (dice, hd95, dice_there, hd95_there) in means.items():
        for (domain, metric), value in zip(places, (hd95, dice, dice_there, hd95_there), strict=True):
            tables.append(result_rows([value] * 8, model=model, domain=domain, metric=metric))
    return together(*tables)


def tables_of(results: pd.DataFrame, *problems: list[str | None]) -> dict[str, Table]:
    return {table.name: table for table in make_tables(benchmark(results, list(problems)))}


@pytest.mark.parametrize(
    ("metric", "value", "unit", "text"),
    [
        ("Dice", 0.93456, "px", "0.935"),
        ("HD95", 3.14159, "px", "3.14 px"),
        ("HD95", 3.14159, "", "3.14"),
        ("HD95", float("nan"), "mm", UNDEFINED),
        ("Dice", -0.0126, "", f"{MINUS}0.013"),
        ("Dice", -0.0001, "", "0.000"),
        ("Dice", None, "", UNDEFINED),
    ],
)
def test_values_have_the_digits_and_units_of_their_metric(metric: str, value: float | None, unit: str, text: str):
    assert format_value(metric, value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0005, "<0.001"), (0.0, "<0.001"), (0.001, "0.001"), (0.0496, "0.050"), (1.0, "1.000"), (None, UNDEFINED)],
)
def test_p_values_have_three_decimals_or_are_less_than_the_last(value: float | None, text: str):
    assert format_p(value) == text


def test_summary_has_a_column_for_each_metric_in_the_order_of_the_specification():
    summary = tables_of(few_results())["summary"]
    assert [*summary.shown.columns] == ["Label", "Domain", "Model", "Dice", "HD95 (px)"]
    assert summary.shown.values.tolist() == [
        ["lung", "here (source)", "TEDM", "0.900 [0.900, 0.900]", "3.00 [3.00, 3.00]"],
        ["lung", "here (source)", "LE_DM & co", "0.800 [0.800, 0.800]", "2.00 [2.00, 2.00]"],
        ["lung", "there (target)", "TEDM", "0.750 [0.750, 0.750]", "4.00 [4.00, 4.00]"],
        ["lung", "there (target)", "LE_DM & co", "0.600 [0.600, 0.600]", UNDEFINED],
    ]
    assert "Lower is better in HD95" in summary.caption


def test_the_other_tables_show_what_was_computed():
    tables = tables_of(few_results(), [None, "there", "case_9", "no reference", "skipped"])
    assert [*tables] == ["summary", "worst_cases", "significance", "domain_gap", "ranks", "problems"]
    shown = {name: [" | ".join(row) for row in table.shown.values] for name, table in tables.items()}
    worst = "Dice | lung | here (source) | TEDM | 0.900 [0.900, 0.900] | 0.900 | 0.000 | 8 | 8 | 1 | 0 | 0"
    assert shown["worst_cases"][0] == worst
    # All 8 differences are 0.1: p is 2 / 2^8, times 1 for the family of one pair.
    difference = "Dice | lung | here (source) | TEDM | LE_DM & co | 0.100 [0.100, 0.100] | 0.008 | 0.008 | 1.00 | TEDM"
    assert shown["significance"][0] == f"{difference} | 8 | 0"
    assert shown["domain_gap"][0] == "Dice | lung | here | there | TEDM | 0.900 | 0.750 | 0.150 [0.150, 0.150] | 1"
    gap = f"HD95 (px) | lung | here | there | TEDM | 3.00 | 4.00 | {MINUS}1.00 [{MINUS}1.00, {MINUS}1.00] | 1"
    assert shown["domain_gap"][2] == gap
    assert shown["ranks"][1] == "Dice | lung | here (source) | 2 [2, 2] | LE_DM & co | 0.800 | 0% | 1.00 | 0"
    assert shown["problems"] == ["all | there | case_9 | no reference | skipped"]


def test_numbers_of_labelled_cases_have_a_column_if_there_are_any():
    tables = tables_of(together(result_rows([0.5, 0.6]), result_rows([0.7, 0.8], labelled_cases=3)))
    assert tables["summary"].shown["Labelled cases"].tolist() == ["", "3"]
    assert [*tables] == ["summary", "worst_cases"]  # nothing to compare, no target, no problem


def test_results_of_a_domain_that_the_specification_does_not_have_are_refused():
    with pytest.raises(ValueError, match="elsewhere is neither"):
        tables_of(result_rows([0.5, 0.6], domain="elsewhere"))


def test_csv_has_the_raw_numbers_in_full_precision(tmp_path: Path):
    random = np.random.default_rng(0)
    tables = tables_of(together(*(result_rows(random.random(9), model=name, labelled_cases=3) for name in "AB")))
    files = write_tables(tmp_path / "tables", list(tables.values()))
    assert sorted(files) == sorted((tmp_path / "tables").iterdir())
    for name, table in tables.items():
        read = pd.read_csv(tmp_path / "tables" / f"{name}.csv", float_precision="round_trip")
        floats = table.raw.select_dtypes("float64")
        assert [*read.columns] == [*table.raw.columns]
        assert np.array_equal(read[[*floats.columns]].to_numpy(float), floats.to_numpy(), equal_nan=True)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]


def test_latex_has_a_row_for_each_row_and_the_columns_that_it_announces(tmp_path: Path):
    table = tables_of(few_results())["significance"]
    _, tex = write_tables(tmp_path, [table])
    lines = tex.read_text(encoding="utf-8").splitlines()
    body = lines[lines.index(r"\endlastfoot") + 1 : lines.index(r"\end{longtable}")]
    assert [cells(line) for line in body] == [[escape(text) for text in row] for row in table.shown.values]
    assert all(line.endswith(r"\\") for line in body)
    announced = re.fullmatch(r"\\begin\{longtable\}\{(l+)\}", lines[1])
    assert announced and len(announced[1]) == len(table.shown.columns)
    assert cells(lines[lines.index(r"\toprule") + 1]) == [escape(name) for name in table.shown.columns]
    assert [line for line in lines if r"\caption" in line][1] == r"\caption[]{(continued)} \\"
    for rule in (r"\toprule", r"\midrule", r"\endfirsthead", r"\endhead", r"\endfoot", r"\bottomrule"):
        assert rule in lines
    assert all(ord(character) < 128 for line in lines for character in line)
    assert r"LE\_DM \& co" in body[0] and r"\label{tab:significance}" in "".join(lines)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("nnU-Net_x & 5% #1 $", r"nnU-Net\_x \& 5\% \#1 \$"),
        (r"a\b{c}~^", r"a\textbackslash{}b\{c\}\textasciitilde{}\textasciicircum{}"),
        ("<0.001", "$<$0.001"),
        (f"{MINUS}1.00", "$-$1.00"),
        ("[3]", "{}[3]"),
    ],
)
def test_latex_sets_texts_as_they_are(text: str, latex: str):
    assert escape(text) == latex


def test_a_table_that_cannot_be_written_leaves_nothing_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tables(tmp_path, list(tables_of(result_rows([0.5, 0.6])).values()))
    assert list(tmp_path.iterdir()) == []
