"""What the figures of a report show, by default and by choice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_data import Made, make_results

from nnunet_diffusion_ensemble.report.view import ReportOptions, choose

BARE = Made(has_images=False, num_cases=2, seeds=(0,))


def test_the_figures_show_dice_and_the_number_of_labelled_cases_that_most_models_have(tmp_path: Path) -> None:
    results = make_results(tmp_path, replace(BARE, labelled_cases=(1, 6)))
    models = [model for model in results.spec.models if model.name != "Scratch" or model.labelled_cases == 1]
    results = replace(results, spec=results.spec.model_copy(update={"models": tuple(models)}))
    view = choose(results, ReportOptions())
    assert (view.metric.name, view.labelled_cases, view.labels, view.hidden_labels) == ("Dice", 1, ("lung",), ())
    assert {model.labelled_cases for model in view.chosen_models()} == {1}


def test_of_equally_frequent_numbers_the_larger_is_shown(tmp_path: Path) -> None:
    assert choose(make_results(tmp_path, BARE), ReportOptions()).labelled_cases == 6


def test_without_dice_the_first_metric_of_the_specification_is_shown(tmp_path: Path) -> None:
    results = make_results(tmp_path, replace(BARE, metrics=("HD95", "ECE")))
    view = choose(results, ReportOptions())
    assert view.metric.name == "HD95"
    assert view.axis_title.endswith("(mm)")


def test_of_many_labels_four_are_shown_and_the_others_named(tmp_path: Path) -> None:
    results = make_results(tmp_path, replace(BARE, labels={name: 1 for name in "abcdef"}))
    view = choose(results, ReportOptions())
    assert (view.labels, view.hidden_labels) == (("a", "b", "c", "d"), ("e", "f"))
    view = choose(results, ReportOptions(labels=("f",)))
    assert (view.labels, view.hidden_labels) == (("f",), ("a", "b", "c", "d", "e"))
    assert set(view.values["label"]) == {"f"}


def test_values_are_of_the_model_itself_and_chosen_rows_of_the_chosen_training(tmp_path: Path) -> None:
    view = choose(make_results(tmp_path, BARE), ReportOptions(labelled_cases=1))
    assert view.values["timestep"].isna().all()
    assert len(view.values) == 3 * 2 * 2 * 2  # models, numbers of labelled cases, domains, cases
    assert set(view.chosen(view.values)["labelled_cases"]) == {1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "Dise"}, "--metric Dise: the results have Dice, HD95, ECE"),
        ({"labels": ("lung", "heart")}, "--labels heart: the results have lung"),
        ({"labelled_cases": 3}, "--labelled-cases 3: the specification has 1, 6"),
    ],
)
def test_what_the_results_do_not_have_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(make_results(tmp_path, BARE), ReportOptions(**options))


def test_empty_results_are_refused_with_what_to_do(tmp_path: Path) -> None:
    results = make_results(tmp_path, BARE)
    empty = replace(results, results=results.results.iloc[:0])
    with pytest.raises(ValueError, match=r"no results of any case; .*problems\.csv may say why\. Run"):
        choose(empty, ReportOptions())
