"""Parts of the pretraining: weight average and learning rate against their formulas, the split of images, the log."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_diffusion_ensemble.method import DenoiserSettings, DiffusionMethod
from nnunet_diffusion_ensemble.network.ensemble import TimestepEnsembleNetwork
from nnunet_diffusion_ensemble.training.denoising_network import PretrainingNetwork, WeightAverage, ema_decay_at
from nnunet_diffusion_ensemble.training.held_out import HeldOutBatches, central_patches, hold_out
from nnunet_diffusion_ensemble.training.learning_rate import WarmupCosine
from nnunet_diffusion_ensemble.training.time_limit import TimeLimit


class Volumes:
    """Stands in for nnU-Net's data set: arrays (channels, z, y, x) by name."""

    def __init__(self, **arrays: np.ndarray):
        self.arrays = arrays

    def load_case(self, identifier: str) -> tuple:
        return self.arrays[identifier], None, None, {}


def counting(*shape: int) -> np.ndarray:
    """0, 1, 2, ... in the given shape."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def make_schedule(peak: float, warmup: int, total: int, per_epoch: int) -> WarmupCosine:
    return WarmupCosine(torch.optim.SGD([nn.Parameter(torch.zeros(1))], 123.0), peak, warmup, total, per_epoch)


def test_the_denoiser_is_named_as_in_the_segmentation_network(architecture):
    method = DiffusionMethod()
    network = TimestepEnsembleNetwork(architecture("2d"), 1, 2, method, (16, 16))
    expected = {name for name in network.state_dict() if name.startswith("denoiser.")}
    assert set(PretrainingNetwork(architecture("2d"), 1, method.denoiser).state_dict()) == expected


def test_pretraining_network_gives_prediction_and_target_of_its_denoiser(architecture, randomise, randn):
    network = randomise(PretrainingNetwork(architecture("2d"), 1, DenoiserSettings()))
    arguments = randn(2, 1, 16, 16), randn(2, 1, 16, 16), torch.tensor([3, 400])
    for found, expected in zip(network(*arguments), network.denoiser(*arguments), strict=True):
        assert torch.equal(found, expected)


# ---- weight average


@pytest.mark.parametrize(
    ("num_updates", "decay", "expected"),
    [(0, 0.9999, 0.0), (15, 0.9999, 0.875), (255, 0.9999, 1 - 1 / 64), (10**8, 0.9999, 0.9999), (15, 0.5, 0.5)],
)
def test_decay_is_one_less_the_updates_to_the_power_of_minus_three_quarters(num_updates, decay, expected):
    assert ema_decay_at(num_updates, decay) == pytest.approx(expected)


def test_averaged_weights_follow_the_recursion_worked_in_plain_numbers():
    network, values = nn.Linear(1, 1), [3.0, -1.0, 4.0, 1.0, -5.0, 9.0]
    averaged, expected = WeightAverage(network, decay=0.6), None
    for i, value in enumerate(values):
        nn.init.constant_(network.weight, value)
        averaged.update_parameters(network)
        decay = min(0.6, 1 - 1 / (1 + i) ** 0.75)
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert averaged.module.weight.item() == pytest.approx(expected, rel=1e-5)


def test_buffers_are_copied_and_not_averaged():
    network = nn.BatchNorm1d(1)
    averaged = WeightAverage(network, decay=0.9)
    for value in (2.0, 6.0, 7.0):
        network.running_mean.fill_(value)
        averaged.update_parameters(network)
    assert averaged.module.running_mean.item() == 7.0


def test_averaging_leaves_the_trained_weights_alone():
    network = nn.Linear(1, 1)
    averaged = WeightAverage(network, decay=0.9)
    for value in (2.0, 6.0):
        nn.init.constant_(network.weight, value)
        averaged.update_parameters(network)
    assert network.weight.item() == 6.0


# ---- learning rate


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [(0, 0.2), (3, 0.8), (4, 1.0), (5, 1.0), (50, 0.5), (95, 0.0), (200, 0.0)],
)
def test_learning_rate_rises_in_equal_steps_and_falls_along_half_a_cosine(iteration, expected):
    # Warm-up of 5 iterations, then 90 iterations down; halfway, at 5 + 45, the cosine is at half its height.
    assert make_schedule(1.0, 5, 95, 10).rate_at(iteration) == pytest.approx(expected, abs=1e-12)


def test_learning_rate_at_a_third_of_the_way_down_is_three_quarters_of_the_peak():
    assert make_schedule(4e-4, 10, 100, 10).rate_at(40) == pytest.approx(4e-4 * (1 + math.cos(math.pi / 3)) / 2)


def test_warmup_takes_no_more_than_a_tenth_of_a_short_training():
    schedule = make_schedule(1.0, 500, 40, 10)
    assert [schedule.rate_at(i) for i in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_a_training_too_short_for_a_warmup_starts_at_the_peak():
    assert make_schedule(1.0, 500, 9, 3).rate_at(0) == 1.0


def test_the_learning_rate_of_an_epoch_is_that_of_its_first_iteration():
    schedule = make_schedule(1.0, 0, 100, 25)
    schedule.step(2)
    assert schedule.optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


def test_the_rate_at_the_start_of_an_epoch_knows_how_much_time_is_used():
    schedule = make_schedule(1.0, 0, 100, 10)
    schedule.share_of_time = 0.5
    schedule.step(1)
    assert schedule.optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


def test_every_parameter_group_gets_the_rate():
    groups = [{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    schedule = WarmupCosine(torch.optim.SGD(groups, 123.0), 1.0, 0, 100, 25)
    schedule.set_iteration(50)
    assert [group["lr"] for group in schedule.optimizer.param_groups] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    ("iteration", "share_of_time", "expected"),
    [(10, 0.5, 0.5), (60, 0.25, 0.5), (60, 1.0, 0.0), (60, 1.5, 0.0), (0, 0.0, 0.1), (0, 0.5, 0.1), (0, 1.0, 0.0)],
)
def test_the_rate_falls_with_iterations_or_time_whichever_comes_first(iteration, share_of_time, expected):
    schedule = make_schedule(1.0, 10, 110, 10)  # iteration 60 is the middle of the half cosine
    assert schedule.rate_at(iteration, share_of_time) == pytest.approx(expected)


# ---- time limit


def test_a_limit_is_reached_when_the_next_epoch_would_be_mostly_beyond_it():
    limit, reached = TimeLimit(1.0), []
    for _ in range(4):
        limit.note_epoch(1000)
        reached.append(limit.is_reached)
    assert reached == [False, False, False, True]  # 3500 s into half of a fourth epoch, 4500 s into half of a fifth


def test_the_share_of_time_goes_on_within_an_epoch():
    limit = TimeLimit(1.0)
    assert limit.share_used(0.5) == 0.0
    limit.note_epoch(900)
    assert [limit.share_used(part) for part in (0.0, 0.5, 1.0)] == pytest.approx([0.25, 0.375, 0.5])


def test_without_a_limit_time_plays_no_part():
    limit = TimeLimit(None)
    limit.note_epoch(1e9)
    assert not limit.is_reached
    assert limit.share_used(0.5) == 0.0


# ---- held-out images


@pytest.mark.parametrize(
    ("count", "fraction", "num_held_out"), [(100, 0.05, 5), (10, 0.05, 1), (3, 0.5, 2), (1, 0.05, 1), (0, 0.05, 0)]
)
def test_held_out_images_and_the_others_are_disjoint_and_complete(count, fraction, num_held_out):
    names = [f"image_{i:03d}" for i in range(count)]
    training, held_out = hold_out(names, fraction, 12345)
    assert len(held_out) == num_held_out
    assert sorted([*training, *held_out]) == names  # each once


def test_the_same_images_are_held_out_in_whatever_order_they_come():
    names = [f"image_{i:03d}" for i in range(50)]
    for one, other in zip(hold_out(names[::-1], 0.2, 7), hold_out(names, 0.2, 7), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_fewer_images_are_held_out_than_asked_for():
    kept, held_out = hold_out([f"case_{i}" for i in range(10)], 0.1, 0, fewest=3)
    assert (len(kept), len(held_out)) == (7, 3)


def test_another_seed_holds_out_other_images():
    names = [f"image_{i:03d}" for i in range(50)]
    assert set(hold_out(names, 0.2, 7)[1]) != set(hold_out(names, 0.2, 8)[1])


def test_held_out_images_are_spread_over_the_names():
    held_out = hold_out([f"{i:03d}" for i in range(200)], 0.5, 0)[1]
    first_half = sum(int(name) < 100 for name in held_out)
    assert 30 < first_half < 70  # 50 expected, standard deviation 3.5


def test_central_patch_of_a_slice_is_its_middle():
    dataset = Volumes(a=counting(1, 1, 4, 6))
    found = central_patches(dataset, ["a"], [2, 2])
    assert found.tolist() == [[[[8, 9], [14, 15]]]]


def test_central_patch_of_a_volume_is_its_middle():
    volume = counting(2, 6, 5, 4)
    found = central_patches(Volumes(a=volume), ["a"], [2, 3, 2])
    np.testing.assert_array_equal(found, volume[None, :, 2:4, 1:4, 1:3])


def test_small_images_are_padded_with_zeros_on_all_sides():
    found = central_patches(Volumes(a=np.ones((1, 1, 2, 4), np.float32)), ["a"], [4, 4])
    np.testing.assert_array_equal(found[0, 0], [[0] * 4, [1] * 4, [1] * 4, [0] * 4])


def test_central_patches_come_in_the_order_of_the_names():
    dataset = Volumes(a=np.full((1, 1, 2, 2), 1.0), b=np.full((1, 1, 2, 2), 2.0))
    assert central_patches(dataset, ["b", "a"], [2, 2])[:, 0, 0, 0].tolist() == [2.0, 1.0]


def test_held_out_batches_repeat_endlessly_and_say_where_they_start():
    images = torch.arange(5.0).reshape(5, 1, 1, 1)
    batches = HeldOutBatches(images, 2)
    assert len(batches) == 3
    found = [next(batches) for _ in range(4)]
    assert [batch["index"] for batch in found] == [0, 2, 4, 0]
    assert [batch["data"].flatten().tolist() for batch in found] == [[0, 1], [2, 3], [4], [0, 1]]
