"""Joined benchmarks are what one benchmark would have written, and their report says what they are."""

import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from joining_data import (
    COMMAND,
    ENVIRONMENT,
    NEWER,
    SPLITS,
    change_model,
    halves,
    in_order,
    part_of,
    record_and_read,
)

from nnunet_diffusion_ensemble.benchmark.record import RECORD, BenchmarkRecord
from nnunet_diffusion_ensemble.benchmark.results import COLUMNS, ResultFolder, read_results
from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.joining.folders import bare_command
from nnunet_diffusion_ensemble.joining.join import join_results
from nnunet_diffusion_ensemble.joining.parts import Renaming
from nnunet_diffusion_ensemble.report.tables import make_tables
from nnunet_diffusion_ensemble.report.write import write_report


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
    (two / "report" / "tables").mkdir(parents=True)
    (two / "report" / "tables" / "problems.csv").write_text("of the report\n")
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
    names = {"Ensemble", "Scratch", "nnU-Net", "Ensemble, longer"}
    assert joined.record is not None
    assert {model.name for model in joined.spec.models} == names
    assert {model["name"] for model in joined.record.models} == {work["model"] for work in joined.record.work} == names
    with pytest.raises(ValueError, match="has no model Nobody, but Ensemble, Scratch, nnU-Net"):
        join_results([other], tmp_path / "joined", COMMAND, [Renaming(other, "Nobody", "Somebody")])


def test_results_of_single_timesteps_are_kept_if_only_some_have_them(whole, tmp_path):
    without = part_of(whole, tmp_path / "without", lambda row: pd.isna(row.get("timestep")), timesteps=False)
    join_results([without, whole.folder.folder], tmp_path / "joined", COMMAND)
    joined = read_results(tmp_path / "joined")
    assert joined.spec.timesteps
    assert joined.results["timestep"].notna().sum() == whole.results["timestep"].notna().sum() > 0


def test_metrics_that_not_all_have_are_left_out_and_told(whole, tmp_path, capsys):
    one, two = halves(whole, "name", "Ensemble", tmp_path)
    two = part_of(
        read_results(two), tmp_path / "three", lambda row: row.get("metric") != "HD95", metrics=["ECE", "Dice"]
    )
    assert main(["join", str(one), str(two), "-o", str(tmp_path / "joined")]) == 0
    assert "Left out, since not all of them have it: HD95\n" in capsys.readouterr().out
    joined = read_results(tmp_path / "joined")
    assert joined.spec.metrics == ("Dice", "ECE") and set(joined.results["metric"]) == {"Dice", "ECE"}


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


def test_the_report_of_joined_studies_tells_of_their_training(whole, tmp_path):
    one, two = halves(whole, "name", "Ensemble", tmp_path)
    (one / "few_label.txt").write_text("nnunet-diffusion few-label -d 1\n")
    join_results([one, two], tmp_path / "joined", COMMAND)
    page = write_report(read_results(tmp_path / "joined"), tmp_path / "report").read_text()
    assert "nnunet-diffusion few-label -d 1" in page and "trains and hands over to" in page


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
