"""`benchmark.json`: what it names, and what is said about files that are others than it names."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from benchmark_inputs import notes_of
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.benchmark.record import RECORD, BenchmarkRecord, changed_files, in_words
from nnunet_diffusion_ensemble.benchmark.results import read_results
from nnunet_diffusion_ensemble.benchmark.runner import run_benchmark, verify_files, work_to_do
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.spec_file import write_spec
from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer

NOTHING = BenchmarkRecord({}, {}, [], [], {}, [], [])


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def with_files(model: dict[str, str], cases: dict[str, str]) -> BenchmarkRecord:
    """A record of one model, and one domain whose cases have these references."""
    named = {"name": "TEDM", "labelled_cases": None, "seed": 0, "files": model}
    found = {case: {"images": {}, "reference": {f"{case}.png": checksum}} for case, checksum in cases.items()}
    return replace(NOTHING, models=[named], domains=[{"name": "north", "tables": {}, "cases": found}])


def test_it_names_all_that_is_needed_to_repeat_a_benchmark(make_benchmark: Callable, tmp_path: Path) -> None:
    options = {"ensemble.noise_seed": 77}
    spec = make_benchmark({4: (0, 1)}, trainer=DiffusionEnsembleTrainer)
    model, domain = spec.models[0].folder, spec.domains[0]
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"]["diffusion"]["ensemble"]["noise_seed"] = options["ensemble.noise_seed"]
    (model / "plans.json").write_text(json.dumps(plans))
    run_benchmark(spec)
    found = json.loads((tmp_path / "out" / RECORD).read_text())
    assert found["schema_version"] == 1
    assert BenchmarkSpec.model_validate_json(json.dumps(found["specification"])) == spec
    assert found["statistics"] == {"replicates": 2000, "confidence": 0.95, "seed": 0}
    (tested,) = found["models"]
    assert (tested["seed"], tested["folds"], tested["noise_seeds"]["2d"]) == (4, [0, 1], 77)
    names = ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth")
    assert tested["files"] == {name: sha256(model / name) for name in names}
    assert found["domains"][0]["cases"]["case_1"] == {
        "images": {"case_1_0000.nii.gz": sha256(domain.images / "case_1_0000.nii.gz")},
        "reference": {"case_1.nii.gz": sha256(domain.references / "case_1.nii.gz")},
    }
    assert found["results"]["results.csv"] == sha256(tmp_path / "out" / "results.csv")
    (work,), (environment,) = found["work"], found["environments"]
    assert (work["model"], work["domain"], work["predicting"]["cases"], work["evaluating"]["cases"]) == (
        *("TEDM", "north"),
        *(2, 2),
    )
    assert work["predicting"]["seconds"] > 0 and work["evaluating"]["environment"] == 0
    assert environment["packages"]["nnunetv2"] == version("nnunetv2")


def test_a_file_that_was_touched_is_the_same_and_one_that_changed_is_named(
    make_benchmark: Callable, counted: dict[str, list], tmp_path: Path
) -> None:
    spec = make_benchmark(trainer=nnUNetTrainer)
    run_benchmark(spec)
    before = (tmp_path / "out" / RECORD).read_bytes()
    references, counted["cases"][:] = spec.domains[0].references, []
    for file in (*references.iterdir(), *spec.domains[0].images.iterdir(), *spec.models[0].folder.rglob("*.pth")):
        os.utime(file, ns=(0, 0))
    assert notes_of(spec) == [] and counted["cases"] == []
    assert (tmp_path / "out" / RECORD).read_bytes() == before
    shutil.copyfile(references / "case_0.nii.gz", references / "case_1.nii.gz")
    told = next(line for line in work_to_do(spec))
    assert "1 file(s) are not as benchmark.json names them:\n  domain north: case_1.nii.gz has changed" in told
    assert "bring the files back, or name another output" in told
    assert (tmp_path / "out" / RECORD).read_bytes() == before  # it tells of the results that are there
    assert notes_of(spec) == [told] and counted["cases"] == []
    assert notes_of(spec) == []


def test_verifying_finds_what_size_and_time_hide(
    make_benchmark: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spec = make_benchmark()
    write_spec(spec, tmp_path / "mine.yaml")
    command = ["benchmark", str(tmp_path / "mine.yaml"), "--verify"]
    assert main(command) == 2
    assert "benchmark.json to compare with" in capsys.readouterr().err
    run_benchmark(spec)
    assert main(command) == 0
    assert "All files of models and domains are those" in capsys.readouterr().out
    file = spec.models[0].folder / "plans.json"
    state, text = file.stat(), file.read_text()
    file.write_text(text.replace('"dataset_name": "', '"dataset_name": "X', 1).replace(": ", ":", 1))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_size == state.st_size and notes_of(spec) == []
    assert main(command) == 1
    assert "model TEDM, seed 0: plans.json has changed" in capsys.readouterr().out
    assert len(notes_of(spec)) == 2  # the file, and that predictions are made anew
    assert verify_files(spec) == []


def test_changed_gone_and_new_files_are_named_and_added_models_are_not() -> None:
    before = with_files({"plans.json": "1", "fold_0/a.pth": "2"}, {"a": "3", "b": "4"})
    now = with_files({"plans.json": "1", "fold_0/a.pth": "x"}, {"a": "3", "c": "5"})
    more = replace(now, models=[*now.models, now.models[0] | {"seed": 1}])
    assert changed_files(before, more) == [
        "model TEDM, seed 0: fold_0/a.pth has changed",
        "domain north: b.png is gone, or is left out",
        "domain north: c.png is new",
    ]
    assert in_words([]) == ""


def test_only_twenty_changes_are_named_but_all_are_counted() -> None:
    cases = {f"case_{number:02d}": "1" for number in range(23)}
    text = in_words(changed_files(with_files({}, cases), with_files({}, dict.fromkeys(cases, "2"))))
    assert text.startswith("23 file(s)") and "case_19" in text and "case_20" not in text and "and 3 more" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"benchmark\.json is not JSON .* Remove it"),
        ("[]", r"benchmark\.json must hold an object"),
        ('{"schema_version": 2}', "has schema_version 2, this version reads 1"),
        ('{"schema_version": 1, "models": []}', "lacks specification, statistics, domains, results"),
    ],
)
def test_a_record_that_cannot_be_used_is_told(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(ValueError, match=message):
        BenchmarkRecord.read(tmp_path)


def test_a_record_is_read_as_it_was_written_and_none_is_no_fault(tmp_path: Path) -> None:
    assert BenchmarkRecord.read(tmp_path) is None
    record = with_files({"plans.json": "1"}, {"a": "2"})
    record.write(tmp_path)
    assert BenchmarkRecord.read(tmp_path) == record


def test_tables_that_changed_since_are_named(make_benchmark: Callable) -> None:
    output = run_benchmark(make_benchmark())
    assert read_results(output.folder).tables_of_another_record() == []
    with output.results_file.open("a") as stream:
        stream.write("TEDM,,0,north,case_2,case_2,,organ,Dice,1.0\n")
    assert read_results(output.folder).tables_of_another_record() == ["results.csv"]
