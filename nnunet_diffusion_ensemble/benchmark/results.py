"""The folder that a benchmark writes, and its tables.

OUTPUT/spec.yaml                          the resolved specification
OUTPUT/results.csv                        one row a model, seed, domain, case, timestep, label and metric
OUTPUT/calibration.csv                    reliability: one row a model, seed, domain, label and bin
OUTPUT/subgroups.csv                      one row a case and column of its metadata, if the specification has subgroups
OUTPUT/volumes.csv                        volumes: one row a model, seed, domain, case and label
OUTPUT/instances.csv                      one row a reference, false positive and candidate of `instances`
OUTPUT/predicted_dice.csv                 Dice and the one a calibration expects: one row a model, seed, domain and case
OUTPUT/problems.csv                       what could not be tested, and why
OUTPUT/benchmark.json                     versions, checksums, seeds, hardware and times
OUTPUT/join.txt                           the commands, if `nnunet-diffusion join` wrote the tables, without runs
OUTPUT/runs/RUN/DOMAIN/prediction/        what `nnunet-diffusion predict` writes, and nnU-Net's summary.json
OUTPUT/runs/RUN/DOMAIN/*.csv              the rows of one model and seed on one domain
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunet_diffusion_ensemble.benchmark.record import RECORD, BenchmarkRecord
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec, ModelSpec, as_name
from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec
from nnunet_diffusion_ensemble.system.messages import in_one_line
from nnunet_diffusion_ensemble.system.places import refuse_file
from nnunet_diffusion_ensemble.system.records import checksums

RESULTS, CALIBRATION, PROBLEMS, SPEC = "results.csv", "calibration.csv", "problems.csv", "spec.yaml"
SUBGROUPS, VOLUMES, INSTANCES = "subgroups.csv", "volumes.csv", "instances.csv"
PREDICTED_DICE = "predicted_dice.csv"
STUDY, JOIN = "few_label.txt", "join.txt"
RUN_COLUMNS = ("model", "labelled_cases", "seed", "domain")
# `timestep` is empty for the model's own prediction, `labelled_cases` where the specification has none, `value` where
# the metric is undefined. `patient` is the case where there is no table of patients.
RESULT_COLUMNS = (*RUN_COLUMNS, "case", "patient", "timestep", "label", "metric", "value")
# Of all pixels whose predicted probability of the label lies in a bin: how many, the sum of the probabilities, and how
# many have the label.
CALIBRATION_COLUMNS = (*RUN_COLUMNS, "label", "bin_lower", "bin_upper", "pixels", "probability_sum", "positives")
# Of reference and prediction, in mm2, mm3 or pixels: the unit to the power of `axes`.
VOLUME_COLUMNS = (*RUN_COLUMNS, "case", "label", "axes", "reference", "prediction")
# `iou` of a reference is 0 if it was missed, `probability` that of the best candidate in it, empty without maps.
INSTANCE_COLUMNS = (*RUN_COLUMNS, "case", "label", "kind", "axes", "size", "iou", "probability")
SUBGROUP_COLUMNS = ("column", "group", "domain", "case")
# Dice is the mean over labels; `predicted_dice`, `lower` and `upper` are empty where a case lacked a score. `coverage`
# is what the interval aims at, `promised` what is proved for cases like those of the calibration.
PREDICTED_DICE_COLUMNS = (
    *(*RUN_COLUMNS, "case", "patient", "dice", "predicted_dice", "lower", "upper"),
    *("coverage", "promised"),
)
PROBLEM_COLUMNS = ("model", "domain", "case", "problem", "action")  # model is empty if it concerns all of them
COLUMNS = {RESULTS: RESULT_COLUMNS, CALIBRATION: CALIBRATION_COLUMNS, PROBLEMS: PROBLEM_COLUMNS}
COLUMNS |= {SUBGROUPS: SUBGROUP_COLUMNS, VOLUMES: VOLUME_COLUMNS, INSTANCES: INSTANCE_COLUMNS}
COLUMNS |= {PREDICTED_DICE: PREDICTED_DICE_COLUMNS}
AGAIN = "`nnunet-diffusion benchmark` writes it again."
TYPES = {"model": "string", "labelled_cases": "Int64", "seed": "int64", "domain": "string", "case": "string"}
TYPES |= {"patient": "string", "timestep": "Int64", "label": "string", "metric": "string", "value": "float64"}


@dataclass(frozen=True)
class ResultFolder:
    """Where things lie in the output of a benchmark."""

    folder: Path

    @property
    def spec_file(self) -> Path:
        return self.folder / SPEC

    @property
    def results_file(self) -> Path:
        return self.folder / RESULTS

    @property
    def calibration_file(self) -> Path:
        return self.folder / CALIBRATION

    @property
    def volumes_file(self) -> Path:
        return self.folder / VOLUMES

    @property
    def instances_file(self) -> Path:
        return self.folder / INSTANCES

    @property
    def subgroups_file(self) -> Path:
        return self.folder / SUBGROUPS

    @property
    def predicted_dice_file(self) -> Path:
        return self.folder / PREDICTED_DICE

    @property
    def problems_file(self) -> Path:
        return self.folder / PROBLEMS

    @property
    def record_file(self) -> Path:
        return self.folder / RECORD

    @property
    def study_file(self) -> Path:
        """The command that trained the models, where `nnunet-diffusion few-label` did."""
        return self.folder / STUDY

    @property
    def join_file(self) -> Path:
        """The commands that made the tables of those of several benchmarks, where `nnunet-diffusion join` did."""
        return self.folder / JOIN

    @property
    def commands(self) -> tuple[str, ...]:
        """Those that made the results, in order."""
        if self.join_file.is_file():
            return tuple(self.join_file.read_text(encoding="utf-8").splitlines())
        trained_by = [self.study_file.read_text(encoding="utf-8").strip()] if self.study_file.is_file() else []
        return (*trained_by, shlex.join(["nnunet-diffusion", "benchmark", str(self.spec_file)]))

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def run(self, model: ModelSpec, seed: int, domain: str) -> Path:
        """The folder of one model and seed on one domain."""
        return self.runs / f"{model.key}_seed{seed}" / as_name(domain)

    def prediction(self, model: ModelSpec, seed: int, domain: str) -> Path:
        """What `nnunet-diffusion predict` wrote for them."""
        return self.run(model, seed, domain) / "prediction"


@dataclass(frozen=True)
class BenchmarkResults:
    """The tables of a finished benchmark, with the columns above; results of older versions have no record."""

    folder: ResultFolder
    spec: BenchmarkSpec
    results: pd.DataFrame
    calibration: pd.DataFrame
    problems: pd.DataFrame
    subgroups: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SUBGROUP_COLUMNS)))
    volumes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(VOLUME_COLUMNS)))
    instances: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(INSTANCE_COLUMNS)))
    predicted_dice: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(PREDICTED_DICE_COLUMNS)))
    record: BenchmarkRecord | None = None

    def tables_of_another_record(self) -> list[str]:
        """Names of tables that were changed since the record was written, by hand or by a run that did not finish."""
        if self.record is None:
            return []
        now = checksums(file for name in self.record.results if (file := self.folder.folder / name).is_file())
        return [name for name, checksum in self.record.results.items() if now.get(name) != checksum]


def read_table(file: Path) -> pd.DataFrame:
    """One of the tables, with its types.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is truncated, or no such table.
    """
    _check_table(file)
    types = {**TYPES, **dict.fromkeys(("problem", "action", "column", "group", "kind"), "string")}
    try:
        table = pd.read_csv(file, dtype=types, keep_default_na=False, na_values=[""])  # a hospital may be called NA
    except ValueError as error:  # pandas' and numpy's
        raise ValueError(f"{file} cannot be read as a table ({in_one_line(error)}). {AGAIN}") from error
    if missing := [column for column in COLUMNS[file.name] if column not in table]:
        raise ValueError(f"{file} lacks the column(s) {', '.join(missing)}. {AGAIN}")
    return table


def _check_table(file: Path) -> None:
    """That it is whole: all tables end with the end of a line."""
    refuse_file(file.parent)
    if not file.is_file():
        what = f"{file} is a folder, not a file." if file.is_dir() else f"There is no {file}."
        raise FileNotFoundError(f"{what} Name the output folder of a finished `nnunet-diffusion benchmark`.")
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        if size == 0:
            raise ValueError(f"{file} is empty. {AGAIN}")
        stream.seek(-1, 2)
        if stream.read(1) != b"\n":
            raise ValueError(f"{file} is truncated: its last line has no end. {AGAIN}")


def read_results(folder: Path) -> BenchmarkResults:
    """Reads what a benchmark wrote.

    Args:
        folder: its output; it may have been moved.

    Raises:
        FileNotFoundError: it is no such folder, or the benchmark is not finished.
        ValueError: a file in it is damaged.
    """
    place = ResultFolder(Path(folder))
    results = read_table(place.results_file)
    calibration, problems = read_table(place.calibration_file), read_table(place.problems_file)
    spec = read_spec(place.spec_file)
    for what, parts in (("model", spec.models), ("domain", spec.domains)):
        others = set(results[what].dropna()) - {part.name for part in parts}
        if others:
            raise ValueError(
                f"{place.results_file} has results of {', '.join(sorted(others))}, which {SPEC} does not name. {AGAIN}"
            )
    further: dict[str, pd.DataFrame] = {}
    if spec.subgroups:
        further["subgroups"] = read_table(place.subgroups_file)
    for name in ("volumes", "instances", "predicted_dice"):
        file = getattr(place, f"{name}_file")
        if file.is_file():  # results of older versions have none
            further[name] = read_table(file)
    record = BenchmarkRecord.read(place.folder)
    return BenchmarkResults(place, spec, results, calibration, problems, **further, record=record)
