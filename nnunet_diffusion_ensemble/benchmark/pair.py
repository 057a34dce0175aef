"""One trained model on one domain: predicted, evaluated, and both again when what they depend on has changed."""

import csv
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.benchmark.domains import Domain
from nnunet_diffusion_ensemble.benchmark.models import Run
from nnunet_diffusion_ensemble.benchmark.results import (
    CALIBRATION,
    CALIBRATION_COLUMNS,
    INSTANCE_COLUMNS,
    INSTANCES,
    PREDICTED_DICE,
    PREDICTED_DICE_COLUMNS,
    RESULT_COLUMNS,
    RESULTS,
    VOLUME_COLUMNS,
    VOLUMES,
    ResultFolder,
)
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.evaluation.calibration import Reliability
from nnunet_diffusion_ensemble.evaluation.cases import EvaluatedCase, FailedCase, evaluate_folder
from nnunet_diffusion_ensemble.evaluation.overlap import mean_dice
from nnunet_diffusion_ensemble.evaluation.settings import EvaluationSettings
from nnunet_diffusion_ensemble.evaluation.summary import write_summary
from nnunet_diffusion_ensemble.prediction.folder import PredictionFolder
from nnunet_diffusion_ensemble.prediction.model import ModelOnDemand
from nnunet_diffusion_ensemble.prediction.origin import IMAGES, PREDICTED_FROM, Origin, described
from nnunet_diffusion_ensemble.prediction.predict import LeftOut, predict_cases, prediction_settings
from nnunet_diffusion_ensemble.system.atomic import whole_file
from nnunet_diffusion_ensemble.system.known_checksums import KnownChecksums
from nnunet_diffusion_ensemble.system.records import as_written, checksums, of_each, read_record, write_record

EVALUATED_FROM, FAILED, TABLES = "evaluated_from.json", "failed_cases.json", "tables"
SUMMARY = "summary.json"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """A trained model and a domain, and what is to be found out about them."""

    spec: BenchmarkSpec
    run: Run
    domain: Domain
    checksums: KnownChecksums

    @property
    def title(self) -> str:
        return f"{self.run.title}, on {self.domain.spec.name}"

    @property
    def folder(self) -> Path:
        return ResultFolder(self.spec.output).run(self.run.model, self.run.seed, self.domain.spec.name)

    @property
    def prediction(self) -> Path:
        return ResultFolder(self.spec.output).prediction(self.run.model, self.run.seed, self.domain.spec.name)

    @property
    def is_finished(self) -> bool:
        """Whether its tables are there, made from what is there now, with all cases."""
        return self.has_tables and not self.failed

    @property
    def has_tables(self) -> bool:
        """Whether its tables are there as they were written, made from what is there now; cases may have failed."""
        record = read_record(self.folder / EVALUATED_FROM)
        if record is None or not all(map(Path.is_file, self._tables)):
            return False
        return record == {**self.evaluated_from, TABLES: checksums(self._tables)}

    @property
    def _tables(self) -> tuple[Path, ...]:
        names = (RESULTS, CALIBRATION, VOLUMES, INSTANCES, PREDICTED_DICE)
        return *(self.folder / name for name in names), self.prediction / SUMMARY

    @property
    def failed(self) -> dict[str, str]:
        """Cases that could not be predicted or evaluated when that was last tried, and why."""
        return read_record(self.folder / FAILED) or {}

    @cached_property
    def predicted_from(self) -> dict[str, Any]:
        """What the predictions depend on."""
        folder = self.run.model.folder
        settings = prediction_settings(folder, self.run.settings, use=self.run.use)
        images = {name: self._checksums(case.images) for name, case in self.domain.cases.items()}
        return described(self._checksums(self.run.files, folder), settings, images)

    def _checksums(self, files: Iterable[Path], base: Path | None = None) -> dict[str, str]:
        return of_each(self.checksums.of, files, base)

    @cached_property
    def evaluated_from(self) -> dict[str, Any]:
        """What the tables depend on."""
        cases = {name: [self._checksums(case.files), case.patient] for name, case in self.domain.cases.items()}
        prediction = {name: part for name, part in self.predicted_from.items() if name != IMAGES}
        values = self.spec.model_dump(
            include={"metrics", "unit", "nsd_tolerance", "timesteps", "instances", "match_iou"}
        )
        return as_written({**prediction, **values, "named": self._row, "cases": cases})

    @property
    def _row(self) -> dict[str, Any]:
        """What all rows of its tables begin with."""
        model = self.run.model
        labelled = "" if model.labelled_cases is None else model.labelled_cases
        return {
            "model": model.name,
            "labelled_cases": labelled,
            "seed": self.run.seed,
            "domain": self.domain.spec.name,
        }

    @property
    def _origin(self) -> Origin:
        return Origin(self.folder / PREDICTED_FROM, self.predicted_from)

    @property
    def has_predictions(self) -> bool:
        """Whether a prediction of each case is there, from whatever it was made."""
        return all(map(self._target.has, self.domain.cases))

    def num_predicted(self) -> int:
        """How many cases need not be predicted again."""
        origin = self._origin
        return sum(origin.is_unchanged(name) and self._target.has(name) for name in self.domain.cases)

    def forget_what_changed(self) -> str:
        """Removes predictions that were made from something else, and tells why; nothing if there are none."""
        origin, why = self._origin, ""
        if origin.difference:
            origin.file.unlink(missing_ok=True)  # first: what is left if this is interrupted must not count
            if self.prediction.exists():
                why = f"predicted anew, {origin.difference}"
                shutil.rmtree(self.prediction)
        changed = [] if origin.difference else origin.changed_images
        self._target.forget(changed)
        origin.write()
        return why or (f"predicted anew, images changed: {', '.join(changed)}" if changed else "")

    @property
    def _target(self) -> PredictionFolder:
        return PredictionFolder(self.prediction, self.run.dataset_json["file_ending"], self.run.reader_writer())

    def predict(self, model: ModelOnDemand) -> Iterator[str]:
        """Predicts the cases that are missing; yields their names, and of others as well.

        Cases that fail are noted in `failed`, if the specification says `skip`.
        """
        cases = {name: case.images for name, case in self.domain.cases.items()}
        how, failed = self.predicted_from["settings"], dict[str, str]()
        (self.folder / FAILED).unlink(missing_ok=True)
        use, on_problem = self.run.use, self.spec.on_problem
        with_error = use is not None and use.needs_denoising_error  # it takes long, and nothing else needs it
        for case in predict_cases(model, cases, self.prediction, how, with_error, on_problem, use=use):
            if isinstance(case, LeftOut):
                failed[case.name] = case.problem
            yield case.name if isinstance(case, LeftOut) else case.scores.case
        self._note_failed(failed)

    def _note_failed(self, failed: Mapping[str, str]) -> None:
        if failed:
            write_record(self.folder / FAILED, failed)

    def evaluate(self) -> Iterator[str]:
        """Evaluates all cases but the failed ones and writes the tables; yields the cases' names.

        Raises:
            ValueError: all have failed.
        """
        (self.folder / EVALUATED_FROM).unlink(missing_ok=True)
        failed = self.failed
        references = {name: case.reference for name, case in self.domain.cases.items() if name not in failed}
        if not references:
            raise ValueError(f"none of {len(failed)} case(s) could be predicted: {next(iter(failed.values()))}")
        settings = EvaluationSettings(**{name: getattr(self.spec, name) for name in EvaluationSettings.model_fields})
        dataset_json, reader_writer = self.run.dataset_json, self.run.reader_writer()
        evaluated: list[EvaluatedCase] = []
        sums: dict[str, Reliability] = {}
        with _table(self.folder / RESULTS, RESULT_COLUMNS) as write:
            for case in evaluate_folder(
                self.prediction, references, dataset_json, reader_writer, settings, self.spec.on_problem
            ):
                if isinstance(case, FailedCase):
                    failed[case.case] = case.problem
                    yield case.case
                    continue
                write(self._scores(case))
                for label, part in case.reliability.items():
                    sums[label] = sums.get(label, Reliability()) + part
                evaluated.append(case)
                yield case.case
        with _table(self.folder / CALIBRATION, CALIBRATION_COLUMNS) as write:
            write({**self._row, "label": label, **row} for label, part in sums.items() for row in part.rows())
        with _table(self.folder / VOLUMES, VOLUME_COLUMNS) as write:
            write(
                {**self._row, "case": case.case, "label": label, **volumes.row}
                for case in evaluated
                for label, volumes in case.volumes.items()
            )
        with _table(self.folder / INSTANCES, INSTANCE_COLUMNS) as write:
            write(
                {**self._row, "case": case.case, "label": label, **row}
                for case in evaluated
                for label, rows in case.instances.items()
                for row in rows
            )
        with _table(self.folder / PREDICTED_DICE, PREDICTED_DICE_COLUMNS) as write:
            write(self._predicted_dice(evaluated))
        if not evaluated:
            raise ValueError(f"none of {len(failed)} case(s) could be evaluated: {next(iter(failed.values()))}")
        self._note_failed(failed)
        write_summary(self.prediction / SUMMARY, evaluated)
        write_record(self.folder / EVALUATED_FROM, {**self.evaluated_from, TABLES: checksums(self._tables)})

    def _scores(self, case: EvaluatedCase) -> Iterator[Row]:
        start = {**self._row, "case": case.case, "patient": self.domain.cases[case.case].patient}
        for score in case.scores:
            value = "" if score.value != score.value else score.value  # NaN
            timestep = "" if score.timestep is None else score.timestep
            yield {**start, "timestep": timestep, "label": score.label, "metric": score.metric, "value": value}

    def _predicted_dice(self, cases: Sequence[EvaluatedCase]) -> Iterator[Row]:
        """Of each case its Dice and what the calibration led to expect; none without a calibration of Dice."""
        fitted = None if self.run.use is None else self.run.use.calibration.dice
        if fitted is None:
            return
        for case in cases:
            scores, dice = self._target.read_scores(case.case), mean_dice(case.counts.values())
            if math.isnan(dice):
                continue
            found = {"predicted_dice": scores.predicted_dice, "lower": scores.lower, "upper": scores.upper}
            aims = {"dice": dice, "coverage": fitted.coverage, "promised": fitted.promised}
            yield {**self._row, "case": case.case, "patient": self.domain.cases[case.case].patient, **found, **aims}


@contextmanager
def _table(file: Path, columns: Iterable[str]) -> Iterator[Callable[[Iterable[Row]], None]]:
    """A CSV file that is there when the block ends, and what writes rows to it."""
    with whole_file(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer, names = csv.writer(stream, lineterminator="\n"), list(columns)
        writer.writerow(names)
        yield lambda rows: writer.writerows(map(itemgetter(*names), rows))
