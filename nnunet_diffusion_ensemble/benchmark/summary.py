"""nnU-Net's summary.json, from counts that are there already."""

from collections.abc import Sequence
from pathlib import Path

from nnunet_diffusion_ensemble.benchmark.evaluation import EvaluatedCase


def write_summary(file: Path, cases: Sequence[EvaluatedCase]) -> None:
    """Writes what `nnUNetv2_evaluate_folder` would write for these cases (Dice of two empty masks is NaN there)."""
    raise NotImplementedError
