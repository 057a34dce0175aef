"""What was tested, with what, and how the report was made."""

import hashlib
import platform
import shlex
from importlib.metadata import version

import pandas as pd

from nnunet_diffusion_ensemble.benchmark.results import RUN_COLUMNS
from nnunet_diffusion_ensemble.report.page import Section
from nnunet_diffusion_ensemble.report.tables import Table
from nnunet_diffusion_ensemble.report.view import View, cases_in_words

PACKAGES = ("nnunet-diffusion-ensemble", "nnunetv2", "torch", "numpy", "pandas", "scipy", "monai", "matplotlib")


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
    """Commands, versions and the resolved specification."""
    folder = view.results.folder
    checksum = hashlib.sha256(folder.results_file.read_bytes()).hexdigest()
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    trained_by = [folder.study_file.read_text(encoding="utf-8").strip()] if folder.study_file.is_file() else []
    commands = (*trained_by, shlex.join(["nnunet-diffusion", "benchmark", str(folder.spec_file)]), command_line)
    training = "The first trains and hands over to the next. " if trained_by else ""
    return Section(
        "provenance",
        "How this was made",
        (
            f"Every number in this report comes from these commands. {training}`benchmark` predicts and measures, "
            "`report` reads its results and writes this page, its figures and its tables.",
            f"results.csv has {len(view.results.results)} rows and the SHA-256 checksum {checksum}.",
            f"Python {platform.python_version()}, {versions}.",
        ),
        commands=commands,
        texts=(
            (f"The resolved specification ({folder.spec_file.name})", folder.spec_file.read_text(encoding="utf-8")),
        ),
    )
