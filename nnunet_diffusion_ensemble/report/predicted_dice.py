"""Would one notice a bad case? Coverage of intervals of predicted Dice, and what sending cases to a person gains."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from nnunet_diffusion_ensemble.report.figures.retention import retention_pictures
from nnunet_diffusion_ensemble.report.page import Section
from nnunet_diffusion_ensemble.report.tables import Table, format_value
from nnunet_diffusion_ensemble.report.view import View
from nnunet_diffusion_ensemble.statistics.predicted_dice import CONFIDENCE, interval_coverage

TITLE = "Would one notice a bad case"


def predicted_dice_section(view: View) -> Section | None:
    """Table and curves of the calibrated models shown; None if there is none."""
    rows = view.chosen(view.results.predicted_dice)
    if rows.empty:
        return None
    text = (
        "A calibrated model says of each case which Dice, mean over labels, is to be expected, and between which ends "
        "it should lie. The interval keeps its promise for cases like those of the calibration; no theorem covers "
        "another hospital, so that it is measured here."
    )
    return Section(
        "predicted_dice",
        TITLE,
        (text + view.at_labelled_cases(),),
        points=tuple(coverage_findings(view)),
        pictures=tuple(retention_pictures(view, rows)),
        tables=(_table(view, interval_coverage(rows)),),
    )


def coverage_findings(view: View) -> Iterator[str]:
    """For each calibrated training and domain, a sentence that says whether coverage survived, and by how much not."""
    found = interval_coverage(view.chosen(view.results.predicted_dice))
    several = found.groupby("model", observed=True)["seed"].nunique() > 1
    for row in found.itertuples(index=False):
        seed = f" (seed {row.seed})" if several[row.model] else ""
        yield f"{row.model}{seed}: in {row.domain} ({view.roles[row.domain]}), {_verdict(row)}"


def _verdict(row: Any) -> str:
    if not row.num_cases:
        return "no case has an interval of Dice."
    counted = (
        f"the interval of Dice holds in {row.covered} of {row.num_cases} cases, {row.coverage:.0%} "
        f"({CONFIDENCE:.0%} interval {row.ci_low:.0%} to {row.ci_high:.0%}), and aims at {row.aimed_at:.0%}"
    )
    if row.ci_high < row.aimed_at:
        points = round(100 * (row.aimed_at - row.coverage))
        return f"{counted}: coverage did not survive, {points} points are missing."
    if row.coverage < row.aimed_at:
        return f"{counted}: no loss of coverage beyond what chance explains."
    return f"{counted}: coverage holds."


def _table(view: View, found: pd.DataFrame) -> Table:
    def dice(values: pd.Series) -> list[str]:
        return [format_value("Dice", value) for value in values]

    shown = pd.DataFrame(
        {
            "Model": found["model"],
            "Seed": found["seed"].astype("string"),
            "Domain": [f"{domain} ({view.roles[domain]})" for domain in found["domain"]],
            "Cases": found["num_cases"].astype("string"),
            "Without": found["num_without"].astype("string"),
            "Aimed at": [f"{value:.0%}" for value in found["aimed_at"]],
            "Proved": [f"{value:.0%}" for value in found["promised"]],
            "Coverage": [_share(row) for row in found.itertuples(index=False)],
            "Mean width": dice(found["width"]),
            "Mean error": dice(found["mean_error"]),
            "Of the oracle": dice(found["share_of_oracle"]),
        }
    )
    caption = (
        f"Coverage: share of cases whose Dice lies in its interval, with its exact binomial {CONFIDENCE:.0%} interval, "
        "which takes cases as independent. Proved: for cases like those of the calibration. Without: cases that lack a "
        "score, and are to be reviewed. Mean error: of predicted Dice. Of the oracle: what sending the worst-judged "
        "cases to a person gains over random order, as a share of what sending the truly worst would."
    )
    return Table("predicted_dice", "Coverage of predicted Dice", caption, found, shown)


def _share(row: Any) -> str:
    return f"{row.coverage:.1%} [{row.ci_low:.1%}, {row.ci_high:.1%}]" if row.num_cases else ""
