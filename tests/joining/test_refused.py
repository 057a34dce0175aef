"""What is no benchmark, and benchmarks that contradict each other, are refused before anything is written."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from joining_data import COMMAND, change_model, files_of, halves, part_of, record_and_read

from nnunet_diffusion_ensemble.benchmark.record import RECORD
from nnunet_diffusion_ensemble.benchmark.results import BenchmarkResults, read_results
from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.joining.join import join_results


def test_another_value_of_the_same_is_refused(whole, tmp_path):
    one, _ = halves(whole, "name", "Ensemble", tmp_path)
    table = pd.read_csv(one / "results.csv")
    table.loc[3, "value"] += 0.5
    table.to_csv(one / "results.csv", index=False)
    record_and_read(read_results(one).spec)
    case = table.loc[3, "case"]
    with pytest.raises(ValueError, match=f"have different values of the same: .* of Ensemble, seed 0, for {case} of"):
        join_results([whole.folder.folder, one], tmp_path / "joined", COMMAND)
    assert not (tmp_path / "joined" / "spec.yaml").exists()


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unit": ({"unit": "px"}, "unit is mm in .*whole and px in .*other"),
    "tolerance": ({"nsd_tolerance": 1.0}, r"nsd_tolerance is 2.0 in .* and 1.0 in"),
    "mirroring": ({"mirroring": False}, "mirroring is True in .* and False in"),
    "instances": ({"instances": ["lung"]}, r"instances is none in .* and \('lung',\) in"),
    "metrics": ({"metrics": ["recall"]}, "there is no metric that all of them have"),
}


@pytest.mark.parametrize("contradiction", CONTRADICTIONS)
def test_other_settings_are_refused(whole, contradiction, tmp_path):
    changes, expected = CONTRADICTIONS[contradiction]
    other = part_of(whole, tmp_path / "other", lambda row: True, **changes)
    with pytest.raises(ValueError, match=f"These benchmarks cannot be joined:\n  {expected}"):
        join_results([whole.folder.folder, other], tmp_path / "joined", COMMAND)
    assert not (tmp_path / "joined").exists()


def change_case(record: dict[str, Any]) -> None:
    record["domains"][1]["cases"]["Away_002"] = files_of("another")


def add_case(record: dict[str, Any]) -> None:
    record["domains"][1]["cases"]["Away_900"] = files_of("Away_900")


def add_table(record: dict[str, Any]) -> None:
    record["domains"][0]["tables"] = {"patients": "one"}


OTHERS = {
    change_model: r"Ensemble with 1 labelled case\(s\), seed 0 is another model in .*other than in .*whole "
    r"\(plans.json\): give one of them another name \(--rename\)",
    change_case: r"Away has other cases, images or references in .*other than in .*whole \(Away_002\): other cases ",
    add_case: r"Away has other cases, images or references in .* \(Away_900\)",
    add_table: "Home has other tables of patients or metadata in .*other than in",
}


@pytest.mark.parametrize("change", OTHERS, ids=lambda change: change.__name__)
def test_one_name_of_two_things_is_refused(whole, change, tmp_path):
    other = part_of(whole, tmp_path / "other", lambda row: True)
    record = json.loads((other / RECORD).read_text())
    change(record)
    (other / RECORD).write_text(json.dumps(record))
    with pytest.raises(ValueError, match=OTHERS[change]):
        join_results([whole.folder.folder, other], tmp_path / "joined", COMMAND)


def test_two_roles_of_a_hospital_are_refused(whole, tmp_path):
    domains = [{**domain.model_dump(), "role": "source"} for domain in whole.spec.domains]
    other = part_of(whole, tmp_path / "other", lambda row: True, domains=domains)
    with pytest.raises(ValueError, match=r"Away is a target in .*whole and a source in .*other"):
        join_results([whole.folder.folder, other], tmp_path / "joined", COMMAND)


def test_another_use_of_a_model_is_refused(whole, tmp_path):
    models = [{**model.model_dump(), "postprocessed": model.name == "Scratch"} for model in whole.spec.models]
    other = part_of(whole, tmp_path / "other", lambda row: True, models=models)
    with pytest.raises(ValueError, match=r"postprocessed of Scratch with 1 labelled case\(s\) is False in .* and True"):
        join_results([whole.folder.folder, other], tmp_path / "joined", COMMAND)


def test_quartiles_of_other_cases_are_refused(whole, tmp_path):
    spec = replace_domains(whole)
    one, two = (
        part_of(whole, tmp_path / name, lambda row, name=name: row.get("domain", name) == name, **spec[name])
        for name in ("Home", "Away")
    )
    with pytest.raises(ValueError, match="quartiles of subgroups are those of other cases in each; give edges instead"):
        join_results([one, two], tmp_path / "joined", COMMAND)


def replace_domains(whole: BenchmarkResults) -> dict[str, dict[str, Any]]:
    """For each domain, the changes that give it a table and ask for quartiles."""
    return {
        domain.name: {
            "domains": [{**domain.model_dump(), "metadata": Path("ages.csv")}],
            "subgroups": {"age": "quartiles"},
        }
        for domain in whole.spec.domains
    }


def refused(arguments: Sequence[object], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["join", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_a_benchmark_is_not_written_over(whole, tmp_path, capsys):
    one, two = halves(whole, "name", "Ensemble", tmp_path)
    assert "holds the results of a benchmark. Name another output" in refused([one, "-o", two], capsys)
    assert "is one of the results to join" in refused([one, two, "-o", two], capsys)
    for _ in range(2):  # its own, when a hospital more has sent its results
        assert main(["join", str(one), str(two), "-o", str(tmp_path / "joined")]) == 0


def test_what_is_no_benchmark_is_refused_with_a_sentence(whole, tmp_path, capsys):
    one, two = halves(whole, "name", "Ensemble", tmp_path)
    output = ["-o", tmp_path / "joined"]
    assert f"There is no {tmp_path / 'nothing'}" in refused([tmp_path / "nothing", *output], capsys)
    text = tmp_path / "text.zip"
    text.write_text("no zip")
    assert f"{text} is neither the output folder of a benchmark nor a zip file of one" in refused(
        [text, *output], capsys
    )
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    assert f"There is no {tmp_path / 'empty.zip'}/results.csv" in refused([tmp_path / "empty.zip", *output], capsys)
    with (one / "results.csv").open("a") as stream:
        stream.write("Ensemble,1,0,Home,Home_000,Home_000,,lung,IoU,0.5\n")
    assert f"{one}: results.csv changed since benchmark.json was written" in refused([one, *output], capsys)
    (two / RECORD).write_text((two / RECORD).read_text().replace('"cases": {', '"cases": [], "x": {'))
    assert f"{two / RECORD}" in refused([two, *output], capsys)
    (two / RECORD).unlink()
    assert f"{two} has no benchmark.json, which tells whether" in refused([two, *output], capsys)


def test_a_zip_file_of_two_benchmarks_is_refused(whole, tmp_path, capsys):
    one, two = halves(whole, "name", "Ensemble", tmp_path)
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        for file in (*one.iterdir(), *two.iterdir()):
            archive.write(file, file.relative_to(tmp_path))
    assert "both.zip holds 2 benchmarks. Name each by itself." in refused(
        [tmp_path / "both.zip", "-o", tmp_path / "joined"], capsys
    )
