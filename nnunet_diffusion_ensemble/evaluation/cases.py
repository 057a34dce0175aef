"""Evaluation of a folder of predictions, case after case: numbers leave the processes, images never do."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_diffusion_ensemble.evaluation.calibration import Probabilities, Reliability
from nnunet_diffusion_ensemble.evaluation.instances import find_candidates, instance_rows, match_instances
from nnunet_diffusion_ensemble.evaluation.labels import EvaluatedLabel, evaluated_labels, ignore_label
from nnunet_diffusion_ensemble.evaluation.metrics import METRICS, overlap
from nnunet_diffusion_ensemble.evaluation.overlap import Counts, count_pixels
from nnunet_diffusion_ensemble.evaluation.settings import EvaluationSettings
from nnunet_diffusion_ensemble.evaluation.surface import compare_surfaces
from nnunet_diffusion_ensemble.evaluation.volumes import Volumes
from nnunet_diffusion_ensemble.images.geometry import difference
from nnunet_diffusion_ensemble.images.maps import read_map
from nnunet_diffusion_ensemble.images.reading import ImageError, read_segmentation
from nnunet_diffusion_ensemble.prediction.folder import PROBABILITY, TIMESTEPS, PredictionFolder, folder_name
from nnunet_diffusion_ensemble.system.messages import in_one_line, raise_listing
from nnunet_diffusion_ensemble.system.workers import map_in_order

TIMESTEP_FOLDER = re.compile(r"t(\d{3,})")


@dataclass(frozen=True)
class Score:
    """One value: of the model's own prediction if `timestep` is None; NaN where the metric is undefined."""

    case: str
    timestep: int | None
    label: str
    metric: str
    value: float


@dataclass(frozen=True)
class EvaluatedCase:
    """All numbers of a case.

    Attributes:
        case: its name.
        reference_file: what it was compared with.
        prediction_file: the model's segmentation.
        scores: of the model's prediction label by label, then Dice of each timestep.
        counts: pixels by label or region, for nnU-Net's summary.json.
        volumes: by name of the label; none where every pixel is ignored.
        instances: rows of instances.csv by name of the label, of those that are declared as such.
        reliability: sums for calibration curves by name of the label; only with metrics of calibration.
    """

    case: str
    reference_file: Path
    prediction_file: Path
    scores: tuple[Score, ...]
    counts: Mapping[int | tuple[int, ...], Counts]
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    volumes: Mapping[str, Volumes] = field(default_factory=dict)
    instances: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class FailedCase:
    """A case that cannot be evaluated, and why."""

    case: str
    problem: str


def evaluate_folder(
    prediction: Path,
    cases: Mapping[str, Path],
    dataset_json: Mapping[str, Any],
    reader_writer: BaseReaderWriter,
    settings: EvaluationSettings,
    on_problem: Literal["refuse", "skip"] = "refuse",
) -> Iterator[EvaluatedCase | FailedCase]:
    """Evaluates what `nnunet-diffusion predict` wrote.

    Args:
        prediction: its folder.
        cases: names of the cases to evaluate and the files of their references.
        dataset_json: of the model, for labels, regions, ignore label and the ending of files.
        reader_writer: nnU-Net's, of the plans.
        settings: what is measured.
        on_problem: what to do about a case that cannot be evaluated: raise its error, or `skip` and return it.

    Returns:
        the cases in their order, whatever the number of processes. Little is kept of them meanwhile.

    Raises:
        ValueError: files are missing, cannot be read or do not go together; they are named.
        NotImplementedError: calibration, for a reader that turns images into another orientation.
    """
    if not cases:
        raise ValueError(f"There are no cases to evaluate in {prediction}.")
    ending, wants_calibration = dataset_json["file_ending"], bool(settings.of_kind("calibration"))
    evaluator = _Evaluator(
        prediction,
        evaluated_labels(dataset_json),
        ignore_label(dataset_json),
        ending,
        PredictionFolder(prediction, ending, reader_writer).map_ending if wants_calibration else "",
        _timesteps(prediction) if settings.timesteps else (),
        reader_writer,
        settings,
    )
    files = [*cases.values(), *(file for case in cases for file in evaluator.files(case))]
    missing = [str(file) for file in files if not file.is_file()]
    if on_problem == "refuse":
        raise_listing(f"These files are missing for the evaluation of {prediction}:", missing)
    evaluate = evaluator if on_problem == "refuse" else partial(_evaluated_or_failed, evaluator)
    return map_in_order(evaluate, cases.items(), min(settings.num_processes, len(cases)), [__name__])


def _evaluated_or_failed(evaluator: "_Evaluator", item: tuple[str, Path]) -> EvaluatedCase | FailedCase:
    try:
        return evaluator(item)
    except ValueError as error:
        return FailedCase(item[0], in_one_line(error))


@dataclass(frozen=True)
class _Evaluator:
    """Evaluates one case; all that the processes need to know."""

    prediction: Path
    labels: tuple[EvaluatedLabel, ...]
    ignore: int | None
    file_ending: str
    map_ending: str
    timesteps: tuple[int, ...]
    reader_writer: BaseReaderWriter
    settings: EvaluationSettings

    def files(self, case: str) -> list[Path]:
        """All that is read of the prediction of a case."""
        probabilities = [self._probability_file(case, label) for label in self.labels if self._needs("calibration")]
        return [self._segmentation_file(case), *probabilities, *(self._timestep_file(case, t) for t in self.timesteps)]

    def __call__(self, item: tuple[str, Path]) -> EvaluatedCase:
        case, reference_file = item
        reference, properties = self._read(reference_file)
        spacing = self._spacing(properties, reference.ndim)
        ignored = None if self.ignore is None else reference == self.ignore
        segmentation, predicted_properties = self._read(self._segmentation_file(case), like=reference)
        in_mm = self._needs("surface") and self.settings.unit == "mm"
        if differs := difference(predicted_properties, properties, with_lengths=in_mm):
            raise ValueError(
                f"{self._segmentation_file(case)} has {differs.format(other=f'its reference {reference_file}')}. "
                "Their voxels do not lie in one place; correct the one that is wrong."
            )
        scores, counts, sums, volumes, instances = [], {}, {}, {}, {}
        for label in self.labels:
            mask, predicted = label.mask(reference), label.mask(segmentation)
            counts[label.value] = count_pixels(mask, predicted, ignored)
            if counts[label.value].total:
                volumes[label.name] = Volumes.of(counts[label.value], spacing)
            values = {name: overlap(name, counts[label.value]) for name in self.settings.of_kind("overlap")}
            if self._needs("surface"):
                values |= self._surface(mask, predicted, ignored, spacing)
            probability = self._probability(case, label, mask) if self._needs("calibration") else None
            if probability is not None:
                with _readable(self._probability_file(case, label)):
                    of_label, sums[label.name] = self._calibration(probability, mask, ignored)
                values |= of_label
            if label.name in self.settings.instances:
                of_label, instances[label.name] = self._instances(mask, predicted, probability, ignored, spacing)
                values |= of_label
            names = [name for name in self.settings.metrics if name in values]
            scores += [Score(case, None, label.name, name, values[name]) for name in names]
        for timestep in self.timesteps:
            scores += self._timestep(case, timestep, reference, ignored)
        return EvaluatedCase(
            case, reference_file, self._segmentation_file(case), tuple(scores), counts, sums, volumes, instances
        )

    def _needs(self, kind: str) -> bool:
        return bool(self.settings.of_kind(kind))

    def _surface(
        self, reference: np.ndarray, prediction: np.ndarray, ignored: np.ndarray | None, spacing: Sequence[float]
    ) -> dict[str, float]:
        if ignored is not None:  # belongs to neither mask, as in MONAI
            if ignored.all():
                return dict.fromkeys(self.settings.of_kind("surface"), math.nan)
            reference, prediction = reference & ~ignored, prediction & ~ignored
        surfaces = compare_surfaces(reference, prediction, spacing, self.settings.nsd_tolerance)
        return {name: METRICS[name].compute(surfaces) for name in self.settings.of_kind("surface")}

    def _probability(self, case: str, label: EvaluatedLabel, reference: np.ndarray) -> np.ndarray:
        """The map of a label, of the reference's shape."""
        file = self._probability_file(case, label)
        with _readable(file):
            probability = _without_single_slice(read_map(file, type(self.reader_writer).__name__))
            _check_shape(probability, reference)
        return probability

    def _calibration(
        self, probability: np.ndarray, reference: np.ndarray, ignored: np.ndarray | None
    ) -> tuple[dict[str, float], Reliability]:
        if ignored is not None:
            probability, reference = probability[~ignored], reference[~ignored]
        found = Probabilities.of(probability, reference)
        values = {name: METRICS[name].compute(found) for name in self.settings.of_kind("calibration")}
        return values, found.reliability

    def _instances(
        self,
        reference: np.ndarray,
        prediction: np.ndarray,
        probability: np.ndarray | None,
        ignored: np.ndarray | None,
        spacing: Sequence[float],
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        names = self.settings.of_kind("instances")
        if ignored is not None:
            if ignored.all():
                return dict.fromkeys(names, math.nan), []
            reference, prediction = reference & ~ignored, prediction & ~ignored
        found, candidates = match_instances(reference, prediction, self.settings.match_iou), None
        if probability is not None:
            candidates = find_candidates(reference, probability if ignored is None else probability * ~ignored)
        rows = list(instance_rows(found, candidates, math.prod(spacing), len(spacing)))
        return {name: METRICS[name].compute(found) for name in names}, rows

    def _timestep(self, case: str, timestep: int, reference: np.ndarray, ignored: np.ndarray | None) -> Iterator[Score]:
        segmentation, _ = self._read(self._timestep_file(case, timestep), like=reference)
        for label in self.labels:
            mask, predicted = label.mask(reference), label.mask(segmentation)
            yield Score(case, timestep, label.name, "Dice", overlap("Dice", count_pixels(mask, predicted, ignored)))

    def _read(self, file: Path, like: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """A label map (rows, columns) or (slices, rows, columns), and its properties."""
        with _readable(file):
            labels, properties = read_segmentation(self.reader_writer, file)
            labels = _without_single_slice(labels)
            if like is not None:
                _check_shape(labels, like)
        return labels, properties

    def _spacing(self, properties: Mapping[str, Any], num_axes: int) -> tuple[float, ...]:
        """Of the axes of a label map, in the unit."""
        spacing = properties["spacing"][-num_axes:] if self.settings.unit == "mm" else [1] * num_axes
        return tuple(map(float, spacing))

    def _segmentation_file(self, case: str) -> Path:
        return self.prediction / f"{case}{self.file_ending}"

    def _timestep_file(self, case: str, timestep: int) -> Path:
        return self.prediction / TIMESTEPS / f"t{timestep:03d}" / f"{case}{self.file_ending}"

    def _probability_file(self, case: str, label: EvaluatedLabel) -> Path:
        return self.prediction / PROBABILITY / folder_name(label.channel, label.name) / f"{case}{self.map_ending}"


def _timesteps(prediction: Path) -> tuple[int, ...]:
    """Those with a folder of segmentations."""
    folders = (prediction / TIMESTEPS).glob("t*")
    return tuple(sorted(int(found[1]) for folder in folders if (found := TIMESTEP_FOLDER.fullmatch(folder.name))))


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Names the file if it cannot be used; the libraries that read them raise errors of any kind."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        raise ValueError(f"{file} cannot be evaluated ({in_one_line(error)}).") from error


def _without_single_slice(image: np.ndarray) -> np.ndarray:
    """A picture is read as a volume of one slice, whose every pixel would lie at the surface."""
    return image[0] if image.ndim == 3 and len(image) == 1 else image


def _check_shape(image: np.ndarray, reference: np.ndarray) -> None:
    if image.shape != reference.shape:
        raise ValueError(f"shape {image.shape}, its reference has {reference.shape}")
