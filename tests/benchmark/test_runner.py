"""Benchmarks of tiny trained models: what is written, what is done again and what is not."""

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from benchmark_inputs import make_domain, notes_of, snapshot, with_models
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from other_process import at_work_elsewhere
from stock_prediction import stock

from nnunet_diffusion_ensemble.benchmark import models, runner
from nnunet_diffusion_ensemble.benchmark.progress import BenchmarkProgress
from nnunet_diffusion_ensemble.benchmark.results import ResultFolder, read_results
from nnunet_diffusion_ensemble.benchmark.runner import run_benchmark, work_to_do
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.spec_file import write_spec
from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer

# ---- what is written


def test_dice_is_that_of_nnunets_prediction_and_evaluation(make_benchmark: Callable, tmp_path: Path) -> None:
    spec = make_benchmark({3: (0, 1)}, trainer=DiffusionEnsembleTrainer)
    output, domain = run_benchmark(spec), spec.domains[0]
    options = {"use_mirroring": False, "tile_step_size": 1.0}
    expected = stock(domain.images, tmp_path / "stock", spec.models[0].folder, folds=(0, 1), **options) / "False"
    results = read_results(output.folder).results
    own = results[results["timestep"].isna()].set_index("case")["value"]
    summary = json.loads((output.prediction(spec.models[0], 3, "north") / "summary.json").read_text())
    for position, case in enumerate(("case_0", "case_1")):
        files = [str(folder / f"{case}.nii.gz") for folder in (domain.references, expected)]
        dice = compute_metrics(*files, SimpleITKIO(), [1])["metrics"][1]["Dice"]
        assert own[case] == pytest.approx(dice, rel=1e-12)
        assert summary["metric_per_case"][position]["metrics"]["1"]["Dice"] == pytest.approx(dice, rel=1e-12)


def test_labelled_cases_and_patients_are_told(make_benchmark: Callable, tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("case,patient\ncase_0,NA\ncase_1,NA\n")
    domain = make_domain(tmp_path / "north") | {"patients": tmp_path / "patients.csv"}
    spec = make_benchmark(domains=[domain])
    spec = with_models(spec, spec.models[0].model_dump() | {"labelled_cases": 6})
    results = read_results(run_benchmark(spec).folder).results
    assert set(results["labelled_cases"]) == {6} and set(results["patient"]) == {"NA"}


def test_volumes_and_subgroups_are_told(make_benchmark: Callable, tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("case,sex\ncase_0,F\ncase_1,M\n")
    domain = make_domain(tmp_path / "north") | {"metadata": tmp_path / "metadata.csv"}
    output = run_benchmark(make_benchmark(domains=[domain], subgroups={"sex": "categories"}, unit="px"))
    found = read_results(output.folder)
    assert found.subgroups[["group", "case"]].to_numpy().tolist() == [["F", "case_0"], ["M", "case_1"]]
    counts = json.loads((output.runs / "TEDM_seed0" / "north" / "prediction" / "summary.json").read_text())
    expected = [[part["metrics"]["1"][name] for name in ("n_ref", "n_pred")] for part in counts["metric_per_case"]]
    assert found.volumes[["reference", "prediction"]].to_numpy().tolist() == expected


def test_metadata_may_change_and_its_faults_are_refused_before_anything_is_predicted(
    make_benchmark: Callable, counted: dict[str, list], tmp_path: Path
) -> None:
    spec = make_benchmark()
    run_benchmark(spec)
    domain = spec.domains[0].model_dump() | {"metadata": tmp_path / "metadata.csv"}
    changed = BenchmarkSpec.model_validate(
        spec.model_dump() | {"domains": [domain], "subgroups": {"sex": "categories"}}
    )
    (tmp_path / "metadata.csv").write_text("case,sex\ncase_0,F\n")
    with pytest.raises(ValueError, match=r"north: case_1: is not in .*metadata\.csv"):
        run_benchmark(changed)
    (tmp_path / "metadata.csv").write_text("case,sex\ncase_0,F\ncase_1,\n")
    assert read_results(run_benchmark(changed).folder).subgroups["group"].tolist() == ["F", "no value"]
    assert counted["cases"] == ["case_0", "case_1"]


def test_the_resolved_specification_runs_to_the_same_effect(
    make_benchmark: Callable, counted: dict[str, list], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spec = make_benchmark()
    write_spec(spec, tmp_path / "mine.yaml")
    assert main(["benchmark", str(tmp_path / "mine.yaml")]) == 0
    before = snapshot(tmp_path / "out")
    assert main(["benchmark", str(tmp_path / "out" / "spec.yaml")]) == 0
    assert snapshot(tmp_path / "out") == before
    assert counted["cases"] == ["case_0", "case_1"]
    assert "Next: nnunet-diffusion report" in capsys.readouterr().out


def test_a_dry_run_says_what_there_is_to_do_and_predicts_nothing(
    make_benchmark: Callable, counted: dict[str, list], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spec = make_benchmark({0: (0,), 1: (0,)})
    write_spec(spec, tmp_path / "mine.yaml")
    assert main(["benchmark", str(tmp_path / "mine.yaml"), "--dry-run"]) == 0
    assert "TEDM, seed 0, on north: 2 of 2 cases to predict" in capsys.readouterr().out
    assert counted["models"] == [] and not (tmp_path / "out" / "spec.yaml").exists()
    run_benchmark(spec)
    (ResultFolder(tmp_path / "out").prediction(spec.models[0], 1, "north") / "scores" / "case_1.json").unlink()
    (ResultFolder(tmp_path / "out").run(spec.models[0], 1, "north") / "evaluated_from.json").unlink()
    assert list(work_to_do(spec)) == [
        "TEDM, seed 0, on north: finished",
        "TEDM, seed 1, on north: 1 of 2 cases to predict",
    ]


# ---- what is done again


def test_a_model_that_cannot_predict_is_told_before_anything_is_predicted(
    make_benchmark: Callable, counted: dict[str, list]
) -> None:
    spec = make_benchmark({0: (0,), 1: (1,)})
    checkpoint = spec.models[0].folder / "fold_1" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"TEDM: seed 1: .*checkpoint_final\.pth.*truncated"):
        run_benchmark(spec)
    assert counted["cases"] == []
    results = read_results(run_benchmark(spec.model_copy(update={"on_problem": "skip"})).folder)
    assert set(results.results["seed"]) == {0} and len(results.problems) == 1


def test_a_model_whose_predictions_are_all_there_is_neither_read_nor_asked_for_its_trainer(
    make_benchmark: Callable, counted: dict[str, list], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_benchmark()
    results = read_results(run_benchmark(spec).folder).results
    (ResultFolder(spec.output).run(spec.models[0], 0, "north") / "evaluated_from.json").unlink()
    monkeypatch.setattr(models, "check_model", lambda *_: pytest.fail("asked"))
    assert read_results(run_benchmark(spec).folder).results.equals(results)
    assert counted["models"] == [("model", (0,))]  # for the first run


def test_a_second_run_does_nothing(make_benchmark: Callable, counted: dict[str, list], tmp_path: Path) -> None:
    spec = make_benchmark(domains=("north", "south"))
    run_benchmark(spec)
    assert counted["models"] == [("model", (0,))]  # read once for both domains
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "runs").rglob("*.*")}
    assert notes_of(spec) == []
    assert counted["models"] == [("model", (0,))] and len(counted["cases"]) == 4
    assert times == {file: file.stat().st_mtime_ns for file in times}


@pytest.mark.parametrize("table", ["results.csv", "calibration.csv", "volumes.csv", "prediction/summary.json"])
def test_a_finished_pair_whose_table_was_damaged_is_evaluated_again(
    table: str, make_benchmark: Callable, counted: dict[str, list], tmp_path: Path
) -> None:
    spec = make_benchmark()
    run_benchmark(spec)
    before, file = snapshot(tmp_path / "out"), ResultFolder(tmp_path / "out").run(spec.models[0], 0, "north") / table
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert any("cases to predict" in line for line in work_to_do(spec))
    run_benchmark(spec)
    assert snapshot(tmp_path / "out") == before
    assert len(counted["cases"]) == 2  # evaluated, not predicted again


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    make_benchmark: Callable, counted: dict[str, list], tmp_path: Path
) -> None:
    spec = make_benchmark(metrics=("Dice", "ECE"))
    run_benchmark(spec)
    expected = snapshot(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    counted["cases"].clear()

    told: list[BenchmarkProgress] = []

    def interrupt(progress: BenchmarkProgress) -> None:
        told.append(progress)
        if len(told) == 4:  # the first case is predicted
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_benchmark(spec, interrupt)
    assert snapshot(tmp_path / "out") != expected
    run_benchmark(spec)
    assert snapshot(tmp_path / "out") == expected
    assert counted["cases"] == ["case_0", "case_1"]  # none twice


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "px"}, "unit was mm, now px"),
        ({"metrics": ["IoU"]}, "Dice no longer measured"),
        ({"domains": "south"}, "domain north is gone"),
        ({"models": {"name": "LEDM"}}, "model TEDM is gone"),
        ({"models": {"seeds": {0: (1,)}}}, r"model TEDM had seeds \{0: \(0,\)\}, now \{0: \(1,\)\}"),
        ({"models": {"checkpoint": "checkpoint_best.pth"}}, "had checkpoint checkpoint_final.pth, now checkpoint_best"),
    ],
)
def test_results_of_another_specification_are_not_overwritten(
    change: dict, message: str, make_benchmark: Callable, tmp_path: Path
) -> None:
    spec = make_benchmark()
    (tmp_path / "out").mkdir()
    write_spec(spec, tmp_path / "out" / "spec.yaml")
    if "models" in change:
        change = {"models": [spec.models[0].model_dump() | change["models"]]}
    if "domains" in change:
        change = {"domains": [make_domain(tmp_path / "south")]}
    with pytest.raises(ValueError, match=message) as raised:
        run_benchmark(BenchmarkSpec.model_validate(spec.model_dump() | change))
    assert "Name another output" in str(raised.value)


# ---- problems


def spoil(spec: BenchmarkSpec) -> None:
    (spec.domains[0].references / "case_1.nii.gz").unlink()


def test_problems_are_refused_before_anything_is_predicted(
    make_benchmark: Callable, counted: dict[str, list], tmp_path: Path
) -> None:
    spec = make_benchmark({0: (0,), 1: (5,)})
    spoil(spec)
    shutil.rmtree(spec.models[0].folder / "fold_5")
    with pytest.raises(ValueError, match=r"on_problem: skip.*2 problem\(s\)") as raised:
        run_benchmark(spec)
    assert "TEDM: seed 1: There is no " in str(raised.value)
    assert "north: case_1: case_1_0000.nii.gz has no reference" in str(raised.value)
    assert counted["models"] == [] and not (tmp_path / "out" / "runs").exists()


def test_skipped_problems_are_written_and_the_rest_is_tested(make_benchmark: Callable, tmp_path: Path) -> None:
    spec = make_benchmark({0: (0,), 1: (5,)}, on_problem="skip")
    spoil(spec)
    shutil.rmtree(spec.models[0].folder / "fold_5")
    found = read_results(run_benchmark(spec).folder)
    assert set(found.results["case"]) == {"case_0"} and set(found.results["seed"]) == {0}
    rows = found.problems.fillna("")
    assert list(zip(rows["model"], rows["domain"], rows["case"], rows["action"], strict=True)) == [
        ("TEDM", "", "", "left out"),
        ("", "north", "case_1", "left out"),
    ]


def test_only_twenty_problems_are_listed_but_all_are_counted(make_benchmark: Callable, tmp_path: Path) -> None:
    domain = make_domain(tmp_path / "north", [f"case_{position:02d}" for position in range(23)])
    for file in domain["references"].iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"23 problem\(s\)") as raised:
        run_benchmark(make_benchmark(domains=[domain]))
    assert "case_19_0000" in str(raised.value) and "case_20_0000" not in str(raised.value)
    assert "... and 3 more" in str(raised.value)


def test_nothing_left_is_an_error_even_if_problems_are_skipped(make_benchmark: Callable, tmp_path: Path) -> None:
    spec = make_benchmark(on_problem="skip")
    shutil.rmtree(spec.domains[0].references)
    with pytest.raises(ValueError, match="Nothing is left to test"):
        run_benchmark(spec)
    assert not (tmp_path / "out" / "results.csv").exists()


def test_a_prediction_that_fails_is_reported_or_ends_the_run(
    make_benchmark: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_benchmark({0: (0,), 1: (1,)}, on_problem="skip")
    original = runner.read_model

    def out_of_memory(folder: Path, settings: Any) -> Any:
        if settings.folds == (0,):
            raise MemoryError
        return original(folder, settings)

    monkeypatch.setattr(runner, "read_model", out_of_memory)
    found = read_results(run_benchmark(spec).folder)
    assert set(found.results["seed"]) == {1}
    (row,) = found.problems.to_dict("records")
    assert (row["model"], row["domain"], row["problem"]) == ("TEDM", "north", "seed 0: MemoryError: ")
    with pytest.raises(RuntimeError, match="TEDM, seed 0, on north: MemoryError"):
        run_benchmark(spec.model_copy(update={"on_problem": "refuse"}))
    monkeypatch.setattr(runner, "read_model", original)  # more memory
    assert set(read_results(run_benchmark(spec).folder).results["seed"]) == {0, 1}


def test_a_mistake_in_the_file_ends_the_command_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine.yaml").write_text("models: []\n")
    assert main(["benchmark", str(tmp_path / "mine.yaml")]) == 2
    printed = capsys.readouterr().err
    assert "line 1, column 9: models must be a list of one or more, each an object with name, folder" in printed
    assert "Traceback" not in printed


# ---- several processes


def test_a_model_at_work_elsewhere_is_waited_for_and_not_done_twice(
    make_benchmark: Callable, counted: dict[str, list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "WAIT_SECONDS", 0)
    spec = make_benchmark({0: (0,), 1: (1,)})
    first = ResultFolder(tmp_path / "out").run(spec.models[0], 0, "north").parent
    first.mkdir(parents=True)
    other = ExitStack()
    other.enter_context(at_work_elsewhere(first / ".lock"))
    seen: list[list] = []

    def report(progress: BenchmarkProgress) -> None:
        if progress.step == "waiting":
            seen.append(list(counted["models"]))
            other.close()

    run_benchmark(spec, report)
    assert seen == [[("model", (1,))]]  # the other model came first
    assert counted["models"] == [("model", (1,)), ("model", (0,))]
