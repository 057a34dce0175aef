"""`nnunet-diffusion benchmark` as a command: killed and continued, and twice at once."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from benchmark_inputs import make_domain, make_spec, snapshot
from nnunet_commands import Workplace
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.benchmark.pair import EVALUATED_FROM
from nnunet_diffusion_ensemble.benchmark.results import read_results
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.spec_file import write_spec
from nnunet_diffusion_ensemble.evaluation.metrics import METRICS
from nnunet_diffusion_ensemble.system.guard import alone_in

pytestmark = pytest.mark.slow
KINDS: dict[str, dict[str, Any]] = {
    "2d": {},
    "3d": {"patch_size": [8, 8, 8], "spacing": [2.0, 1.0, 1.0], "mirror_axes": (0, 1, 2)},
}
OF_PIXELS = tuple(name for name, metric in METRICS.items() if metric.kind != "instances")  # those have other rows
METRICS_OF = {"2d": ("Dice", "ECE"), "3d": OF_PIXELS}  # MONAI takes seconds to import, in each command


@pytest.fixture
def make_inputs(model_folder: Callable, architecture: Callable, tmp_path: Path) -> Callable[..., BenchmarkSpec]:
    """A model of ours with two folds and one of nnU-Net, on two domains of which one has a patient with two cases."""
    return lambda kind: _inputs(kind, model_folder, architecture(kind), tmp_path)


def _inputs(kind: str, model_folder: Callable, architecture: dict, tmp_path: Path) -> BenchmarkSpec:
    made = KINDS[kind] | {"architecture": architecture}
    models = [
        {"name": "TEDM", "folder": model_folder(folds=(0, 1), name="tedm", **made), "seeds": {0: (0, 1)}},
        {"name": "nnU-Net", "folder": model_folder(nnUNetTrainer, name="nnunet", **made), "seeds": {0: (0,)}},
    ]
    cases = ["case_0", "case_1", "case_2"]
    domains = [make_domain(tmp_path / "north", cases, "source"), make_domain(tmp_path / "south", cases)]
    patients = [f"{case},{'q' if case == cases[-1] else 'p'}\n" for case in cases]
    (tmp_path / "patients.csv").write_text("case,patient\n" + "".join(patients))
    domains[1]["patients"] = tmp_path / "patients.csv"
    return make_spec(tmp_path / "out", models, domains, metrics=METRICS_OF[kind], mirroring=True)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_killed_benchmark_goes_on_to_the_same_bytes(
    kind: str, make_inputs: Callable[..., BenchmarkSpec], tmp_path: Path
) -> None:
    spec, workplace = make_inputs(kind), Workplace(tmp_path / "work", "Dataset001_Made")
    write_spec(spec, tmp_path / "spec.yaml")
    command = ("nnunet-diffusion", "benchmark", tmp_path / "spec.yaml")
    assert "TEDM, seed 0, on north: 3 of 3 cases to predict" in workplace.run(*command, "--dry-run")
    printed = workplace.run(*command)
    assert "Evaluating nnU-Net, seed 0, on south (3 of 4 done): 3 case(s)" in printed
    expected = snapshot(spec.output)
    found = read_results(spec.output)
    assert len(found.results) == 2 * 2 * 3 * len(spec.metrics) + 2 * 3 * 3  # with Dice of three timesteps of TEDM
    assert set(found.results["patient"][found.results["domain"] == "south"]) == {"p", "q"}
    spec.output.rename(tmp_path / "first")
    scores = spec.output / "runs" / "TEDM_seed0" / "south" / "prediction" / "scores" / "case_1.json"
    workplace.kill_when(scores.is_file, *command)
    before = scores.stat().st_mtime_ns
    workplace.run(*command)
    assert snapshot(spec.output) == expected
    assert scores.stat().st_mtime_ns == before
    times = {file: file.stat().st_mtime_ns for file in (spec.output / "runs").rglob("[!.]*") if file.is_file()}
    assert "Predicting" not in workplace.run(*command)
    assert times == {file: file.stat().st_mtime_ns for file in times}


def test_two_processes_do_each_model_once_and_leave_out_what_another_one_has(
    make_inputs: Callable[..., BenchmarkSpec], tmp_path: Path
) -> None:
    spec = make_inputs("2d")
    write_spec(spec, tmp_path / "spec.yaml")
    command = ("nnunet-diffusion", "benchmark", tmp_path / "spec.yaml")
    workplaces = [Workplace(tmp_path / name, "Dataset001_Made") for name in ("one", "other")]
    runs = spec.output / "runs"
    with ThreadPoolExecutor(2) as pool:
        with alone_in(runs / "TEDM_seed0"):  # a third one is at work on the first model
            printed = [pool.submit(workplace.run, *command) for workplace in workplaces]
            wait_until(lambda: len([*runs.glob(f"nnU-Net_seed0/*/{EVALUATED_FROM}")]) == 2, printed)
            assert not any(process.done() for process in printed)
        lines = [line for process in printed for line in process.result().splitlines()]
    predicted = [line.split(" (")[0] for line in lines if line.startswith("Predicting")]
    titles = [f"{model}, seed 0, on {domain}" for model in ("TEDM", "nnU-Net") for domain in ("north", "south")]
    assert sorted(predicted) == [f"Predicting {title}" for title in titles]
    shared = snapshot(spec.output)
    spec.output.rename(tmp_path / "shared")
    workplaces[0].run(*command)
    assert snapshot(spec.output) == shared


def wait_until(is_reached: Callable[[], bool], processes: Sequence[Future]) -> None:
    """Returns at once if a process has ended before."""
    while not is_reached() and not any(process.done() for process in processes):
        time.sleep(0.05)
