"""The section on subgroups: what it says, warns of and leaves out."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from benchmark_rows import result_rows, together
from matplotlib.figure import Figure

from nnunet_diffusion_ensemble.benchmark.results import BenchmarkResults, ResultFolder
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.report.subgroups import subgroups_section
from nnunet_diffusion_ensemble.report.view import ReportOptions, choose


@pytest.fixture(autouse=True)
def _unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda figure, stream, **_: stream.write(b"picture"))


@pytest.fixture
def benchmark() -> BenchmarkResults:
    """Two models on 14 cases, of which six are F and good, six M and bad, and two X."""
    domain = {"name": "here", "role": "target", "images": "i", "references": "r", "metadata": "m.csv"}
    spec = BenchmarkSpec(
        output="out",
        models=[{"name": name, "folder": name, "seeds": {0: [0]}} for name in "AB"],
        domains=[domain],
        subgroups={"sex": "categories"},
        target_mix={"sex": {"F": 0.25, "M": 0.75}},
        device="cpu",
    )
    good, bad = [0.91, 0.92, 0.93, 0.94, 0.95, 0.96], [0.51, 0.52, 0.53, 0.54, 0.55, 0.56]
    values = [*good, *bad, 0.1, 0.2]
    rows = [("sex", group, "here", f"case_{case}") for case, group in enumerate("FFFFFFMMMMMMXX")]
    members = pd.DataFrame(rows, columns=["column", "group", "domain", "case"]).astype("string")
    tables = together(result_rows(values, model="A"), result_rows([value - 0.01 for value in values], model="B"))
    return BenchmarkResults(ResultFolder(Path("out")), spec, tables, pd.DataFrame(), pd.DataFrame(), members)


def test_the_worst_group_is_named_with_the_others_and_whether_that_is_significant(benchmark: BenchmarkResults) -> None:
    section = subgroups_section(choose(benchmark, ReportOptions()))
    assert section is not None
    assert section.points[0] == (
        "A, here, lung, by sex: worst is M with 0.535 (6 patients); F 0.935. It is significantly worse than F."
    )
    assert section.points[1].startswith("B, here, lung, by sex: worst is M with 0.525")
    assert [picture.name for picture in section.pictures] == ["subgroups_lung_here_sex"]


def test_a_group_that_is_too_small_is_warned_of_once(benchmark: BenchmarkResults) -> None:
    section = subgroups_section(choose(benchmark, ReportOptions()))
    assert section is not None
    (warning,) = [point for point in section.points if "Too small" in point]
    assert warning.startswith("Too small to say anything: sex X in here, 2 patients.")


def test_tables_have_groups_differences_models_and_the_mix(benchmark: BenchmarkResults) -> None:
    section = subgroups_section(choose(benchmark, ReportOptions()))
    assert section is not None
    shown = {table.name: table.shown for table in section.tables}
    assert list(shown) == ["subgroups", "subgroup_differences", "subgroup_models", "target_mix"]
    assert shown["subgroups"]["Note"].tolist() == ["", "worst", "too small"] * 2
    assert shown["subgroup_differences"]["Worse"].tolist() == ["M", "", "", "M", "", ""]
    assert shown["subgroup_models"]["Patients"].tolist() == ["6", "6", "2 (too few)"]
    mixed = shown["target_mix"]["Mean of the target mix"][0]
    assert mixed.startswith("0.635 [")  # 0.25 x 0.935 + 0.75 x 0.535


def test_without_subgroups_there_is_no_section(benchmark: BenchmarkResults) -> None:
    assert subgroups_section(choose(replace(benchmark, subgroups=benchmark.subgroups[:0]), ReportOptions())) is None
