"""Entropy, mutual information and agreement: closed forms and cases worked by hand."""

import math

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from nnunet_diffusion_ensemble.prediction.uncertainty import TimestepSpread, mean_pairwise_dice, predictive_entropy

LABELS, REGIONS = False, True


def spread_of(*timesteps: np.ndarray, are_regions: bool = LABELS) -> np.ndarray:
    spread = TimestepSpread(are_regions)
    for probabilities in timesteps:
        spread.add(probabilities)
    return spread.mutual_information()


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Probabilities of classes (first axis), anywhere on the simplex and at its corners."""
    values = np.random.RandomState(seed).gamma(0.3, size=shape)
    return (values / values.sum(0)).astype(np.float32)


# ---- entropy


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_equally_likely_classes_have_entropy_1(classes: int) -> None:
    assert predictive_entropy(np.full((classes, 2, 3), 1 / classes), LABELS) == pytest.approx(np.ones((2, 3)))


@pytest.mark.parametrize("are_regions", [LABELS, REGIONS])
def test_certainty_has_entropy_0(are_regions: bool) -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert predictive_entropy(certain, are_regions).tolist() == [0, 0]


def test_two_of_three_classes_have_log_2_over_log_3() -> None:
    found = predictive_entropy(np.array([0.5, 0.5, 0.0])[:, None], LABELS)
    assert found == pytest.approx([math.log(2) / math.log(3)])


def test_entropy_is_scipys_in_the_base_of_the_number_of_classes() -> None:
    probabilities = drawn((4, 5, 6, 7), seed=0)
    expected = scipy_entropy(probabilities.astype(np.float64), base=4, axis=0)
    np.testing.assert_allclose(predictive_entropy(probabilities, LABELS), expected, atol=1e-6)


def test_entropy_of_regions_is_the_mean_of_each_inside_against_outside() -> None:
    probabilities = np.array([0.5, 0.25, 1.0])[:, None]
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert predictive_entropy(probabilities, REGIONS) == pytest.approx([(1 + quarter + 0) / 3])


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="2 or more classes, got 1"):
        predictive_entropy(np.ones((1, 2, 2)), LABELS)


# ---- mutual information


def test_two_timesteps_certain_of_opposite_classes_share_all_information() -> None:
    assert spread_of(np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])) == pytest.approx([1])


def test_two_timesteps_certain_of_two_of_three_classes_share_log_2() -> None:
    found = spread_of(np.array([[1.0], [0.0], [0.0]]), np.array([[0.0], [1.0], [0.0]]))
    assert found == pytest.approx([math.log(2) / math.log(3)])


@pytest.mark.parametrize("are_regions", [LABELS, REGIONS])
def test_timesteps_that_predict_the_same_share_none_however_uncertain(are_regions: bool) -> None:
    same = drawn((3, 50), seed=1)
    np.testing.assert_allclose(spread_of(same, same, same, are_regions=are_regions), np.zeros(50), atol=1e-6)


def test_one_timestep_shares_none() -> None:
    assert spread_of(drawn((3, 20), seed=2)).tolist() == [0] * 20


def test_it_is_the_mean_divergence_of_the_timesteps_from_their_mean() -> None:
    # The other definition: Kullback-Leibler divergence of each timestep from the mean, here in base 3.
    timesteps = [drawn((3, 40), seed=seed).astype(np.float64) for seed in range(5)]
    mean = np.mean(timesteps, axis=0)
    expected = np.mean([scipy_entropy(p, mean, base=3, axis=0) for p in timesteps], axis=0)
    np.testing.assert_allclose(spread_of(*timesteps), expected, atol=1e-9)


@pytest.mark.parametrize("are_regions", [LABELS, REGIONS])
def test_it_lies_between_0_and_the_entropy_of_the_mean(are_regions: bool) -> None:
    timesteps = [drawn((3, 1000), seed=seed) for seed in range(8)]
    found = spread_of(*timesteps, are_regions=are_regions)
    assert found.min() >= 0
    assert (found <= predictive_entropy(np.mean(timesteps, axis=0), are_regions) + 1e-6).all()
    assert found.max() > 0.5


def test_mutual_information_of_regions_by_hand() -> None:
    # First region: opposite certainties, all information. Second: the same, none.
    found = spread_of(np.array([[1.0], [0.3]]), np.array([[0.0], [0.3]]), are_regions=REGIONS)
    assert found == pytest.approx([0.5])


def test_without_a_timestep_there_is_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="no timestep to compare"):
        TimestepSpread(LABELS).mutual_information()


# ---- agreement


def test_dice_of_pairs_by_hand() -> None:
    # Sizes 2, 4 and 1; the pairs share 2, 1 and 1: Dice 4/6, 2/3 and 2/5.
    maps = [np.array(values) for values in ([1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0])]
    assert mean_pairwise_dice(maps, [(1,)]) == pytest.approx((4 / 6 + 2 / 3 + 2 / 5) / 3)


def test_labels_count_alike_within_a_pair_and_absent_ones_not() -> None:
    # Label 1 agrees, label 2 is in one map alone, label 3 in neither.
    maps = [np.array([1, 1, 2]), np.array([1, 1, 0])]
    assert mean_pairwise_dice(maps, [(1,), (2,), (3,)]) == pytest.approx((1 + 0) / 2)


def test_a_region_is_all_of_its_labels() -> None:
    maps = [np.array([1, 2, 0]), np.array([2, 1, 0])]
    assert mean_pairwise_dice(maps, [(1, 2)]) == 1
    assert mean_pairwise_dice(maps, [(2,)]) == 0


def test_a_pair_with_nothing_in_it_does_not_count() -> None:
    maps = [np.zeros(3), np.zeros(3), np.array([0, 1, 1])]
    assert mean_pairwise_dice(maps, [(1,)]) == 0


@pytest.mark.parametrize("maps", [[], [np.ones(3)], [np.zeros(3), np.zeros(3)]])
def test_where_nothing_counts_agreement_is_not_a_number(maps: list[np.ndarray]) -> None:
    assert math.isnan(mean_pairwise_dice(maps, [(1,)]))
