"""The specification of a benchmark: which models, on which domains, in which metrics."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
)

from nnunet_diffusion_ensemble.evaluation.metrics import METRICS

LONGEST_NAME = 100
BASE = "base"  # in the context of validation: the folder that relative paths start from


def as_name(text: str) -> str:
    """A name for a file: what file systems or shells mind becomes an underscore."""
    return re.sub(r"[^0-9A-Za-z.-]+", "_", text).lstrip(".") or "_"


def nearest(word: Any, known: Sequence[str]) -> str:
    """`; did you mean ...?`, or nothing if none is like it."""
    found = get_close_matches(str(word).lower(), [name.lower() for name in known], n=1)
    return "".join(f"; did you mean {name}?" for name in known if found == [name.lower()])


def _absolute(path: Path, info: ValidationInfo) -> Path:
    expanded = os.path.expanduser(os.path.expandvars(path))
    unset = re.search(r"\$(\w+|\{[^}]*\})", expanded)
    if unset:
        raise ValueError(f"the variable {unset[0]} in {path} is not set; set it, or write the path out")
    return ((info.context or {}).get(BASE, Path.cwd()) / expanded).resolve()


def _fold(value: Any) -> int | Literal["all"]:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError(f"a fold is a number or all, got {value!r}")


def _once(values: tuple) -> tuple:
    """Refuses what is named twice."""
    twice = [str(value) for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)} twice; name each once")
    return values


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"unknown metric {name}{nearest(name, list(METRICS))} Allowed are {', '.join(METRICS)}")
    return name


def _device() -> Literal["cpu", "cuda"]:
    import torch  # takes seconds, and most readers of a specification need it not

    return "cuda" if torch.cuda.is_available() else "cpu"


Name = Annotated[StrictStr, Field(min_length=1, max_length=LONGEST_NAME)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Fold = Annotated[int | Literal["all"], PlainValidator(_fold)]
Folds = Annotated[tuple[Fold, ...], Field(min_length=1), AfterValidator(_once)]
MetricName = Annotated[StrictStr, AfterValidator(_known_metric)]
Share = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
Length = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Positive = Annotated[StrictInt, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class ModelSpec(_Part):
    """A result folder of nnU-Net and which of its folds to test.

    Attributes:
        name: what the report calls it. Models of one name with different `labelled_cases` are points of one curve.
        folder: `.../DATASET/TRAINER__PLANS__CONFIGURATION`.
        seeds: independent trainings. For each seed the folds whose predictions are averaged, usually one.
        labelled_cases: how many labelled cases each training had, where that is what is studied.
        checkpoint: file in the folder of each fold.
    """

    name: Name
    folder: AbsolutePath
    seeds: dict[StrictInt, Folds] = Field(min_length=1)
    labelled_cases: Positive | None = None
    checkpoint: Name = "checkpoint_final.pth"

    @property
    def key(self) -> str:
        """Name of its results among those of other models."""
        return as_name(self.name) + ("" if self.labelled_cases is None else f"_n{self.labelled_cases:03d}")

    @property
    def title(self) -> str:
        """Tells it from other models, for readers."""
        return self.name + ("" if self.labelled_cases is None else f" with {self.labelled_cases} labelled case(s)")


class DomainSpec(_Part):
    """Test cases of one origin: a hospital, a scanner.

    Attributes:
        name: what the report calls it.
        role: `source`, where the labelled cases come from, or `target`.
        images: folder, in nnU-Net's naming (`CASE_0000.png`).
        references: folder of the label maps (`CASE.png`), with the values of the models' dataset.json.
        patients: table (CSV) with columns `case` and `patient`, where a patient has several cases.
        cases: names of those to test, where the folders hold others as well.
    """

    name: Name
    role: Literal["source", "target"]
    images: AbsolutePath
    references: AbsolutePath
    patients: AbsolutePath | None = None
    cases: Annotated[tuple[StrictStr, ...], Field(min_length=1), AfterValidator(_once)] | None = None

    @property
    def key(self) -> str:
        """Name of its results among those of other domains."""
        return as_name(self.name)

    @property
    def title(self) -> str:
        """Tells it from other domains, for readers."""
        return self.name


def _told_apart(parts: tuple) -> tuple:
    """Refuses two whose results would lie in one folder."""
    first: dict[str, Any] = {}
    for part in parts:
        other = first.setdefault(part.key.casefold(), part)
        if other.title == part.title and other is not part:
            raise ValueError(f"{part.title} is there twice; rename one")
        if other is not part:
            raise ValueError(f"the results of {other.title} and {part.title} would lie in one folder; rename one")
    return parts


class BenchmarkSpec(_Part):
    """Everything that a benchmark's result depends on, and the folder where it goes.

    Paths may be relative, hold variables (`$nnUNet_results`) or start with `~`; they become absolute.

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
        device: of prediction; CUDA if it is there, otherwise the CPU.
        num_processes: of evaluation.
    """

    output: AbsolutePath
    models: Annotated[tuple[ModelSpec, ...], Field(min_length=1), AfterValidator(_told_apart)]
    domains: Annotated[tuple[DomainSpec, ...], Field(min_length=1), AfterValidator(_told_apart)]
    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1), AfterValidator(_once)] = tuple(METRICS)
    unit: Literal["mm", "px"] = "mm"
    nsd_tolerance: Length = 2.0
    timesteps: StrictBool = True
    on_problem: Literal["refuse", "skip"] = "refuse"
    mirroring: StrictBool = True
    tile_step_size: Share = 0.5
    device: Literal["cpu", "cuda", "mps"] = Field(default_factory=_device)
    num_processes: Positive = 2
