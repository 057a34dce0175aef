"""Temperatures that are known are found again; what a temperature must leave alone stays."""

import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from nnunet_diffusion_ensemble.calibration.temperature import PixelSample, fit_temperature, tempered


def drawn_classes(temperature: float, cases: int = 4, pixels: int = 20000) -> list[PixelSample]:
    """Labels drawn from softmax(logits); shown are the probabilities of a model that multiplies logits by T."""
    random = np.random.default_rng(0)
    samples = []
    for _ in range(cases):
        logits = random.normal(0, 2, (3, pixels))
        chosen = (softmax(logits, 0).cumsum(0) < random.random(pixels)).sum(0)
        shown = softmax(logits * temperature, 0).astype(np.float32)
        samples.append(PixelSample(shown, np.arange(3)[:, None] == chosen))
    return samples


def drawn_regions(temperatures: tuple[float, ...], pixels: int = 50000) -> list[PixelSample]:
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (len(temperatures), pixels))
    truth = random.random(logits.shape) < expit(logits)
    return [PixelSample(expit(logits * np.array(temperatures)[:, None]).astype(np.float32), truth)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_of_classes_is_found(temperature: float) -> None:
    fit = fit_temperature(drawn_classes(temperature), are_regions=False)
    assert fit.temperatures == pytest.approx((temperature,), rel=0.02)
    assert fit.nll_after <= fit.nll_before


def test_each_region_has_its_own_temperature() -> None:
    fit = fit_temperature(drawn_regions((0.6, 3.0)), are_regions=True)
    assert fit.temperatures == pytest.approx((0.6, 3.0), rel=0.05)


def test_the_likelihood_is_that_of_the_formula() -> None:
    p, y = np.array([[0.8, 0.3], [0.2, 0.7]]), np.array([[True, True], [False, False]])
    fit = fit_temperature([PixelSample(p, y)], are_regions=False)
    assert fit.nll_before == pytest.approx(-(np.log(0.8) + np.log(0.3)) / 2)


def test_cases_count_alike_whatever_their_size() -> None:
    small, large = drawn_classes(2.0, 1, 3000)[0], drawn_classes(0.5, 1, 9000)[0]
    thrice = PixelSample(np.tile(small.probabilities, 3), np.tile(small.truth, 3))
    once, again = (fit_temperature([one, large], are_regions=False) for one in (small, thrice))
    assert once.temperatures == pytest.approx(again.temperatures, rel=1e-3)


def test_a_temperature_is_that_of_the_logits() -> None:
    logits = np.random.default_rng(2).normal(0, 3, (4, 5, 6))
    found = tempered(softmax(logits, 0).astype(np.float32), [1.7], are_regions=False)
    np.testing.assert_allclose(found, softmax(logits / 1.7, 0), rtol=1e-4)
    p = expit(logits).astype(np.float32)
    found = tempered(p, [0.4, 1.0, 2.0, 5.0], are_regions=True)
    expected = expit(logit(p.astype(float)) / np.array([0.4, 1.0, 2.0, 5.0])[:, None, None])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 3.0, 20.0])
def test_no_temperature_changes_the_most_probable_class(temperature: float) -> None:
    p = softmax(np.random.default_rng(3).normal(0, 4, (5, 4000)), 0).astype(np.float32)
    found = tempered(p, [temperature], are_regions=False)
    assert np.array_equal(found.argmax(0), p.argmax(0))
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 3.0, 20.0])
def test_no_temperature_changes_whether_a_region_is_more_probable_than_not(temperature: float) -> None:
    p = np.random.default_rng(4).random((2, 4000)).astype(np.float32)
    assert np.array_equal(tempered(p, [temperature] * 2, are_regions=True) > 0.5, p > 0.5)


def test_certainty_has_no_temperature() -> None:
    p = np.array([[0.0, 1.0, 0.5]], np.float32)
    assert tempered(p, [3.0], are_regions=True).tolist() == [[0.0, 1.0, 0.5]]
    classes = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert np.array_equal(tempered(classes, [3.0], are_regions=False), classes)


def test_a_model_that_is_never_wrong_meets_the_limit() -> None:
    sample = PixelSample(np.array([[0.9, 0.2], [0.1, 0.8]]), np.array([[True, False], [False, True]]))
    assert fit_temperature([sample], are_regions=False).is_at_limit
    assert not fit_temperature(drawn_classes(1.0), are_regions=False).is_at_limit


def test_temperatures_and_pixels_are_needed() -> None:
    with pytest.raises(ValueError, match=r"2 temperature\(s\) are needed, got 1"):
        tempered(np.full((2, 3), 0.5, np.float32), [1.0], are_regions=True)
    with pytest.raises(ValueError, match="none that count"):
        fit_temperature([PixelSample(np.empty((2, 0)), np.empty((2, 0), bool))], are_regions=False)
