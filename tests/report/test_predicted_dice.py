"""What a report says of predicted Dice: whether coverage survives the domain, and by how much not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from report_data import Made, make_results

from nnunet_diffusion_ensemble.report.figures import retention as figures
from nnunet_diffusion_ensemble.report.predicted_dice import coverage_findings, predicted_dice_section
from nnunet_diffusion_ensemble.report.view import ReportOptions, View, choose

MADE = Made(models=("Ensemble",), labelled_cases=(None,), seeds=(0,), num_cases=20, has_images=False)


def view_of(folder: Path, held: dict[str, int], made: Made = MADE) -> View:
    """Intervals that hold in so many of 20 cases of each domain, and aim at 90%."""
    results = make_results(folder, made)
    rows = results.predicted_dice.copy()
    position = rows.groupby(["seed", "domain"]).cumcount()
    inside = position < rows["domain"].map(held).astype(int)
    rows["lower"], rows["upper"] = rows["dice"] - 0.01, rows["dice"] + np.where(inside, 0.01, -0.005)
    return choose(replace(results, predicted_dice=rows), ReportOptions())


def test_coverage_that_holds_and_that_does_not_survive_is_told(tmp_path: Path) -> None:
    home, away = coverage_findings(view_of(tmp_path, {"Home": 19, "Away": 10}))
    assert home.startswith("Ensemble: in Home (source), the interval of Dice holds in 19 of 20 cases, 95% ")
    assert home.endswith("aims at 90%: coverage holds.")
    # Clopper-Pearson of 10 of 20 is 27% to 73%.
    assert "50% (95% interval 27% to 73%)" in away
    assert away.endswith("coverage did not survive, 40 points are missing.")


def test_too_little_coverage_that_chance_explains_is_no_loss(tmp_path: Path) -> None:
    home, _ = coverage_findings(view_of(tmp_path, {"Home": 17, "Away": 20}))
    assert home.endswith("no loss of coverage beyond what chance explains.")


def test_several_seeds_are_told_apart(tmp_path: Path) -> None:
    found = list(coverage_findings(view_of(tmp_path, {"Home": 20, "Away": 20}, replace(MADE, seeds=(0, 3)))))
    assert [text.split(":")[0] for text in found] == ["Ensemble (seed 0)"] * 2 + ["Ensemble (seed 3)"] * 2


def test_the_table_has_the_numbers(tmp_path: Path) -> None:
    section = predicted_dice_section(view_of(tmp_path, {"Home": 19, "Away": 10}))
    assert section is not None
    (table,) = section.tables
    away = table.shown.set_index("Domain").loc["Away (target)"]
    assert away["Coverage"] == "50.0% [27.2%, 72.8%]" and away["Proved"] == "80%"
    assert table.raw["width"].tolist() == pytest.approx([0.02 - 0.015 / 20, (0.02 + 0.005) / 2])


def test_without_a_calibrated_model_there_is_no_section(tmp_path: Path) -> None:
    results = make_results(tmp_path, replace(MADE, with_timesteps=()))
    assert predicted_dice_section(choose(results, ReportOptions())) is None


def test_the_curve_begins_at_the_mean_and_ends_with_the_best_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []

    def kept(figure: Figure, *texts: str) -> Any:
        drawn.append(figure)
        return figure

    monkeypatch.setattr(figures, "picture", kept)
    view = view_of(tmp_path, {"Home": 20, "Away": 20})  # ordered by Dice itself
    rows = view.results.predicted_dice
    figures.retention_pictures(view, rows)
    own, oracle, random = (np.asarray(line.get_ydata(), float) for line in drawn[0].axes[0].get_lines())
    dice = np.sort(rows[rows["domain"] == "Home"]["dice"].to_numpy())
    assert own[0] == pytest.approx(dice.mean()) == pytest.approx(random[0])
    assert own[-1] == pytest.approx(dice[-2:].mean())  # 90% of 20 cases are sent
    assert own == pytest.approx(oracle)
