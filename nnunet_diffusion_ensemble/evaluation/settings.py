"""What an evaluation measures."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nnunet_diffusion_ensemble.evaluation.metrics import METRICS
from nnunet_diffusion_ensemble.system.mistakes import nearest
from nnunet_diffusion_ensemble.system.settings import Count, Listed, Once, Positive, Settings


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"unknown metric {name}{nearest(name, list(METRICS))} Allowed are {', '.join(METRICS)}")
    return name


MetricNames = Annotated[Listed[Annotated[str, AfterValidator(_known_metric)]], Field(min_length=1), Once]
Overlap = Annotated[float, Field(ge=0, lt=1)]
Unit = Literal["mm", "px"]


class EvaluationSettings(Settings):
    """What is measured; fields as in `BenchmarkSpec`."""

    metrics: MetricNames = tuple(METRICS)
    unit: Unit = "mm"
    nsd_tolerance: Positive = 2.0
    timesteps: bool = True
    instances: Listed[str] = ()
    match_iou: Overlap = 0.5
    num_processes: Count = 2

    def of_kind(self, kind: str) -> list[str]:
        return [name for name in self.metrics if METRICS[name].kind == kind]
