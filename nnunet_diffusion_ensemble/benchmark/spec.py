"""The specification of a benchmark: which models, on which domains, in which metrics (docs/benchmark.md)."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from nnunet_diffusion_ensemble.benchmark.metrics import METRICS


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(_Part):
    """A result folder of nnU-Net and which of its folds to test.

    Attributes:
        name: what the report calls it. Models of one name with different `labelled_cases` are points of one curve.
        folder: `.../DATASET/TRAINER__PLANS__CONFIGURATION`.
        seeds: independent trainings. For each seed the folds whose predictions are averaged, usually one.
        labelled_cases: how many labelled cases each training had, where that is what is studied.
        checkpoint: file in the folder of each fold.
    """

    name: str = Field(min_length=1)
    folder: Path
    seeds: dict[int, tuple[int | Literal["all"], ...]] = Field(min_length=1)
    labelled_cases: int | None = Field(default=None, ge=1)
    checkpoint: str = "checkpoint_final.pth"


class DomainSpec(_Part):
    """Test cases of one origin: a hospital, a scanner.

    Attributes:
        name: what the report calls it.
        role: `source`, where the labelled cases come from, or `target`.
        images: folder, in nnU-Net's naming (`CASE_0000.png`).
        references: folder of the label maps (`CASE.png`), with the values of the models' dataset.json.
        patients: table (CSV) with columns `case` and `patient`, where a patient has several cases.
    """

    name: str = Field(min_length=1)
    role: Literal["source", "target"]
    images: Path
    references: Path
    patients: Path | None = None


class BenchmarkSpec(_Part):
    """Everything that a benchmark's result depends on, and the folder where it goes.

    Attributes:
        output: folder of the result.
        models: at least one.
        domains: at least one.
        metrics: names, see `METRICS`.
        unit: of lengths: `mm`, by the spacing of the images, or `px` where spacing has no meaning.
        nsd_tolerance: of the normalised surface Dice, in that unit.
        timesteps: also evaluate the prediction of each timestep, of models that average over timesteps.
        on_problem: what to do about a case that cannot be tested: `refuse` to start, or `skip` and report it.
        mirroring: average over mirrored copies, as nnU-Net does by default.
        tile_step_size: between neighbouring tiles, as a share of the patch size.
        device: of prediction.
        num_processes: of evaluation.
    """

    output: Path
    models: tuple[ModelSpec, ...] = Field(min_length=1)
    domains: tuple[DomainSpec, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = tuple(METRICS)
    unit: Literal["mm", "px"] = "mm"
    nsd_tolerance: float = Field(default=2.0, gt=0)
    timesteps: bool = True
    on_problem: Literal["refuse", "skip"] = "refuse"
    mirroring: bool = True
    tile_step_size: float = Field(default=0.5, gt=0, le=1)
    device: Literal["cpu", "cuda", "mps"] = "cuda"
    num_processes: int = Field(default=2, ge=1)
