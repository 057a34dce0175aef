"""Dice predicted from scores: the line against ridge regression and by hand, intervals against leaving cases out."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import Ridge

from nnunet_diffusion_ensemble.calibration.conformal import interval
from nnunet_diffusion_ensemble.calibration.dice_line import at, fit_line, to_dice, to_logit, transformed
from nnunet_diffusion_ensemble.calibration.predicted_dice import DicePrediction, fit_dice, method_for

NAMES = ("expected_dice", "timestep_dice")


def cases(number: int, seed: int = 0) -> tuple[list[dict[str, float | None]], list[float]]:
    """Dice whose logit is that of the expected Dice less 0.5, with noise; timesteps agree a little better."""
    random = np.random.default_rng(seed)
    expected = random.normal(2.5, 0.8, number)
    dice = expit(expected - 0.5 + random.normal(0, 0.3, number))
    agreement = expit(expected + 0.4 + random.normal(0, 0.5, number))
    scores = [{"expected_dice": e, "timestep_dice": a} for e, a in zip(expit(expected), agreement, strict=True)]
    return scores, dice.tolist()


def test_the_line_is_that_of_ridge_regression_on_standard_scores() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(3, 2, (12, 2))
    values = scores @ [0.8, 0.3] + 1 + random.normal(0, 0.2, 12)
    standard = (scores - scores.mean(0)) / scores.std(0)
    expected = Ridge(alpha=1.0).fit(standard, values).predict(standard)
    line = fit_line(scores, values)
    assert [at(line, one) for one in scores] == pytest.approx(expected.tolist())


def test_a_score_that_points_the_wrong_way_has_no_say() -> None:
    scores = np.array([[1.0], [2.0], [3.0], [4.0]])
    assert fit_line(scores, np.array([4.0, 3.0, 2.0, 1.0])) == pytest.approx([2.5, 0.0])


def test_a_score_that_is_the_same_in_all_cases_has_no_say() -> None:
    assert fit_line(np.ones((4, 1)), np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx([2.5, 0.0])


def test_scores_are_taken_as_logits_and_logarithms() -> None:
    found = transformed({"expected_dice": 0.9, "entropy": 0.1}, ("expected_dice", "entropy"))
    assert found == pytest.approx([np.log(9), np.log(10)])
    assert transformed({"expected_dice": 0.9, "timestep_dice": None}, NAMES) is None


def test_the_ends_of_dice_lie_in_the_interval_that_reaches_the_margin() -> None:
    assert [to_dice(to_logit(dice)) for dice in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 0.5, 1.0])
    assert to_dice(-np.inf) == 0 and to_dice(np.inf) == 1


def test_jackknife_plus_leaves_out_each_case_once() -> None:
    scores, dice = cases(12)
    found = fit_dice(scores, dice, NAMES, 0.8, "jackknife+").of_case({"expected_dice": 0.93, "timestep_dice": 0.95})
    values, logits = np.array([transformed(one, NAMES) for one in scores]), logit(dice)
    new, centres, residuals = logit([0.93, 0.95]), [], []
    for i in range(12):
        line = fit_line(np.delete(values, i, 0), np.delete(logits, i))
        centres.append(line[0] + line[1:] @ new)
        residuals.append(abs(line[0] + line[1:] @ values[i] - logits[i]))
    lower, upper = expit(interval(centres, residuals, 0.8))
    assert found is not None
    assert (found.lower, found.upper) == pytest.approx((lower, upper))
    assert found.lower < found.predicted < found.upper


def test_split_conformal_measures_cases_that_the_line_has_not_seen() -> None:
    scores, dice = cases(60)
    fitted = fit_dice(scores, dice, NAMES, 0.9)
    assert fitted.method == "split" and fitted.promised == 0.9
    line, values = np.array(fitted.line), [transformed(one, NAMES) for one in scores]
    off = [abs(at(line, value) - to_logit(one)) for value, one in zip(values, dice, strict=True)]
    measured = [i for i, value in enumerate(off) if any(np.isclose(value, fitted.residuals, rtol=1e-12, atol=0))]
    rest = [i for i in range(60) if i not in measured]
    assert len(measured) == len(rest) == 30
    again = fit_line(np.array(values)[rest], logit([dice[i] for i in rest]))
    assert fitted.line == pytest.approx(again.tolist())


@pytest.mark.parametrize(("number", "method"), [(12, "jackknife+"), (60, "split")])
def test_new_cases_are_covered_as_aimed_at(number: int, method: str) -> None:
    """Over many draws of labelled cases, each with new ones: 0.8, within what 60 draws leave to chance."""
    covered = []
    for seed in range(60):
        scores, dice = cases(number + 40, seed)
        fitted = fit_dice(scores[:number], dice[:number], NAMES, 0.8)
        assert fitted.method == method
        for one, value in zip(scores[number:], dice[number:], strict=True):
            found = fitted.of_case(one)
            assert found is not None
            covered.append(found.lower <= value <= found.upper)
    assert np.mean(covered) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("number", "coverage", "method", "words"),
    [
        (
            4,
            0.9,
            None,
            r"4 labelled case\(s\) .* 90% coverage by jackknife\+, which takes 9: .*at most --coverage 0.80",
        ),
        (8, 0.9, "jackknife+", r"takes 9.*at most --coverage 0.88"),
        (16, 0.9, "split", r"takes 18.*at most --coverage 0.88"),
        (3, 0.5, None, r"takes 4: it would reach from 0 to 1.*--temperature-only"),
    ],
)
def test_too_few_cases_are_refused_with_what_they_suffice_for(
    number: int, coverage: float, method: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        method_for(number, coverage, method)


def test_what_is_said_to_suffice_does() -> None:
    assert method_for(8, 0.88) == method_for(4, 0.8) == "jackknife+"


def test_a_case_without_a_score_has_no_prediction() -> None:
    fitted = fit_dice(*cases(12), NAMES, 0.8)
    assert fitted.of_case({"expected_dice": 0.9, "timestep_dice": None}) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"line": (1.0, 2.0)}, "a number for each score and one more"),
        ({"lines_without": ((1.0, 1.0, 1.0),) * 3}, "one line, or one for each residual"),
        ({"residuals": (-1.0,)}, "residuals"),
        ({"coverage": 1.0}, "coverage"),
        ({"scores": ("colour",)}, "scores"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(changes: dict, words: str) -> None:
    values = dict(fit_dice(*cases(12), NAMES, 0.8))
    with pytest.raises(ValueError, match=words):
        DicePrediction(**(values | changes))
