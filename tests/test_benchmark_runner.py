"""Benchmarks of tiny trained models: what is written, what is done again and what is not."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from benchmark_inputs import make_domain, make_spec
from filelock import FileLock
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from test_predict import stock

from nnunet_diffusion_ensemble.benchmark import pair as pair_module
from nnunet_diffusion_ensemble.benchmark import runner
from nnunet_diffusion_ensemble.benchmark.progress import Progress
from nnunet_diffusion_ensemble.benchmark.results import CALIBRATION_COLUMNS, RESULT_COLUMNS, ResultFolder, read_results
from nnunet_diffusion_ensemble.benchmark.runner import run_benchmark, work_to_do
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec, write_spec
from nnunet_diffusion_ensemble.cli import main


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list]:
    """Models that are read and cases that are predicted, from now on."""
    seen: dict[str, list] = {"models": [], "cases": []}

    def read_model(folder: Path, settings: Any) -> Any:
        seen["models"].append((folder.name, settings.folds))
        return original_read(folder, settings)

    def predict_cases(*arguments: Any) -> Iterator[Any]:
        for case in original_predict(*arguments):
            seen["cases"] += [case.scores.case] * case.is_new
            yield case

    original_read, original_predict = runner.read_model, pair_module.predict_cases
    monkeypatch.setattr(runner, "read_model", read_model)
    monkeypatch.setattr(pair_module, "predict_cases", predict_cases)
    return seen


@pytest.fixture
def make(model_folder: Callable, tmp_path: Path) -> Callable[..., BenchmarkSpec]:
    """`make(seeds, domains, **spec)`: a specification of one model."""

    def made(seeds: Any = None, domains: Any = ("north",), **options: Any) -> BenchmarkSpec:
        seeds = seeds or {0: (0,)}
        model = model_folder(folds=sorted({fold for folds in seeds.values() for fold in folds}))
        parts = [make_domain(tmp_path / name) if isinstance(name, str) else name for name in domains]
        return make_spec(tmp_path / "out", [{"name": "TEDM", "folder": model, "seeds": seeds}], parts, **options)

    return made


def with_models(spec: BenchmarkSpec, *models: dict) -> BenchmarkSpec:
    return BenchmarkSpec.model_validate(spec.model_dump() | {"models": models})


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def notes_of(spec: BenchmarkSpec) -> list[str]:
    """What a run says about what it does anew."""
    told: list[Progress] = []
    run_benchmark(spec, told.append)
    return [progress.note for progress in told if progress.note]


# ---- what is written


def test_the_tables_hold_every_seed_domain_case_timestep_and_metric(make: Callable, tmp_path: Path) -> None:
    spec = make({0: (0,), 7: (1,)}, ("north", "south"), metrics=("Dice", "recall", "Brier"))
    found = read_results(run_benchmark(spec).folder)
    assert found.spec == spec
    assert tuple(found.results.columns) == RESULT_COLUMNS
    assert tuple(found.calibration.columns) == CALIBRATION_COLUMNS
    own = found.results[found.results["timestep"].isna()]
    keys = {(seed, domain, case) for seed in (0, 7) for domain in ("north", "south") for case in ("case_0", "case_1")}
    for metric in spec.metrics:
        rows = own[own["metric"] == metric]
        assert set(zip(rows["seed"], rows["domain"], rows["case"], strict=True)) == keys and len(rows) == len(keys)
    single = found.results[found.results["timestep"].notna()]
    assert len(single) == 3 * len(keys) and set(single["timestep"]) == {1, 50, 400}
    assert (found.results["patient"] == found.results["case"]).all() and found.results["labelled_cases"].isna().all()
    assert set(zip(found.calibration["seed"], found.calibration["domain"], strict=True)) == {
        (seed, domain) for seed, domain, _ in keys
    }
    pixels = 2 * 2 * 16 * 17  # of two cases
    assert (found.calibration.groupby(["seed", "domain"])["pixels"].sum() == pixels).all()
    assert found.problems.empty


def test_dice_is_that_of_nnunets_prediction_and_evaluation(make: Callable, tmp_path: Path) -> None:
    spec = make({3: (0, 1)})
    output = run_benchmark(spec)
    domain = spec.domains[0]
    options = {"use_mirroring": False, "tile_step_size": 1.0}
    expected = stock(domain.images, tmp_path / "stock", spec.models[0].folder, folds=(0, 1), **options) / "False"
    summary = tmp_path / "summary.json"
    compute_metrics_on_folder(
        str(domain.references), str(expected), str(summary), SimpleITKIO(), ".nii.gz", [1], None, 1
    )
    nnunets = json.loads(summary.read_text())
    ours = json.loads((output.prediction(spec.models[0], 3, "north") / "summary.json").read_text())
    assert ours["foreground_mean"] == nnunets["foreground_mean"]
    results = read_results(output.folder).results
    own = results[results["timestep"].isna()].set_index("case")["value"].to_dict()
    dice = [case["metrics"]["1"]["Dice"] for case in nnunets["metric_per_case"]]
    assert own == pytest.approx({"case_0": dice[0], "case_1": dice[1]})


def test_labelled_cases_and_patients_are_told(make: Callable, tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("case,patient\ncase_0,NA\ncase_1,NA\n")
    domain = make_domain(tmp_path / "north") | {"patients": tmp_path / "patients.csv"}
    spec = make(domains=[domain])
    spec = with_models(spec, spec.models[0].model_dump() | {"labelled_cases": 6})
    results = read_results(run_benchmark(spec).folder).results
    assert set(results["labelled_cases"]) == {6} and set(results["patient"]) == {"NA"}


def test_the_resolved_specification_runs_to_the_same_effect(
    make: Callable, counted: dict[str, list], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spec = make()
    write_spec(spec, tmp_path / "mine.yaml")
    assert main(["benchmark", str(tmp_path / "mine.yaml")]) == 0
    before = snapshot(tmp_path / "out")
    assert main(["benchmark", str(tmp_path / "out" / "spec.yaml")]) == 0
    assert snapshot(tmp_path / "out") == before
    assert counted["cases"] == ["case_0", "case_1"]
    assert "Next: nnunet-diffusion report" in capsys.readouterr().out


def test_a_dry_run_says_what_there_is_to_do_and_predicts_nothing(
    make: Callable, counted: dict[str, list], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    spec = make({0: (0,), 1: (0,)})
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


def test_a_second_run_does_nothing(make: Callable, counted: dict[str, list], tmp_path: Path) -> None:
    spec = make(domains=("north", "south"))
    run_benchmark(spec)
    assert counted["models"] == [("model", (0,))]  # read once for both domains
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "runs").rglob("*") if file.is_file()}
    assert notes_of(spec) == []
    assert counted["models"] == [("model", (0,))] and len(counted["cases"]) == 4
    assert times == {file: file.stat().st_mtime_ns for file in times if file.name != ".lock"} | {
        file: time for file, time in times.items() if file.name == ".lock"
    }


@pytest.mark.parametrize("event", [1, 3, 4, 5])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    event: int, make: Callable, counted: dict[str, list], tmp_path: Path
) -> None:
    spec = make(metrics=("Dice", "ECE"))
    run_benchmark(spec)
    expected = snapshot(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    counted["cases"].clear()

    def interrupt(progress: Progress, told: list = []) -> None:  # noqa: B006
        told.append(progress)
        if len(told) == event:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_benchmark(spec, interrupt)
    assert snapshot(tmp_path / "out") != expected
    run_benchmark(spec)
    assert snapshot(tmp_path / "out") == expected
    assert counted["cases"] == ["case_0", "case_1"]  # none twice


def retrain(spec: BenchmarkSpec) -> None:
    file = spec.models[0].folder / "fold_0" / "checkpoint_final.pth"
    shutil.copyfile(spec.models[0].folder / "fold_1" / "checkpoint_final.pth", file)


def replace_image(spec: BenchmarkSpec) -> None:
    images = spec.domains[0].images
    shutil.copyfile(images / "case_0_0000.nii.gz", images / "case_1_0000.nii.gz")


def replace_reference(spec: BenchmarkSpec) -> None:
    references = spec.domains[0].references
    shutil.copyfile(references / "case_0.nii.gz", references / "case_1.nii.gz")


@pytest.mark.parametrize(
    ("change", "predicted", "note"),
    [
        (retrain, ["case_0", "case_1"], r"predicted anew, changed: model \(fold_0/checkpoint_final.pth\)"),
        (replace_image, ["case_1"], "predicted anew, images changed: case_1"),
        (replace_reference, [], None),
    ],
)
def test_what_changed_is_noticed_and_the_rest_kept(
    change: Callable, predicted: list[str], note: str | None, make: Callable, counted: dict[str, list], tmp_path: Path
) -> None:
    spec = make({0: (0,), 1: (1,)})
    spec = with_models(spec, spec.models[0].model_dump() | {"seeds": {0: (0,)}})
    run_benchmark(spec)
    before = read_results(tmp_path / "out").results
    change(spec)
    counted["cases"].clear()
    notes = notes_of(spec)
    assert counted["cases"] == predicted
    if note:
        assert [pytest.importorskip("re").search(note, text) is not None for text in notes] == [True]
    changed = snapshot(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    run_benchmark(spec)
    fresh = snapshot(tmp_path / "out")
    assert {name: changed[name] for name in fresh} == fresh
    assert not read_results(tmp_path / "out").results.equals(before)


def test_more_models_seeds_domains_and_metrics_may_follow(
    make: Callable, counted: dict[str, list], tmp_path: Path
) -> None:
    spec = make({0: (0,), 1: (1,)})
    model = spec.models[0].model_dump()
    run_benchmark(with_models(spec, model | {"seeds": {0: (0,)}}))
    counted["cases"].clear()
    more = {"domains": [*spec.model_dump()["domains"], make_domain(tmp_path / "south")], "metrics": ["Dice", "IoU"]}
    spec = BenchmarkSpec.model_validate(with_models(spec, model, model | {"labelled_cases": 3}).model_dump() | more)
    run_benchmark(spec)
    assert len(counted["cases"]) == 4 * 4 - 2  # two models of two seeds on two domains, two cases each, less the first
    assert read_spec(tmp_path / "out" / "spec.yaml") == spec
    assert set(read_results(tmp_path / "out").results["metric"]) == {"Dice", "IoU"}


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
    change: dict, message: str, make: Callable, tmp_path: Path
) -> None:
    spec = make()
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
    make: Callable, counted: dict[str, list], tmp_path: Path
) -> None:
    spec = make({0: (0,), 1: (5,)})
    spoil(spec)
    shutil.rmtree(spec.models[0].folder / "fold_5")
    with pytest.raises(ValueError, match=r"on_problem: skip.*2 problem\(s\)") as raised:
        run_benchmark(spec)
    assert "TEDM: seed 1: There is no " in str(raised.value)
    assert "north: case_1: case_1_0000.nii.gz has no reference" in str(raised.value)
    assert counted["models"] == [] and not (tmp_path / "out" / "runs").exists()


def test_skipped_problems_are_written_and_the_rest_is_tested(make: Callable, tmp_path: Path) -> None:
    spec = make({0: (0,), 1: (5,)}, on_problem="skip")
    spoil(spec)
    shutil.rmtree(spec.models[0].folder / "fold_5")
    found = read_results(run_benchmark(spec).folder)
    assert set(found.results["case"]) == {"case_0"} and set(found.results["seed"]) == {0}
    rows = found.problems.fillna("")
    assert list(zip(rows["model"], rows["domain"], rows["case"], rows["action"], strict=True)) == [
        ("TEDM", "", "", "left out"),
        ("", "north", "case_1", "left out"),
    ]


def test_only_twenty_problems_are_listed_but_all_are_counted(make: Callable, tmp_path: Path) -> None:
    domain = make_domain(tmp_path / "north", [f"case_{position:02d}" for position in range(23)])
    for file in domain["references"].iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"23 problem\(s\)") as raised:
        run_benchmark(make(domains=[domain]))
    assert "case_19_0000" in str(raised.value) and "case_20_0000" not in str(raised.value)
    assert "... and 3 more" in str(raised.value)


def test_nothing_left_to_test_is_an_error_even_if_problems_are_skipped(make: Callable, tmp_path: Path) -> None:
    spec = make(on_problem="skip")
    shutil.rmtree(spec.domains[0].references)
    with pytest.raises(ValueError, match="Nothing is left to test"):
        run_benchmark(spec)
    assert not (tmp_path / "out" / "results.csv").exists()


def test_a_prediction_that_fails_is_reported_or_ends_the_run(
    make: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make({0: (0,), 1: (1,)}, on_problem="skip")
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
    assert "line 1, column 9: models must be at least one; got an empty list" in printed
    assert "Traceback" not in printed


# ---- several processes


def test_a_model_at_work_elsewhere_is_waited_for_and_not_done_twice(
    make: Callable, counted: dict[str, list], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "WAIT_SECONDS", 0)
    spec = make({0: (0,), 1: (1,)})
    first = ResultFolder(tmp_path / "out").run(spec.models[0], 0, "north").parent
    first.mkdir(parents=True)
    other = FileLock(first / ".lock")
    other.acquire()
    seen: list[list] = []

    def report(progress: Progress) -> None:
        if progress.step == "waiting":
            seen.append(list(counted["models"]))
            other.release()

    run_benchmark(spec, report)
    assert seen == [[("model", (1,))]]  # the other model came first
    assert counted["models"] == [("model", (1,)), ("model", (0,))]


def test_tables_are_joined_row_by_row_as_pandas_would(make: Callable, tmp_path: Path) -> None:
    spec = make({0: (0,), 1: (1,)}, ("north", "south"))
    output = run_benchmark(spec)
    parts = [pd.read_csv(file) for file in sorted((tmp_path / "out" / "runs").glob("*/*/results.csv"))]
    pd.testing.assert_frame_equal(pd.read_csv(output.results_file), pd.concat(parts, ignore_index=True))
    with output.results_file.open(newline="") as stream:
        assert next(csv.reader(stream)) == list(RESULT_COLUMNS)
