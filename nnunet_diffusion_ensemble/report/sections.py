"""The sections of a report in their order, and for each that is left out the reason."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_diffusion_ensemble.report.figures.calibration_plot import calibration_pictures
from nnunet_diffusion_ensemble.report.figures.curves import label_efficiency_pictures, timestep_pictures
from nnunet_diffusion_ensemble.report.figures.distributions import box_pictures, gap_pictures
from nnunet_diffusion_ensemble.report.figures.gallery import galleries
from nnunet_diffusion_ensemble.report.findings import Statistics, caveats, findings, leaders
from nnunet_diffusion_ensemble.report.instances import instances_section
from nnunet_diffusion_ensemble.report.overview import provenance, tested
from nnunet_diffusion_ensemble.report.page import Section
from nnunet_diffusion_ensemble.report.predicted_dice import TITLE as PREDICTED_DICE_TITLE
from nnunet_diffusion_ensemble.report.predicted_dice import coverage_findings, predicted_dice_section
from nnunet_diffusion_ensemble.report.subgroups import subgroups_section
from nnunet_diffusion_ensemble.report.tables import Table, format_p, format_value, make_tables
from nnunet_diffusion_ensemble.report.view import View
from nnunet_diffusion_ensemble.report.volumes import volumes_section
from nnunet_diffusion_ensemble.statistics.comparison import ALPHA
from nnunet_diffusion_ensemble.statistics.comparison import COLUMNS as COMPARED
from nnunet_diffusion_ensemble.statistics.describe import GROUP_COLUMNS, describe
from nnunet_diffusion_ensemble.statistics.domain_gap import COLUMNS as GAPS


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

    @property
    def numbers(self) -> list[int]:
        """Numbers of labelled cases that were studied."""
        return sorted({int(number) for number in self.statistics.described["labelled_cases"].dropna()})

    def table(self, *names: str) -> tuple[Table, ...]:
        """Those of the tables that are there and have rows."""
        return tuple(self.tables[name] for name in names if name in self.tables and len(self.tables[name].raw))

    def table_of_figures(self, *names: str) -> tuple[Table, ...]:
        """The same, with the rows of the metric and labels of the figures on the page."""
        return tuple(map(self.view.table_of_figures, self.table(*names)))


def all_sections(material: Material, command_line: str) -> list[Section]:
    """Everything that the page shows; `command_line` is the one that makes it."""
    view = material.view
    makers: tuple[Callable[[Material], Section | Omission | None], ...] = (
        _label_efficiency,
        _cases,
        _comparisons,
        _domain_gap,
        lambda material: subgroups_section(material.view),
        lambda material: instances_section(material.view),
        lambda material: volumes_section(material.view),
        _timesteps,
        _calibration,
        _predicted_dice,
        _all_metrics,
        _gallery,
    )
    made = [maker(material) for maker in makers]
    sections = [one for one in made if isinstance(one, Section)]
    omitted = [one for one in made if isinstance(one, Omission)]
    problems = material.tables.get("problems")
    return [
        _summary(material),
        tested(view, problems),
        *sections,
        *_left_out(view, omitted),
        provenance(view, command_line),
    ]


def gather(view: View) -> Material:
    """Computes all tables; the statistics of the figures are the numbers behind them."""
    tables = {table.name: table for table in make_tables(view.results)}
    described, compared, gaps = (
        _shown(view, tables.get(name), columns)
        for name, columns in (("summary", GROUP_COLUMNS), ("significance", COMPARED), ("domain_gap", GAPS))
    )
    return Material(view, Statistics(described, compared, gaps), tables)


def _shown(view: View, table: Table | None, columns: Sequence[str]) -> pd.DataFrame:
    """The numbers behind a table, of the metric and labels of the figures; without the table, no rows."""
    raw = pd.DataFrame(columns=list(columns)) if table is None else table.raw
    return raw[(raw["metric"] == view.metric.name) & raw["label"].isin(view.labels)]


def _summary(material: Material) -> Section:
    view = material.view
    points = (*findings(view, material.statistics), *coverage_findings(view))
    frame = leaders(view, material.statistics)
    tables = () if len(material.numbers) < 2 or frame.empty else (_leaders_table(view, frame),)
    return Section("summary", "In short", points=points, notes=tuple(caveats(view)), tables=tables)


def _leaders_table(view: View, frame: pd.DataFrame) -> Table:
    unit = view.results.spec.unit
    shown = frame.astype("string")
    for column in ("best_mean", "second_mean"):
        shown[column] = [format_value(view.metric.name, value, unit) for value in frame[column]]
    shown["p_holm"] = [format_p(value) for value in frame["p_holm"]]
    title = "Best model by number of labelled cases"
    caption = (
        f"By mean {view.metric.title}; p of the difference between the first and the second, corrected by Holm. Where "
        f"it is {ALPHA} or more, the order of the two is not certain."
    )
    names = ["Labelled cases", "Domain", "Label", "Best", "Mean", "Second", "Mean of second", "p"]
    return Table("leaders", title, caption, frame, shown.set_axis(names, axis=1))


def _label_efficiency(material: Material) -> Section | Omission:
    title = "How many labelled cases it takes"
    numbers = material.numbers
    if len(numbers) < 2:
        found = "none" if not numbers else f"only {numbers[0]}"
        return Omission(title, f"curves need models of two or more labelled_cases; the specification has {found}.")
    return Section(
        "label_efficiency",
        title,
        (
            f"Mean {material.view.metric.title} over the number of labelled cases in training. A level line is a model "
            "without a number of labelled cases. Curves are moved a little sideways so that bars stay apart.",
        ),
        pictures=tuple(label_efficiency_pictures(material.view, material.statistics.described)),
    )


def _cases(material: Material) -> Section:
    view = material.view
    undefined = int(view.values["value"].isna().sum())
    left_out = f" {undefined} undefined values are left out." if undefined else ""
    text = (
        f"{view.axis_title} of every single case, mean over seeds. The line in a box is the median, whiskers reach to "
        f"the last case within 1.5 times the length of the box.{left_out} What matters in a hospital is often the "
        "worst case, not the mean."
    )
    pictures = tuple(box_pictures(view))
    return Section("cases", "Case by case", (text,), pictures=pictures, tables=material.table_of_figures("worst_cases"))


def _comparisons(material: Material) -> Section | Omission:
    title = "Which differences are significant"
    if material.statistics.compared.empty:
        return Omission(title, "there are no two models with the same number of labelled cases to compare.")
    text = (
        "Models are compared in pairs on the same cases. The files of the tables have all metrics; the more of them "
        "one looks at, the more differences look significant by chance."
    )
    return Section("comparisons", title, (text,), tables=material.table_of_figures("significance", "ranks"))


def _domain_gap(material: Material) -> Section | Omission:
    title = "What the next hospital costs"
    gaps = material.statistics.gaps
    if gaps.empty:
        return Omission(title, "a domain gap needs a source and a target among the domains.")
    side = "above" if material.view.metric.higher_is_better else "below"
    text = (
        f"Mean {material.view.metric.title} in the source less that in the target. The further {side} 0, the more a "
        "model loses in the target; a model that is bad in both has a small gap, too."
    )
    pictures = tuple(gap_pictures(material.view, gaps))
    return Section("domain_gap", title, (text,), pictures=pictures, tables=material.table_of_figures("domain_gap"))


def _timesteps(material: Material) -> Section | Omission:
    title = "Single timesteps and their ensemble"
    view = material.view
    all_rows = view.results.results
    of_models = view.chosen(all_rows[(all_rows["metric"] == "Dice") & all_rows["label"].isin(view.labels)])
    single = of_models[of_models["timestep"].notna()]
    if single["value"].isna().all():
        return Omission(title, "no model shown has predictions of single timesteps that were evaluated.")
    alone = describe(single, by=("timestep",)).dropna(subset="mean")
    ensemble = describe(of_models[of_models["timestep"].isna()])
    text = (
        "A model that averages over timesteps of the diffusion, read at each of them alone and at the right as it "
        f"predicts, by the mean of all.{view.at_labelled_cases()}"
    )
    return Section(
        "timesteps",
        title,
        (text,),
        pictures=tuple(timestep_pictures(view, alone, ensemble)),
        tables=(_timestep_table(view, alone),),
    )


def _timestep_table(view: View, alone: pd.DataFrame) -> Table:
    shown = pd.DataFrame(
        {
            "Model": alone["model"],
            "Domain": alone["domain"],
            "Label": alone["label"],
            "Timestep": alone["timestep"].astype("string"),
            "Mean Dice": [format_value("Dice", value, "") for value in alone["mean"]],
            "95% interval": [
                f"{format_value('Dice', low, '')} to {format_value('Dice', high, '')}"
                for low, high in zip(alone["ci_low"], alone["ci_high"], strict=True)
            ],
        }
    )
    return Table(
        "timesteps", "Dice of single timesteps", f"Mean over cases and seeds.{view.at_labelled_cases()}", alone, shown
    )


def _calibration(material: Material) -> Section | Omission:
    title = "Can the probabilities be believed"
    pictures = tuple(calibration_pictures(material.view))
    if not pictures:
        return Omission(title, "there are no predicted probabilities of the models and labels shown.")
    text = (
        "On the diagonal, of all pixels with a predicted probability of 0.8, eight in ten have the label; below it a "
        "model is over-confident. The expected calibration error (ECE) in the legend is that of all pixels together; "
        "the tables have the mean over cases."
    )
    return Section("calibration", title, (text + material.view.at_labelled_cases(),), pictures=pictures)


def _predicted_dice(material: Material) -> Section | Omission:
    reason = "no model shown predicts its Dice; calibrate one, and name it with `calibrated: true`."
    return predicted_dice_section(material.view) or Omission(PREDICTED_DICE_TITLE, reason)


def _all_metrics(material: Material) -> Section:
    shown = {"worst_cases", "significance", "ranks", "domain_gap", "problems"}
    others = tuple(name for name in material.tables if name not in shown)
    return Section("all_metrics", "All metrics", tables=material.table(*others))


def _gallery(material: Material) -> Section | Omission:
    title = "Best, median and worst cases"
    view = material.view
    if view.results.folder.join_file.is_file():
        return Omission(title, "joined results have no predictions; the reports of each have their own.")
    groups = tuple(galleries(view))
    if not groups:
        return Omission(title, "the models shown have no case with a defined value.")
    over = f", mean over {', '.join(view.labels)}" if len(view.labels) > 1 else ""
    text = (
        f"For each model and domain the cases with the best, the median and the worst {view.metric.title}{over}, of "
        f"the training with the first seed.{view.at_labelled_cases()} Blue, solid: reference; orange, dashed: "
        "prediction. Where the model averages over timesteps, the contour of each; then the entropy of the "
        "prediction. Pixels are shown as they are; of several channels the first; of a volume the slice with the "
        "largest area of the reference."
    )
    return Section("gallery", title, (text,), galleries=groups)


def _left_out(view: View, omitted: Sequence[Omission]) -> list[Section]:
    points = [f"{one.title}: {one.reason}" for one in omitted]
    if view.hidden_labels:
        points.append(f"Figures of {', '.join(view.hidden_labels)}: the tables have them; choose with --labels.")
    return [Section("left_out", "What this report leaves out", points=tuple(points))] if points else []
