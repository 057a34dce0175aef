"""The sections of a report in their order, and for each that is left out the reason."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_diffusion_ensemble.benchmark.comparison import compare_models
from nnunet_diffusion_ensemble.benchmark.describe import describe
from nnunet_diffusion_ensemble.benchmark.domain_gap import domain_gaps
from nnunet_diffusion_ensemble.report.calibration_plot import calibration_pictures
from nnunet_diffusion_ensemble.report.curves import INTERVAL, label_efficiency_pictures, timestep_pictures
from nnunet_diffusion_ensemble.report.distributions import box_pictures, gap_pictures
from nnunet_diffusion_ensemble.report.findings import Statistics, caveats, findings, leaders
from nnunet_diffusion_ensemble.report.gallery import galleries
from nnunet_diffusion_ensemble.report.overview import provenance, tested
from nnunet_diffusion_ensemble.report.page import Section
from nnunet_diffusion_ensemble.report.tables import Table, format_p, format_value, make_tables
from nnunet_diffusion_ensemble.report.view import View


@dataclass(frozen=True)
class Omission:
    """A section that is not there."""

    title: str
    reason: str


@dataclass(frozen=True)
class Material:
    """What the sections are made of."""

    view: View
    statistics: Statistics
    tables: Mapping[str, Table]

    def table(self, *names: str) -> tuple[Table, ...]:
        """Those of the tables that are there and have rows."""
        return tuple(self.tables[name] for name in names if name in self.tables and len(self.tables[name].raw))


def all_sections(view: View, arguments: Sequence[str]) -> list[Section]:
    """Everything that the page shows; `arguments` are those of the command that makes it."""
    material = gather(view)
    makers: tuple[Callable[[Material], Section | Omission], ...] = (
        _label_efficiency,
        _cases,
        _comparisons,
        _domain_gap,
        _timesteps,
        _calibration,
        _all_metrics,
        _gallery,
    )
    made = [maker(material) for maker in makers]
    sections = [one for one in made if isinstance(one, Section)]
    omitted = [one for one in made if isinstance(one, Omission)]
    problems = material.tables.get("problems")
    return [_summary(material), tested(view, problems), *sections, *_left_out(view, omitted), provenance(view, arguments)]


def gather(view: View) -> Material:
    """Computes the statistics of the figures and all tables."""
    values = view.values
    statistics = Statistics(describe(values), compare_models(values), domain_gaps(values, view.roles))
    return Material(view, statistics, {table.name: table for table in make_tables(view.results)})
