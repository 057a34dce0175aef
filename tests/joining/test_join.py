"""Joined benchmarks: what one benchmark would have written, and what cannot be joined."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_data import Made, case_names, make_results

from nnunet_diffusion_ensemble.benchmark.record import RECORD, BenchmarkRecord
from nnunet_diffusion_ensemble.benchmark.results import COLUMNS, BenchmarkResults, ResultFolder, read_results
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.spec_file import write_spec
from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.joining.folders import bare_command
from nnunet_diffusion_ensemble.joining.join import join_results
from nnunet_diffusion_ensemble.joining.parts import Renaming
from nnunet_diffusion_ensemble.report.tables import make_tables
from nnunet_diffusion_ensemble.report.write import write_report
from nnunet_diffusion_ensemble.system.records import checksums

COMMAND = "nnunet-diffusion join A B -o JOINED"
ENVIRONMENT = {"python": "3.11", "packages": {}, "gpus": [], "memory_gib": None, "cpu": "", "cores": 1, "system": ""}
NEWER = {**ENVIRONMENT, "python": "3.12"}
MADE = Made(has_images=False, num_cases=4)


def checksum(*of: Any) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()


def finished(folder: Path, made: Made = MADE) -> BenchmarkResults:
    """The results of `make_results` with the record that a benchmark writes."""
    results = make_results(folder, made)
    return record_and_read(results.spec)


def _files_of(case: str) -> dict[str, dict[str, str]]:
    return {"images": {f"{case}_0000.png": checksum(case)}, "reference": {f"{case}.png": checksum(case, "reference")}}


def record_and_read(spec: BenchmarkSpec) -> BenchmarkResults:
    record = BenchmarkRecord(
        specification=spec.model_dump(mode="json"),
        statistics={"seed": 0},
        models=[
            {
                "name": model.name,
                "labelled_cases": model.labelled_cases,
                "seed": seed,
                "folder": str(model.folder),
                "files": {"plans.json": checksum(model.name), "fold_0/checkpoint_final.pth": checksum(model.key, seed)},
            }
            for model in spec.models
            for seed in model.seeds
        ],
        domains=[
            {
                "name": domain.name,
                "role": domain.role,
                "images": str(domain.images),
                "references": str(domain.references),
                "tables": {},
                "cases": {name: _files_of(name) for name in case_names(domain.name, MADE)},
            }
            for domain in spec.domains
        ],
        results=checksums(file for name in COLUMNS if (file := spec.output / name).is_file()),
        work=[
            {
                "model": model.name,
                "labelled_cases": model.labelled_cases,
                "seed": seed,
                "domain": domain.name,
                "predicting": {"finished": "2026-01-01", "environment": 0},
                "evaluating": None,
            }
            for model in spec.models
            for seed in model.seeds
            for domain in spec.domains
        ],
        environments=[ENVIRONMENT],
    )
    record.write(spec.output)
    return read_results(spec.output)


def part_of(whole: BenchmarkResults, folder: Path, keep: Callable[[dict[str, Any]], bool], **changes: Any) -> Path:
    """A benchmark of some of the rows of another one: those of which `keep` is true."""
    folder.mkdir()
    spec = whole.spec.model_dump()
    spec["models"] = [
        {**model, "seeds": seeds}
        for model in spec["models"]
        if (seeds := {seed: folds for seed, folds in model["seeds"].items() if keep({"seed": seed, **model})})
    ]
    spec["domains"] = [domain for domain in spec["domains"] if keep({"domain": domain["name"]})]
    made = BenchmarkSpec.read({**spec, "output": folder, **changes})
    for name in COLUMNS:
        table = getattr(whole, name.removesuffix(".csv"))
        rows = [keep({"name": row.get("model"), **row}) for row in table.to_dict("records")]
        table[pd.Series(rows, dtype=bool)].to_csv(folder / name, index=False)
    write_spec(made, folder / "spec.yaml")
    return record_and_read(made).folder.folder


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(list(table.columns)).reset_index(drop=True)


SPLITS = {
    "models": ("name", "Ensemble"),
    "hospitals": ("domain", "Home"),
    "draws": ("seed", 0),
    "numbers of labelled cases": ("labelled_cases", 1),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkResults:
    return finished(tmp_path_factory.mktemp("benchmarks") / "whole")


def halves(whole: BenchmarkResults, key: str, first: Any, tmp_path: Path) -> list[Path]:
    """What has the value and what has another; rows without it, such as problems of all models, are in both."""
    one = part_of(whole, tmp_path / "one", lambda row: pd.isna(row.get(key)) or row[key] == first)
    two = part_of(whole, tmp_path / "two", lambda row: pd.isna(row.get(key)) or row[key] != first)
    return [one, two]


@pytest.mark.parametrize("split", SPLITS)
def test_the_halves_of_a_benchmark_joined_are_that_benchmark(whole, split, tmp_path):
    join_results(halves(whole, *SPLITS[split], tmp_path), tmp_path / "joined", COMMAND)
    joined = read_results(tmp_path / "joined")
    for name in ("results", "calibration", "problems", "predicted_dice"):
        expected = in_order(getattr(read_results(whole.folder.folder), name))
        pd.testing.assert_frame_equal(in_order(getattr(joined, name)), expected, check_dtype=False)
    of_whole, of_joined = ({table.name: table for table in make_tables(one)} for one in (whole, joined))
    assert of_joined.keys() == of_whole.keys() >= {"summary", "significance", "domain_gap"}
    for name, table in of_whole.items():
        pd.testing.assert_frame_equal(in_order(of_joined[name].shown), in_order(table.shown))


@pytest.mark.parametrize("split", SPLITS)
def test_its_record_names_what_the_record_of_the_whole_names(whole, split, tmp_path):
    join_results(halves(whole, *SPLITS[split], tmp_path), tmp_path / "joined", COMMAND)
    joined = read_results(tmp_path / "joined")
    assert joined.record is not None and whole.record is not None
    assert joined.record.files() == whole.record.files()
    assert sorted(map(str, joined.record.work)) == sorted(map(str, whole.record.work))
    assert joined.record.environments == whole.record.environments
    assert joined.tables_of_another_record() == []


def test_environments_of_several_machines_keep_their_work(whole, tmp_path):
    one, two = halves(whole, "domain", "Home", tmp_path)
    record = json.loads((two / RECORD).read_text())
    (two / RECORD).write_text(json.dumps({**record, "environments": [NEWER]}))
    join_results([one, two], tmp_path / "joined", COMMAND)
    joined = BenchmarkRecord.read(tmp_path / "joined")
    assert joined is not None
    assert joined.environments == [ENVIRONMENT, NEWER]
    used = {(work["domain"], work["predicting"]["environment"]) for work in joined.work}
    assert used == {("Home", 0), ("Away", 1)}


def test_a_zip_file_has_the_tables_and_no_predictions_and_can_be_joined(whole, tmp_path):
    one, two = halves(whole, "domain", "Home", tmp_path)
    (one / "runs" / "x").mkdir(parents=True)
    (one / "runs" / "x" / "results.csv").write_text("of one model\n")
    join_results([one], tmp_path / "one.zip", COMMAND)
    names = zipfile.ZipFile(tmp_path / "one.zip").namelist()
    assert sorted(names) == sorted(["spec.yaml", RECORD, "join.txt", *(set(COLUMNS) - {"subgroups.csv"})])
    by_hand = tmp_path / "two.zip"  # as a user packs the folder itself, with its predictions
    (two / "runs" / "x").mkdir(parents=True)
    (two / "runs" / "x" / "results.csv").write_text("of one model\n")
    with zipfile.ZipFile(by_hand, "w") as archive:
        for file in two.rglob("*"):
            archive.write(file, Path("results") / file.relative_to(two))
    join_results([tmp_path / "one.zip", by_hand], tmp_path / "joined", COMMAND)
    pd.testing.assert_frame_equal(
        in_order(read_results(tmp_path / "joined").results), in_order(read_results(whole.folder.folder).results)
    )


def test_what_both_have_is_there_once(whole, tmp_path):
    folder = whole.folder.folder
    one, _ = halves(whole, "name", "Ensemble", tmp_path)
    join_results([folder, one, folder], tmp_path / "joined", COMMAND)
    assert len(read_results(tmp_path / "joined").results) == len(whole.results)


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


def change_model(record: dict[str, Any]) -> None:
    record["models"][0]["files"]["plans.json"] = "another"


def change_case(record: dict[str, Any]) -> None:
    record["domains"][1]["cases"]["Away_002"] = _files_of("another")


def add_case(record: dict[str, Any]) -> None:
    record["domains"][1]["cases"]["Away_900"] = _files_of("Away_900")


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


def test_two_models_of_one_name_are_joined_under_two(whole, tmp_path):
    other = part_of(whole, tmp_path / "other", lambda row: True)
    record = json.loads((other / RECORD).read_text())
    change_model(record)
    (other / RECORD).write_text(json.dumps(record))
    renaming = Renaming(other, "Ensemble", "Ensemble, longer")
    join_results([whole.folder.folder, other], tmp_path / "joined", COMMAND, [renaming])
    joined = read_results(tmp_path / "joined")
    own, renamed = (joined.results[joined.results["model"] == name] for name in ("Ensemble", "Ensemble, longer"))
    pd.testing.assert_frame_equal(
        in_order(own.drop(columns="model")), in_order(renamed.drop(columns="model")), check_dtype=False
    )
    assert {model.name for model in joined.spec.models} == {"Ensemble", "Scratch", "nnU-Net", "Ensemble, longer"}
    with pytest.raises(ValueError, match="has no model Nobody, but Ensemble, Scratch, nnU-Net"):
        join_results([other], tmp_path / "joined", COMMAND, [Renaming(other, "Nobody", "Somebody")])


def test_metrics_that_not_all_have_are_left_out_and_told(whole, tmp_path, capsys):
    one, two = halves(whole, "name", "Ensemble", tmp_path)
    two = part_of(
        read_results(two), tmp_path / "three", lambda row: row.get("metric") != "HD95", metrics=["ECE", "Dice"]
    )
    assert main(["join", str(one), str(two), "-o", str(tmp_path / "joined")]) == 0
    assert "Left out, since not all of them have it: HD95\n" in capsys.readouterr().out
    joined = read_results(tmp_path / "joined")
    assert joined.spec.metrics == ("Dice", "ECE") and set(joined.results["metric"]) == {"Dice", "ECE"}


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


def test_the_report_of_joined_results_says_what_they_are_and_shows_no_case(whole, tmp_path):
    parts = halves(whole, "domain", "Home", tmp_path)
    join_results(parts, tmp_path / "joined", COMMAND)
    page = write_report(read_results(tmp_path / "joined"), tmp_path / "report").read_text()
    for part in parts:
        assert f"nnunet-diffusion benchmark {part}/spec.yaml" in page
    assert COMMAND in page and "joined results have no predictions" in page
    again = join_results([tmp_path / "joined"], tmp_path / "again", "nnunet-diffusion join AGAIN")
    commands = ResultFolder(again.place).commands
    assert [command.split()[1] for command in commands] == ["benchmark", "benchmark", "join", "join"]


def test_without_folders_nothing_says_where_things_lie_and_numbers_stay(whole, tmp_path, capsys):
    one, two = halves(whole, "domain", "Home", tmp_path)
    problems = pd.read_csv(two / "problems.csv").assign(problem=f"{two}/labels/Away_999.png is half; see '{two}'")
    problems.to_csv(two / "problems.csv", index=False)
    record_and_read(read_results(two).spec)
    output = tmp_path / "secret" / "joined"
    assert main(["join", str(one), str(two), "-o", str(output), "--without-folders"]) == 0
    texts = {file.name: file.read_text() for file in output.iterdir() if file.is_file() and file.name != ".lock"}
    assert len(texts) >= 7
    assert {name for name, text in texts.items() for part in tmp_path.parts[1:] if part in text} == set()
    assert "Away_999.png is half; see 'two'" in texts["problems.csv"]
    assert "images: /Home/images\n" in texts["spec.yaml"] and "folder: /nnU-Net\n" in texts["spec.yaml"]
    joined, expected = read_results(output), read_results(whole.folder.folder)
    pd.testing.assert_frame_equal(in_order(joined.results), in_order(expected.results), check_dtype=False)
    join_results([output, whole.folder.folder], tmp_path / "again", COMMAND)  # they are still the same cases
    assert len(read_results(tmp_path / "again").results) == len(expected.results)


def test_a_command_without_folders_keeps_its_options():
    command = "nnunet-diffusion few-label -d 1 --splits '/a b/c/splits.json' --output=/a/study -o runs/x --labels 1 3"
    expected = "nnunet-diffusion few-label -d 1 --splits splits.json --output=study -o x --labels 1 3"
    assert bare_command(command) == expected


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
