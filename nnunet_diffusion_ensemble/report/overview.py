"""What was tested, with what, and how the report was made."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import pandas as pd

from nnunet_diffusion_ensemble.benchmark.record import RECORD, BenchmarkRecord
from nnunet_diffusion_ensemble.benchmark.results import RUN_COLUMNS, BenchmarkResults
from nnunet_diffusion_ensemble.report.page import Section
from nnunet_diffusion_ensemble.report.tables import Table
from nnunet_diffusion_ensemble.report.view import View, cases_in_words
from nnunet_diffusion_ensemble.system.environment import PACKAGE
from nnunet_diffusion_ensemble.system.records import sha256

SHOWN = (PACKAGE, "nnunetv2", "torch", "numpy", "scipy", "monai")  # the record has all


def domains_table(view: View) -> Table:
    """Domains with their cases."""
    own = view.results.results[view.results.results["timestep"].isna()]
    counted = own.groupby("domain", observed=True)[["case", "patient"]].nunique()
    rows = [
        {
            "domain": domain.name,
            "role": domain.role,
            "cases": int(counted["case"].get(domain.name, 0)),
            "patients": int(counted["patient"].get(domain.name, 0)),
            "images": str(domain.images),
            "references": str(domain.references),
        }
        for domain in view.domains
    ]
    frame = pd.DataFrame(rows)
    caption = "Cases are those that were tested; the source is where the labelled cases come from."
    return Table("domains", "Domains", caption, frame, frame.astype("string").rename(columns=str.capitalize))


def models_table(view: View) -> Table:
    """Models with their trainings."""
    rows = [
        {
            "model": model.name,
            "labelled_cases": model.labelled_cases,
            "seeds": " ".join(map(str, model.seeds)),
            "folds": ", ".join("+".join(map(str, folds)) for folds in model.seeds.values()),
            "checkpoint": model.checkpoint,
            "folder": str(model.folder),
        }
        for model in view.results.spec.models
    ]
    frame = pd.DataFrame(rows).astype({"labelled_cases": "Int64"})
    if frame["labelled_cases"].isna().all():
        frame = frame.drop(columns="labelled_cases")
    shown = frame.rename(columns=lambda name: name.replace("_", " ").capitalize()).astype("string").fillna("")
    caption = "A seed is an independent training; of one with several folds, the predictions are averaged."
    return Table("models", "Models", caption, frame, shown)


def missing_runs(view: View) -> list[str]:
    """Trainings and domains of the specification that the results lack, in words."""
    runs = view.results.results[list(RUN_COLUMNS)].drop_duplicates().itertuples(index=False, name=None)
    there = {(model, None if pd.isna(number) else number, seed, domain) for model, number, seed, domain in runs}
    missing = []
    for model in view.results.spec.models:
        for domain in view.domains:
            seeds = [seed for seed in model.seeds if (model.name, model.labelled_cases, seed, domain.name) not in there]
            if seeds:
                number = "" if model.labelled_cases is None else f", {cases_in_words(model.labelled_cases)}"
                missing.append(
                    f"{model.name}{number}, seed{'s' if len(seeds) > 1 else ''} {' '.join(map(str, seeds))}, in "
                    f"{domain.name}"
                )
    return missing


def tested(view: View, problems: Table | None) -> Section:
    """Domains, models, and what could not be tested."""
    missing = missing_runs(view)
    paragraphs: list[str] = []
    points: tuple[str, ...] = ()
    if missing:
        paragraphs.append("The results lack some of what the specification asks for:")
        points = tuple(missing)
    if view.results.problems.empty:
        paragraphs.insert(0, "No case had a problem.")
    tables = [domains_table(view), models_table(view), *([] if problems is None or problems.raw.empty else [problems])]
    return Section("tested", "What was tested", tuple(paragraphs), points, tables=tuple(tables))


def provenance(view: View, command_line: str) -> Section:
    """Commands, the benchmark's record, versions and the resolved specification."""
    folder = view.results.folder
    training = "`few-label` trains and hands over to `benchmark`. " if _calls(folder.commands, "few-label") else ""
    joining = "`join` puts the results of several together, " if _calls(folder.commands, "join") else ""
    return Section(
        "provenance",
        "How this was made",
        (
            f"Every number in this report comes from these commands. {training}`benchmark` predicts and measures, "
            f"{joining}`report` reads its results and writes this page, its figures and its tables.",
            identity(view.results),
            *environments_in_words(view.results.record),
            f"This report: {PACKAGE} {version(PACKAGE)}.",
        ),
        commands=(*folder.commands, command_line),
        texts=(
            (f"The resolved specification ({folder.spec_file.name})", folder.spec_file.read_text(encoding="utf-8")),
        ),
    )


def _calls(commands: Sequence[str], subcommand: str) -> bool:
    return any(command.startswith(f"nnunet-diffusion {subcommand} ") for command in commands)


def identity(results: BenchmarkResults) -> str:
    """Which results these are: the checksum of their record, and whether the tables are those that it names."""
    if results.record is None:
        return (
            f"There is no {RECORD}: these results are of an older version. Run `nnunet-diffusion benchmark` again to "
            "have one."
        )
    text = (
        f"{RECORD} has the SHA-256 checksum {sha256(results.folder.record_file)}; it names those of models, images, "
        "references and tables, versions, hardware, seeds and times."
    )
    others = results.tables_of_another_record()
    changed = f" Changed since it was written, by hand or by a run that did not finish: {', '.join(others)}."
    return text + changed if others else text


def environments_in_words(record: BenchmarkRecord | None) -> list[str]:
    """Each environment that predictions or evaluations were made in."""
    return [_environment(one) for one in (record.environments if record else ())]


def _environment(one: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {one['packages'][name]}" for name in SHOWN if name in one["packages"])
    gpus = ", ".join(gpu["name"] for gpu in one["gpus"]) or "no GPU"
    memory = "" if one["memory_gib"] is None else f", {one['memory_gib']} GiB of memory"
    return (
        f"Predicted and evaluated with Python {one['python']}, {versions}; {one['cpu']}, {one['cores']} core(s)"
        f"{memory}, {gpus}; {one['system']}."
    )
