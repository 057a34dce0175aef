"""What the images of an iteration are noised with, where each draws some of the plans' timesteps."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nnunet_diffusion_ensemble.training.processes import BatchShare

TIMESTEPS = (1, 50, 200, 400)
PAIRS = {"ensemble.timesteps": TIMESTEPS, "training.timesteps_per_image": 2}
Draw = Callable[..., tuple[Tensor, Tensor]]


def drawn(trainer: Any, num_images: int = 3) -> tuple[Tensor, Tensor]:
    """Noise and timesteps of an iteration."""
    images = torch.zeros(num_images, 1, 16, 16)
    return trainer.noise_and_timesteps(images, range(trainer.num_drawn_timesteps))


def drawn_timesteps(trainer: Any, num_images: int, num_iterations: int) -> list[list[int]]:
    """Those of each image in each iteration, in the order in which they were drawn."""
    rows: list[list[int]] = []
    for trainer.iteration in range(num_iterations):
        rows += drawn(trainer, num_images)[1].T.tolist()
    return rows


def test_each_image_draws_different_timesteps_of_the_plans(start_ensemble) -> None:
    rows = drawn_timesteps(start_ensemble(PAIRS), num_images=8, num_iterations=10)
    assert all(len(row) == len(set(row)) == 2 and set(row) <= set(TIMESTEPS) for row in rows)


def test_all_pairs_are_drawn_alike(start_ensemble) -> None:
    rows = drawn_timesteps(start_ensemble(PAIRS), num_images=100, num_iterations=12)
    counts = Counter(tuple(row) for row in rows)
    # 1200 draws of 12 ordered pairs: 100 each, with a standard deviation of less than 10.
    assert len(counts) == 12
    assert max(abs(count - 100) for count in counts.values()) < 40


def test_without_a_number_every_image_has_all_timesteps_in_the_order_of_the_plans(start_ensemble) -> None:
    _, timesteps = drawn(start_ensemble({"ensemble.timesteps": TIMESTEPS}))
    assert timesteps.T.tolist() == [list(TIMESTEPS)] * 3


def test_every_image_has_noise_of_its_own_at_each_timestep(start_ensemble) -> None:
    noise, _ = drawn(start_ensemble(PAIRS), num_images=10)
    correlations = torch.corrcoef(noise.reshape(20, -1)) - torch.eye(20)
    assert correlations.abs().max() < 0.3  # of 256 numbers each: the standard deviation is 1/16


def test_timesteps_and_the_noise_of_each_are_drawn_by_numbers_of_their_own(start_ensemble, monkeypatch) -> None:
    trainer, numbers = start_ensemble(PAIRS), []
    of_trainer = trainer.drawn
    monkeypatch.setattr(trainer, "drawn", lambda *others: numbers.append(others[-1]) or of_trainer(*others))
    drawn(trainer)
    assert len(numbers) == len(set(numbers)) == 3


def test_a_restarted_training_draws_the_same(start_ensemble) -> None:
    first, again, another = (drawn(start_ensemble(PAIRS, epoch)) for epoch in (3, 3, 4))
    assert all(torch.equal(*both) for both in zip(first, again, strict=True))
    assert not torch.equal(first[0], another[0])


def test_processes_draw_what_one_process_draws_for_their_images(start_ensemble) -> None:
    trainer = start_ensemble(PAIRS)
    whole = drawn(trainer, 5)
    trainer.share = BatchShare(3)
    assert all(torch.equal(part, all_[:, 3:]) for part, all_ in zip(drawn(trainer, 2), whole, strict=True))


def test_passes_share_what_is_drawn(start_ensemble) -> None:
    trainer, images = start_ensemble(PAIRS), torch.zeros(3, 1, 16, 16)
    parts = [trainer.noise_and_timesteps(images, range(i, i + 1)) for i in range(2)]
    joined = [torch.cat(part) for part in zip(*parts, strict=True)]
    assert all(torch.equal(*both) for both in zip(joined, drawn(trainer), strict=True))


def test_the_loss_is_the_mean_over_the_timesteps_that_were_drawn(start_ensemble, randn, inputs_of) -> None:
    options = {**PAIRS, "ensemble.head.hidden_features": (), "ensemble.images_per_pass": 2}  # a pass for each
    trainer, same = start_ensemble(options), start_ensemble(options)
    batch = {"data": randn(2, 1, 16, 16), "target": (randn(2, 1, 16, 16) > 0).float()}
    calls = inputs_of(trainer.network)
    found = trainer.train_step(batch)["loss"]
    assert len(calls) == 2
    with torch.no_grad():
        losses = [same.loss(same.network(*call)[0], batch["target"]).item() for call in calls]
    assert found == pytest.approx(sum(losses) / 2, rel=1e-4)


def test_prediction_reads_all_timesteps(start_ensemble, randn) -> None:
    some, all_, images = start_ensemble(PAIRS), start_ensemble({"ensemble.timesteps": TIMESTEPS}), randn(2, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(some.network.eval()(images), all_.network.eval()(images))
