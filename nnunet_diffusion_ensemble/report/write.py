"""Writes the report of a benchmark: a page that needs nothing else, a PDF of one page, figures and tables as files."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from nnunet_diffusion_ensemble.benchmark.results import BenchmarkResults
from nnunet_diffusion_ensemble.report.figures.drawing import STYLE
from nnunet_diffusion_ensemble.report.one_page import OnePage, one_page
from nnunet_diffusion_ensemble.report.one_page_layout import one_page_pdf
from nnunet_diffusion_ensemble.report.page import Section, render
from nnunet_diffusion_ensemble.report.sections import all_sections, gather
from nnunet_diffusion_ensemble.report.tables import write_tables
from nnunet_diffusion_ensemble.report.view import ReportOptions, View, choose
from nnunet_diffusion_ensemble.system.atomic import whole_file
from nnunet_diffusion_ensemble.system.guard import alone_in
from nnunet_diffusion_ensemble.system.places import refuse_file

COMMAND = "nnunet-diffusion report RESULTS"
PAGE, SUMMARY, FIGURES, TABLES = "report.html", "summary.pdf", "figures", "tables"


def write_report(
    results: BenchmarkResults, folder: Path, options: ReportOptions | None = None, command_line: str = COMMAND
) -> Path:
    """Writes `report.html`, last of all, `summary.pdf`, and the folders `figures` and `tables` that it was made with.

    Args:
        results: of `nnunet-diffusion benchmark`.
        folder: to write into; it is made if it is not there.
        options: what the figures show.
        command_line: that made the report, for the page to tell.

    Returns:
        the page.

    Raises:
        ValueError: there are no results, or something is chosen that they do not have.
        AtWorkError: another process writes into this folder.
    """
    refuse_file(folder)
    view = choose(results, options or ReportOptions())
    with matplotlib.rc_context(STYLE):
        material = gather(view)
        sections = all_sections(material, command_line)
        short = one_page(material, _title(view))
    with alone_in(folder):
        return _write(folder, view, sections, short)


def _write(folder: Path, view: View, sections: Sequence[Section], short: OnePage) -> Path:
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    (folder / TABLES).mkdir(exist_ok=True)
    for picture in (picture for section in sections for picture in section.all_pictures()):
        for ending, content in ((".png", picture.png), (".pdf", picture.pdf)):
            with whole_file(folder / FIGURES / f"{picture.name}{ending}") as temporary:
                temporary.write_bytes(content)
    write_tables(folder / TABLES, [table for section in sections for table in section.tables])
    with whole_file(folder / SUMMARY) as temporary:
        temporary.write_bytes(one_page_pdf(short))
    with whole_file(folder / PAGE) as temporary:
        temporary.write_text(render(_title(view), _subtitle(view), sections), encoding="utf-8")
    return folder / PAGE


def _title(view: View) -> str:
    targets = [domain.name for domain in view.domains if domain.role == "target"]
    return f"Does the model survive {_listed(targets)}?" if targets else f"Models on {_listed(list(view.roles))}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _subtitle(view: View) -> str:
    own = view.values
    cases = own.groupby("domain", observed=True)["case"].nunique()
    where = ", ".join(f"{cases.get(domain.name, 0)} cases of {domain.name} ({domain.role})" for domain in view.domains)
    models = len(view.models)
    return (
        f"{models} model{'' if models == 1 else 's'} in {len(view.results.spec.models)} settings, tested on {where}. "
        f"Figures show {view.metric.title} of {_listed(list(view.labels))}."
    )
