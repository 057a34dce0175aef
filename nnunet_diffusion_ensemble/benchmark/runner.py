"""Runs a benchmark: prediction and evaluation of each trained model on each domain, and the tables of all."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from nnunet_diffusion_ensemble.benchmark.checks import Checked, check_benchmark
from nnunet_diffusion_ensemble.benchmark.metadata import members_table
from nnunet_diffusion_ensemble.benchmark.models import where
from nnunet_diffusion_ensemble.benchmark.pair import Pair
from nnunet_diffusion_ensemble.benchmark.problems import Problem, refuse, write_problems
from nnunet_diffusion_ensemble.benchmark.progress import BenchmarkProgress, Report, silent
from nnunet_diffusion_ensemble.benchmark.record import RECORD, BenchmarkRecord, changed_files, in_words
from nnunet_diffusion_ensemble.benchmark.recording import make_record
from nnunet_diffusion_ensemble.benchmark.results import (
    CALIBRATION,
    INSTANCES,
    PREDICTED_DICE,
    RESULTS,
    VOLUMES,
    ResultFolder,
)
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.spec_file import write_spec
from nnunet_diffusion_ensemble.benchmark.work import EVALUATING, PREDICTING, note_work
from nnunet_diffusion_ensemble.prediction.model import ModelOnDemand, read_model
from nnunet_diffusion_ensemble.system.atomic import whole_file
from nnunet_diffusion_ensemble.system.guard import alone_in, if_free
from nnunet_diffusion_ensemble.system.messages import in_one_line

WAIT_SECONDS = 2.0


def run_benchmark(spec: BenchmarkSpec, report: Report = silent) -> ResultFolder:
    """Predicts and evaluates what is not there yet, and writes the tables (`results.py` says which).

    Killed at any time, it goes on where it was. Several processes that run the same specification share the work.

    Args:
        spec: what to test.
        report: is told of each case that is done, and of what is computed anew.

    Returns:
        Where the results lie.

    Raises:
        ValueError: models or cases cannot be tested, all of them listed, if the specification says `refuse`; or the
            output folder holds the results of another specification.
        OSError: a file cannot be read or written.
        RuntimeError: a prediction fails, if the specification says `refuse`; or nothing can be tested.
    """
    output = ResultFolder(spec.output)
    with alone_in(output.folder, wait=True):
        checked = check_benchmark(spec, report)
        if not output.spec_file.is_file():
            write_spec(spec, output.spec_file)
    for note in _changes(spec, checked):
        report(BenchmarkProgress("checking", "files", note=note))
    work = _Work(spec, report, checked.pairs(spec))
    work.finish_all()
    pairs = [pair for group in work.groups for pair in group if pair.has_tables]
    problems = checked.problems + work.failures + [problem for pair in pairs for problem in _failed_cases(pair)]
    if not pairs:
        refuse(problems, "Nothing could be tested")
    with alone_in(output.folder, wait=True):
        _join(output.results_file, [pair.folder / RESULTS for pair in pairs])
        _join(output.calibration_file, [pair.folder / CALIBRATION for pair in pairs])
        _join(output.volumes_file, [pair.folder / VOLUMES for pair in pairs])
        _join(output.instances_file, [pair.folder / INSTANCES for pair in pairs])
        if spec.subgroups:
            with whole_file(output.subgroups_file) as temporary:
                members_table(checked.members).to_csv(temporary, index=False)
        _join(output.predicted_dice_file, [pair.folder / PREDICTED_DICE for pair in pairs])
        write_problems(output.problems_file, problems)
        write_spec(spec, output.spec_file)
        make_record(spec, checked, pairs).write(output.folder)
    return output


def verify_files(spec: BenchmarkSpec, report: Report = silent) -> list[str]:
    """Reads all files of models and domains and compares them with the record of the results.

    Returns:
        What is another file, is gone or is new, in words. The next run makes anew what depends on it.

    Raises:
        FileNotFoundError: there is no record.
        ValueError: as `run_benchmark`, or the record is damaged.
    """
    with alone_in(spec.output, wait=True):
        before, file = BenchmarkRecord.read(spec.output), spec.output / RECORD
        if before is None:
            raise FileNotFoundError(f"There is no {file} to compare with; `nnunet-diffusion benchmark` writes it.")
        return changed_files(before, make_record(spec, check_benchmark(spec, report, read_again=True)))


def _changes(spec: BenchmarkSpec, checked: Checked) -> Iterator[str]:
    """A text about files that are others than those that the results in the folder were made from."""
    before = BenchmarkRecord.read(spec.output)
    if before is not None and (changes := changed_files(before, make_record(spec, checked))):
        yield in_words(changes)


def work_to_do(spec: BenchmarkSpec, report: Report = silent) -> Iterator[str]:
    """A line for each pair of a trained model and a domain, and for what would be left out. Nothing is predicted.

    Raises:
        ValueError: as `run_benchmark`.
    """
    with alone_in(spec.output, wait=True):
        checked = check_benchmark(spec, report)
    yield from _changes(spec, checked)
    for pair in (pair for group in checked.pairs(spec) for pair in group):
        total = len(pair.domain.cases)
        state = "finished" if pair.is_finished else f"{total - pair.num_predicted()} of {total} cases to predict"
        yield f"{pair.title}: {state}"
    for problem in checked.problems:
        yield f"{problem.action}: {problem}"


def _failed_cases(pair: Pair) -> Iterator[Problem]:
    """Each case of a pair that was left out of its tables."""
    for case, text in pair.failed.items():
        yield Problem(
            f"{where(pair.run.model, pair.run.seed)}: {text}", pair.run.model.name, pair.domain.spec.name, case
        )


@dataclass
class _Work:
    """The pairs of a benchmark, in one group for each trained model, and what went wrong."""

    spec: BenchmarkSpec
    report: Report
    groups: list[list[Pair]]
    failures: list[Problem] = field(default_factory=list)
    num_done: int = 0

    @property
    def num_pairs(self) -> int:
        return sum(map(len, self.groups))

    def finish_all(self) -> None:
        """Finishes each group here, or waits until another process has."""
        waiting = list(self.groups)
        while waiting:
            busy = []
            for group in waiting:
                with if_free(alone_in(group[0].folder.parent)) as is_free:
                    if is_free:
                        self._finish(group)
                    else:
                        busy.append(group)
            if len(busy) == len(waiting):
                self._tell("waiting", group[0].run.title, note=f"{len(busy)} model(s) are at work in other processes")
                time.sleep(WAIT_SECONDS)
            waiting = busy

    def _finish(self, group: Sequence[Pair]) -> None:
        """Tests a trained model on all domains; it is read once, if there is anything to predict."""
        run = group[0].run
        read = cache(partial(read_model, run.model.folder, run.settings))
        model = ModelOnDemand(run.plans, run.dataset_json, read)
        for pair in group:
            try:
                if not pair.is_finished:
                    note = pair.forget_what_changed()
                    self._tell(PREDICTING, pair.title, note=note and f"{pair.title}: {note}")
                    self._finish_pair(pair, model)
            except Exception as error:  # of memory, drivers and damaged files there is any kind
                self._fail(pair, error)
            self.num_done += 1

    def _finish_pair(self, pair: Pair, model: ModelOnDemand) -> None:
        total = len(pair.domain.cases)
        missing = total - pair.num_predicted()
        for step, cases, number in ((PREDICTING, pair.predict(model), missing), (EVALUATING, pair.evaluate(), total)):
            start = time.perf_counter()
            for done, _ in enumerate(cases, start=1):
                self._tell(step, pair.title, done, total)
            if number:
                note_work(pair.folder, step, number, time.perf_counter() - start)
        for problem in _failed_cases(pair):
            self._tell(EVALUATING, pair.title, total, total, note=f"{problem.action}: {problem}")

    def _fail(self, pair: Pair, error: Exception) -> None:
        if self.spec.on_problem == "refuse":
            raise RuntimeError(
                f"{pair.title}: {in_one_line(error)}\nSolve it and run the same command again, which goes on from "
                "here; or go on without it, with `on_problem: skip`."
            ) from error
        text = f"{where(pair.run.model, pair.run.seed)}: {in_one_line(error)}"
        problem = Problem(text, pair.run.model.name, pair.domain.spec.name)
        self.failures.append(problem)
        self._tell(PREDICTING, pair.title, note=f"{problem.action}: {problem}")

    def _tell(self, step: str, what: str, done: int = 0, total: int = 0, note: str = "") -> None:
        self.report(BenchmarkProgress(step, what, done, total, self.num_done, self.num_pairs, note))


def _join(file: Path, tables: Sequence[Path]) -> None:
    """One table from several with the same header, however long they are."""
    with whole_file(file) as temporary, temporary.open("wb") as joined:
        for position, table in enumerate(tables):
            with table.open("rb") as stream:
                header = stream.readline()
                if position == 0:
                    joined.write(header)
                shutil.copyfileobj(stream, joined)
