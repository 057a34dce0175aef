"""The figures show the numbers that they are given."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_data import TIMESTEPS, Made, dice_of, make_results

from nnunet_diffusion_ensemble.report.figures import calibration_plot, curves, distributions
from nnunet_diffusion_ensemble.report.figures.drawing import STYLE, model_styles, new_figure, picture, wrapped
from nnunet_diffusion_ensemble.report.view import ReportOptions, View, choose
from nnunet_diffusion_ensemble.statistics.describe import describe
from nnunet_diffusion_ensemble.statistics.domain_gap import domain_gaps

MADE = Made(models=("Ensemble", "_Scratch $x$"), seeds=(0, 1), num_cases=3, has_images=False)


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    return choose(make_results(tmp_path_factory.mktemp("results"), MADE), ReportOptions())


@pytest.fixture(autouse=True)
def _as_figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Figures are handed back instead of being rendered."""
    for module in (calibration_plot, curves, distributions):
        monkeypatch.setattr(module, "picture", lambda figure, *texts: figure)
    with matplotlib.rc_context(STYLE):
        yield


def lines_of(figure: Figure) -> list[np.ndarray]:
    """Points of the drawn lines with a marker."""
    lines = figure.axes[0].get_lines()
    return [np.asarray(line.get_xydata()) for line in lines if line.get_marker() in ("o", "s")]


def test_curves_run_through_the_means_at_the_real_numbers_of_labelled_cases(view: View) -> None:
    described = describe(view.values)
    home, away = curves.label_efficiency_pictures(view, described)
    assert [tick.get_text() for tick in home.axes[0].get_xticklabels()] == ["1", "6"]
    of_model = described[(described["model"] == "Ensemble") & (described["domain"] == "Away")]
    points = lines_of(away)[0]
    assert points[:, 0] == pytest.approx([1, 6], rel=0.02)
    assert points[:, 1] == pytest.approx(of_model.sort_values("labelled_cases")["mean"].to_numpy())
    assert home.axes[0].get_ylim() == away.axes[0].get_ylim()
    labels = [text.get_text() for text in home.legends[0].get_texts()]
    assert labels == ["Ensemble", " _Scratch $x$"]  # matplotlib would leave out what begins with _


def test_a_model_without_a_number_of_labelled_cases_is_a_level_line(view: View) -> None:
    described = describe(view.values)
    is_level = (described["model"] == "_Scratch $x$") & (described["labelled_cases"] == 6)
    described = described[is_level | (described["model"] == "Ensemble")]
    described.loc[is_level, "labelled_cases"] = pd.NA
    home, _ = curves.label_efficiency_pictures(view, described)
    level = described.loc[is_level & (described["domain"] == "Home"), "mean"].item()
    assert any(np.array_equal(line.get_ydata(), [level, level]) for line in home.axes[0].get_lines())


def test_the_ensemble_stands_at_the_right_of_its_timesteps(view: View) -> None:
    rows = view.results.results
    described = describe(view.chosen(rows[rows["metric"] == "Dice"]), by=("timestep",))
    single = described["timestep"].notna()
    home, _ = curves.timestep_pictures(view, described[single], described[~single])
    assert [tick.get_text() for tick in home.axes[0].get_xticklabels()] == [*map(str, TIMESTEPS), "all"]
    alone, ensemble = lines_of(home)
    assert alone[:, 0].tolist() == [0, 1, 2, 3]
    assert ensemble[0, 0] > 3
    # Timestep t was made worse than the ensemble by 0.01 + 0.0001 t.
    assert ensemble[0, 1] - alone[:, 1] == pytest.approx([0.0101, 0.011, 0.03, 0.09])


def test_a_box_has_the_median_of_cases_and_a_point_for_each(view: View) -> None:
    home, _ = distributions.box_pictures(view)
    panel = home.axes[1]  # of six labelled cases
    assert panel.get_title(loc="left") == "6 labelled cases"
    rows = view.chosen(view.values)
    cases = rows[(rows["model"] == "Ensemble") & (rows["domain"] == "Home")].groupby("case")["value"].mean()
    points = panel.collections[0].get_offsets()
    assert sorted(points[:, 0]) == pytest.approx(sorted(cases))
    medians = [line.get_xdata()[0] for line in panel.get_lines() if len(set(line.get_xdata())) == 1]
    assert any(np.isclose(median, cases.median()) for median in medians)
    assert [text.get_text() for text in panel.texts] == ["Ensemble", "_Scratch $x$"]


def test_gaps_stand_at_their_values_with_a_line_at_zero(view: View) -> None:
    gaps = domain_gaps(view.values, view.roles)
    (figure,) = distributions.gap_pictures(view, gaps)
    panel = figure.axes[0]  # of one labelled case
    shown = [line.get_xdata()[0] for line in panel.get_lines() if line.get_marker() in ("o", "s")]
    assert shown == pytest.approx(gaps[gaps["labelled_cases"] == 1]["gap"].tolist())
    low, high = panel.get_xlim()
    assert low < 0 < high


def test_reliability_is_on_the_diagonal_where_probabilities_are_true(view: View) -> None:
    home, _ = calibration_plot.calibration_pictures(view)
    true, confident = lines_of(home)[:2]
    assert true[:, 1] == pytest.approx(true[:, 0])
    assert confident[1:, 0] - confident[1:, 1] == pytest.approx(np.full(9, 0.05))
    assert [text.get_text().split("ECE\N{NO-BREAK SPACE}")[1] for text in home.legends[0].get_texts()] == [
        "0.000",
        "0.050",
    ]


def test_the_calibration_error_weighs_bins_by_their_pixels() -> None:
    bins = pd.DataFrame({"pixels": [100, 300], "probability_sum": [10.0, 240.0], "positives": [20, 180]})
    assert calibration_plot.expected_calibration_error(bins) == pytest.approx((10 + 60) / 400)


def test_models_differ_in_more_than_colour_and_in_all_of_it_together() -> None:
    styles = model_styles([f"model {i}" for i in range(60)])
    assert len(set(styles.values())) == 60
    for first, second in pairwise(list(styles.values())[:7]):
        assert first.color != second.color and first.marker != second.marker and first.line != second.line


def test_a_figure_is_the_same_bytes_each_time() -> None:
    def draw() -> tuple[bytes, bytes]:
        figure = new_figure(1.0)
        figure.subplots().plot([0, 1])
        made = picture(figure, "name", "alt", "caption")
        return made.png, made.pdf

    assert draw() == draw()


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("short", ["short"]),
        ("ScratchTrainer__nnUNetPlans__2d", ["ScratchTrainer__", "nnUNetPlans__2d"]),
        ("trained on six cases", ["trained on six", "cases"]),
        ("x" * 30, ["x" * 30]),
    ],
)
def test_names_are_broken_where_they_can_be(name: str, lines: list[str]) -> None:
    assert wrapped(name, 16).split("\n") == lines


def test_made_up_means_are_those_that_were_asked_for(view: View) -> None:
    described = describe(view.chosen(view.values))
    for row in described.itertuples():
        assert row.mean == pytest.approx(dice_of(MADE, row.model, 6, row.domain), abs=0.05)


def test_a_single_undefined_domain_has_no_empty_figure(view: View) -> None:
    values = view.values.copy()
    values.loc[values["domain"] == "Away", "value"] = np.nan
    assert len(distributions.box_pictures(replace(view, values=values))) == 1
