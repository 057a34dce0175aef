"""Everything about a benchmark that can be known before it predicts: its models, its cases, what lies in its folder."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.benchmark import domains as domains_module
from nnunet_diffusion_ensemble.benchmark.domains import Domain, Expected, Reading, check_domain
from nnunet_diffusion_ensemble.benchmark.metadata import Member, assign_groups
from nnunet_diffusion_ensemble.benchmark.models import Run, check_models, what_hinders
from nnunet_diffusion_ensemble.benchmark.pair import Pair
from nnunet_diffusion_ensemble.benchmark.problems import Problem, refuse
from nnunet_diffusion_ensemble.benchmark.progress import BenchmarkProgress, Report
from nnunet_diffusion_ensemble.benchmark.results import ResultFolder
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec, ModelSpec
from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec
from nnunet_diffusion_ensemble.evaluation import cases as evaluation
from nnunet_diffusion_ensemble.evaluation.labels import evaluated_labels
from nnunet_diffusion_ensemble.system.known_checksums import KnownChecksums
from nnunet_diffusion_ensemble.system.records import as_written, read_record, write_record

CHECKED, CASES, CHECKSUMS = "checked.json", "cases", "checksums"
FREE = ("metadata",)  # which no number in the results depends on
FIXED = ("unit", "nsd_tolerance", "instances", "match_iou", "mirroring", "tile_step_size", "timesteps")


@dataclass(frozen=True)
class Checked:
    """What can be tested.

    Attributes:
        runs: trained models.
        domains: with their cases.
        problems: what is left out.
        members: cases of subgroups.
        checksums: of all files that results depend on.
    """

    runs: list[Run]
    domains: list[Domain]
    problems: list[Problem]
    members: list[Member]
    checksums: KnownChecksums

    def pairs(self, spec: BenchmarkSpec) -> list[list[Pair]]:
        """For each trained model its pairs with all domains."""
        return [[Pair(spec, run, domain, self.checksums) for domain in self.domains] for run in self.runs]


@dataclass(frozen=True)
class _Seen:
    """What need not be read again in the next run.

    Attributes:
        file: that keeps it.
        cases: stamps of those that were right, by domain.
        checksums: of files.
    """

    file: Path
    cases: dict[str, Any]
    checksums: KnownChecksums

    @classmethod
    def read(cls, file: Path) -> "_Seen":
        record = read_record(file) or {}
        return cls(file, record.get(CASES, {}), KnownChecksums(record.get(CHECKSUMS, {})))

    def write(self) -> None:
        record = as_written({CASES: self.cases, CHECKSUMS: self.checksums.entries})
        if record != read_record(self.file):
            write_record(self.file, record)


def check_benchmark(spec: BenchmarkSpec, report: Report, read_again: bool = False) -> Checked:
    """Checks models and cases.

    Args:
        spec: what is to be tested.
        report: is told of each case and file that is read.
        read_again: all files for their checksums, also those whose size and time of change are as before.

    Raises:
        ValueError: there are problems, which are listed, and the specification says `refuse`, or nothing is left.
    """
    refuse_other_results(spec)
    runs, problems = check_models(spec)
    if runs:
        _refuse_unknown_instances(spec, runs[0])
    seen = _Seen.read(spec.output / CHECKED)
    domains = _check_domains(spec, runs[0], problems, report, seen.cases) if runs else []
    seen.write()
    runs = _readable(spec, runs, domains, seen.checksums, problems)
    members, more = assign_groups(spec, domains, runs[0].dataset_json["file_ending"]) if domains else ([], [])
    problems += more
    if spec.on_problem == "refuse":
        refuse(problems, "Solve these, or have them left out and counted with `on_problem: skip`")
    if not (runs and domains):
        refuse(problems, "Nothing is left to test")
    if read_again:
        seen.checksums.entries.clear()
    files = [file for run in runs for file in run.files] + [file for domain in domains for file in domain.files]
    tell = partial(_tell, report, "reading", "files for their checksums")
    seen.checksums.read(files, spec.num_processes, tell)
    seen.write()
    return Checked(runs, domains, problems, members, seen.checksums)


def _refuse_unknown_instances(spec: BenchmarkSpec, run: Run) -> None:
    there = [label.name for label in evaluated_labels(run.dataset_json)]
    unknown = [name for name in spec.instances if name not in there]
    if unknown:
        raise ValueError(f"instances: the models have no {', '.join(unknown)}; they have {', '.join(there)}.")


def _readable(
    spec: BenchmarkSpec, runs: list[Run], domains: list[Domain], known: KnownChecksums, problems: list[Problem]
) -> list[Run]:
    """Those that can predict, or need not since all predictions are there; adds to the problems."""
    found = []
    for run in runs:
        predicts = not all(Pair(spec, run, domain, known).has_predictions for domain in domains)
        if predicts and (problem := what_hinders(run)):
            problems.append(problem)
        else:
            found.append(run)
    return found


def _check_domains(
    spec: BenchmarkSpec, run: Run, problems: list[Problem], report: Report, record: dict[str, Any]
) -> list[Domain]:
    """Those that have cases; adds to the problems, and to the record of cases that were right."""
    reader = run.reader_writer()
    expected = Expected(run.dataset_json, reader, with_spacing=spec.unit == "mm")
    conditions = [type(reader).__name__, dict(run.dataset_json), expected.with_spacing]
    imported = [evaluation.__name__, domains_module.__name__]  # in one go with what evaluation will need
    found = []
    for domain in spec.domains:
        key = as_written({"": [conditions, str(domain.images), str(domain.references)]})[""]
        before = record.get(domain.key, {})
        known = before.get("cases", {}) if before.get("of") == key else {}
        done = partial(_tell, report, "checking", domain.name)
        checked, more = check_domain(domain, expected, Reading(spec.num_processes, imported, known, done))
        problems += more
        record[domain.key] = {"of": key, "cases": {name: case.stamps for name, case in checked.cases.items()}}
        found += [checked] if checked.cases else []
    return found


def _tell(report: Report, step: str, what: str, done: int, total: int) -> None:
    report(BenchmarkProgress(step, what, done, total))


def refuse_other_results(spec: BenchmarkSpec) -> None:
    """Raises ValueError if the output folder holds results to which this specification does not only add."""
    file = ResultFolder(spec.output).spec_file
    if not file.is_file():
        return
    differing = _differences(read_spec(file), spec)
    if differing:
        raise ValueError(
            f"{spec.output} holds the results of another specification: {'; '.join(differing)}. Models, seeds, domains "
            f"and metrics may be added, nothing else be changed. Name another output; or remove {file}, then what does "
            "not fit is computed anew."
        )


def _differences(before: BenchmarkSpec, now: BenchmarkSpec) -> list[str]:
    found = [
        f"{name} was {getattr(before, name)}, now {getattr(now, name)}"
        for name in FIXED
        if getattr(before, name) != getattr(now, name)
    ]
    gone = [name for name in before.metrics if name not in now.metrics]
    found += [f"{', '.join(gone)} no longer measured"] if gone else []
    for what, parts_before, parts in (("model", before.models, now.models), ("domain", before.domains, now.domains)):
        by_key: dict[str, Any] = {part.key: part for part in parts}
        for part in parts_before:
            found += [f"{what} {part.title} {text}" for text in _changes(part, by_key.get(part.key))]
    return found


def _changes(before: Any, now: Any | None) -> list[str]:
    """What was changed in a model or domain, apart from seeds that were added."""
    if now is None:
        return ["is gone"]
    old, new = before.model_dump(), now.model_dump()
    if isinstance(before, ModelSpec):
        new["seeds"] = {seed: folds for seed, folds in new["seeds"].items() if seed in old["seeds"]}
    return [f"had {name} {old[name]}, now {new[name]}" for name in old if name not in FREE and old[name] != new[name]]
