"""Evaluation of a folder of predictions, case after case: numbers leave the processes, images never do."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from nnunetv2.evaluation.evaluate_predictions import region_or_label_to_mask
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_diffusion_ensemble.benchmark.calibration import Reliability, brier, reliability
from nnunet_diffusion_ensemble.benchmark.labels import EvaluatedLabel, evaluated_labels, ignore_label
from nnunet_diffusion_ensemble.benchmark.metrics import METRICS
from nnunet_diffusion_ensemble.benchmark.ordered import map_in_order
from nnunet_diffusion_ensemble.benchmark.overlap import OVERLAP, Counts, count_pixels, overlap
from nnunet_diffusion_ensemble.benchmark.surface import surface_metrics
from nnunet_diffusion_ensemble.prediction_folder import PROBABILITY, TIMESTEPS, folder_name
from nnunet_diffusion_ensemble.unlabelled_cases import raise_listing

TIMESTEP_FOLDER = re.compile(r"t(\d{3,})")


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured; fields as in `BenchmarkSpec`."""

    metrics: tuple[str, ...] = tuple(METRICS)
    unit: Literal["mm", "px"] = "mm"
    nsd_tolerance: float = 2.0
    timesteps: bool = True
    num_processes: int = 2

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            raise ValueError(f"Unknown metrics {', '.join(unknown) or '(none)'}. There are {', '.join(METRICS)}.")
        if self.unit not in ("mm", "px"):
            raise ValueError(f"The unit is mm or px, got {self.unit}.")
        if self.num_processes < 1:
            raise ValueError(f"At least one process evaluates, got {self.num_processes}.")

    def of_kind(self, kind: str) -> list[str]:
        return [name for name in self.metrics if METRICS[name].kind == kind]


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
        reliability: sums for calibration curves by name of the label; empty unless a metric of calibration is asked for.
    """

    case: str
    reference_file: Path
    prediction_file: Path
    scores: tuple[Score, ...]
    counts: Mapping[int | tuple[int, ...], Counts]
    reliability: Mapping[str, Reliability] = field(default_factory=dict)


def evaluate_folder(
    prediction: Path,
    cases: Mapping[str, Path],
    dataset_json: Mapping[str, Any],
    reader_writer: BaseReaderWriter,
    settings: EvaluationSettings,
) -> Iterator[EvaluatedCase]:
    """Evaluates what `nnunet-diffusion predict` wrote.

    Args:
        prediction: its folder.
        cases: names of the cases to evaluate and the files of their references.
        dataset_json: of the model, for labels, regions, ignore label and the ending of files.
        reader_writer: nnU-Net's, of the plans.
        settings: what is measured.

    Returns:
        the cases in their order, whatever the number of processes. Little is kept of them meanwhile.

    Raises:
        FileNotFoundError: predictions are missing; they are listed.
        ValueError: a file cannot be read, or the files of a case do not go together; they are named.
    """
    if not cases:
        raise ValueError(f"There are no cases to evaluate in {prediction}.")
    raise NotImplementedError
