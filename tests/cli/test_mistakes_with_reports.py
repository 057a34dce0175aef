"""`report` and faulty results: each gives a sentence that says what came and what to do, and leaves all as it was."""

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from mistakes import DEEP_YAML, Fault, as_folder, edit, nothing, remove, write
from report_data import Made, make_results

RESULTS = "results/results.csv"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    made = Made(models=("A",), with_timesteps=(), num_cases=2, seeds=(0,), labelled_cases=(6,), has_images=False)
    make_results(tmp_path / "results", made)
    (tmp_path / "file").write_text("mine")


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ("", edit(RESULTS, lambda text: text.replace("value", "wert", 1)), "results.csv lacks the column(s) value"),
        ("", edit(RESULTS, lambda text: text[:-9]), "results.csv is truncated"),
        ("", write(RESULTS, ""), "results.csv is empty"),
        ("", edit(RESULTS, lambda text: text.split("\n")[0] + "\n"), "has no results of any case"),
        ("", edit(RESULTS, lambda text: text.replace(",0.", ",no", 1)), "results.csv cannot be read as a table"),
        ("", edit(RESULTS, lambda text: text + 'A,6,0,Home,"\n'), "results.csv cannot be read as a table"),
        (
            "",
            edit(RESULTS, lambda text: text.replace("\nA,", "\nB,", 1)),
            "results of B, which spec.yaml does not",
        ),
        ("", lambda folder: (folder / RESULTS).write_bytes(b"\xff\xfe\x00" * 99), "results.csv"),
        ("", as_folder(RESULTS), "results.csv is a folder, not a file"),
        ("", remove("results/problems.csv"), "There is no {tmp}/results/problems.csv"),
        ("", write("results/problems.csv", ""), "problems.csv is empty"),
        ("", write("results/calibration.csv", "model,seed\n"), "calibration.csv lacks the column(s) labelled_cases, "),
        ("", write("results/spec.yaml", ""), "spec.yaml has"),
        ("", write("results/spec.yaml", DEEP_YAML), "spec.yaml is nested too deep"),
        ("-o {tmp}/file", nothing, "{tmp}/file is a file, but a folder is needed"),
        ("-o {tmp}/file/below", nothing, "{tmp}/file is a file, but a folder is needed"),
        ("--labels nose", nothing, "--labels nose: the results have lung"),
    ],
)
def test_report(arguments: str, fault: Fault, message: str, results: None, check: Callable) -> None:
    check(f"report {{tmp}}/results {arguments}", fault, message)


def test_report_of_a_file(results: None, check: Callable) -> None:
    check("report {tmp}/file", nothing, "{tmp}/file is a file, but a folder is needed")
