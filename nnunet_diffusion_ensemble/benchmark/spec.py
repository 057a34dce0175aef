"""The specification of a benchmark: which models, on which domains, in which metrics."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, model_validator
from typing_extensions import Self

from nnunet_diffusion_ensemble.benchmark.groups import (
    QUARTILES,
    WORDS_OF_GROUPING,
    WORDS_OF_MIX,
    Edges,
    Grouping,
    bin_names,
)
from nnunet_diffusion_ensemble.evaluation.metrics import METRICS
from nnunet_diffusion_ensemble.evaluation.settings import MetricNames, Overlap, Unit
from nnunet_diffusion_ensemble.system.allowed import WORDS
from nnunet_diffusion_ensemble.system.mistakes import contradictions
from nnunet_diffusion_ensemble.system.settings import Count, Folds, Listed, Once, Positive, Settings, Share

LONGEST_NAME = 100
MIX_TOLERANCE = 1e-3  # of thirds with three decimals
SEEDS, FOLDS = "seeds", "folds"  # `folds: [0, 1]` of a model is read as `seeds: {0: [0, 1]}`
BASE = "base"  # in the context of validation: the folder that relative paths start from


def as_name(text: str) -> str:
    """A name for a file: what file systems or shells mind becomes an underscore."""
    return re.sub(r"[^0-9A-Za-z.-]+", "_", text).lstrip(".") or "_"


def _absolute(path: Path, info: ValidationInfo) -> Path:
    expanded = os.path.expanduser(os.path.expandvars(path))
    unset = re.search(r"\$(\w+|\{[^}]*\})", expanded)
    if unset:
        raise ValueError(f"the variable {unset[0]} in {path} is not set; set it, or write the path out")
    return ((info.context or {}).get(BASE, Path.cwd()) / expanded).resolve()


def _device() -> Literal["cpu", "cuda"]:
    import torch  # takes seconds, and most readers of a specification need it not

    return "cuda" if torch.cuda.is_available() else "cpu"


Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_NAME,
        json_schema_extra={WORDS: f"text of 1 to {LONGEST_NAME} characters (in quotes, if YAML takes it for a number)"},
    ),
]
AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(_absolute)]


class _Part(Settings):
    model_config = ConfigDict(str_strip_whitespace=True)


class ModelSpec(_Part):
    """A result folder of nnU-Net and which of its folds to test.

    Attributes:
        name: what the report calls it. Models of one name with different `labelled_cases` are points of one curve.
        folder: `.../DATASET/TRAINER__PLANS__CONFIGURATION`.
        seeds: independent trainings. For each seed the folds whose predictions are averaged, usually one.
        labelled_cases: how many labelled cases each training had, where that is what is studied.
        checkpoint: file in the folder of each fold.
        postprocessed: remove what `nnunet-diffusion postprocessing` found to be too small, for each seed its own.
        calibrated: predict with what `nnunet-diffusion calibrate` found, probabilities and Dice, for each seed its own.
    """

    other_keys = (FOLDS,)

    name: Name
    folder: AbsolutePath
    seeds: dict[int, Folds] = Field(
        min_length=1, json_schema_extra={WORDS: "a number for each seed with its folds, numbers or all: `0: [0]`"}
    )
    labelled_cases: Count | None = None
    checkpoint: Name = "checkpoint_final.pth"
    postprocessed: bool = False
    calibrated: bool = False

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
        metadata: table (CSV) with a column `case` and those that `subgroups` names.
        cases: names of those to test, where the folders hold others as well.
    """

    name: Name
    role: Literal["source", "target"]
    images: AbsolutePath
    references: AbsolutePath
    patients: AbsolutePath | None = None
    metadata: AbsolutePath | None = None
    cases: Annotated[Listed[str], Field(min_length=1), Once] | None = None

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
        subgroups: how cases are grouped by columns of the domains' metadata.
        target_mix: shares of the groups in the patients that a model is meant for, by column.
        instances: labels or regions whose connected components are matched, such as lesions.
        match_iou: two instances match only if their intersection over union is larger.
        lesion_sizes: edges between classes of sizes, in mm2, mm3 or pixels; none is quartiles.
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
    models: Annotated[Listed[ModelSpec], Field(min_length=1), AfterValidator(_told_apart)]
    domains: Annotated[Listed[DomainSpec], Field(min_length=1), AfterValidator(_told_apart)]
    metrics: MetricNames = tuple(METRICS)
    subgroups: dict[Name, Grouping] = Field({}, json_schema_extra={WORDS: WORDS_OF_GROUPING})
    target_mix: dict[Name, dict[Name, Share]] = Field({}, json_schema_extra={WORDS: WORDS_OF_MIX})
    instances: Annotated[Listed[Name], Once] = ()
    match_iou: Overlap = 0.5
    lesion_sizes: Edges | None = None
    unit: Unit = "mm"
    nsd_tolerance: Positive = 2.0
    timesteps: bool = True
    on_problem: Literal["refuse", "skip"] = "refuse"
    mirroring: bool = True
    tile_step_size: Share = 0.5
    device: Literal["cpu", "cuda", "mps"] = Field(default_factory=_device)
    num_processes: Count = 2

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        contradictions(self._contradictions())
        return self

    def _contradictions(self) -> Iterator[tuple[str, str, Any]]:
        if self.subgroups and all(domain.metadata is None for domain in self.domains):
            yield "subgroups", "left out, or columns of a table that a domain names as metadata", dict(self.subgroups)
        if "case" in self.subgroups:
            yield "subgroups", "of other columns than case, which names the cases", dict(self.subgroups)
        for column, shares in self.target_mix.items():
            grouping = self.subgroups.get(column)
            if grouping is None:
                wanted = f"of columns that subgroups names ({', '.join(self.subgroups) or 'none'})"
                yield "target_mix", wanted, self.target_mix
            elif grouping == QUARTILES:
                yield "target_mix", f"of groups that do not depend on the cases: give {column} edges", self.target_mix
            elif not isinstance(grouping, str) and not set(shares) <= set(bin_names(grouping)):
                yield "target_mix", f"of the groups of {column}, {', '.join(bin_names(grouping))}", self.target_mix
            if not math.isclose(sum(shares.values()), 1, abs_tol=MIX_TOLERANCE):
                yield "target_mix", f"shares of {column} that add up to 1", self.target_mix
