"""Noise schedule against the formulas of the papers, in float64 and written a second time here."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from nnunet_diffusion_ensemble.denoiser.schedule import NoiseSchedule, alpha_bar_of

TIMESTEPS = torch.tensor([0, 250, 700])


def cosine(num_steps: int) -> np.ndarray:
    """Equation 17 of Nichol and Dhariwal with s = 0.008, betas clipped at 0.999."""
    alpha_bar, product = [], 1.0
    for t in range(1, num_steps + 1):
        now, before = (math.cos((i / num_steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in (t, t - 1))
        product *= 1 - min(1 - now / before, 0.999)
        alpha_bar.append(product)
    return np.array(alpha_bar)


def linear(num_steps: int) -> np.ndarray:
    """Ho et al.: betas from 1e-4 to 0.02 in equal steps."""
    return np.cumprod([1 - (1e-4 + (0.02 - 1e-4) * t / (num_steps - 1)) for t in range(num_steps)])


CLOSED_FORM = {"cosine": cosine, "linear": linear}


def signal_and_noise(schedule: str, t: int) -> tuple[float, float]:
    alpha_bar = CLOSED_FORM[schedule](1000)[t]
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


@pytest.mark.parametrize("num_steps", [2, 1000])
def test_alpha_bar_is_that_of_monai(num_steps: int) -> None:
    from monai.networks.schedulers import DDPMScheduler

    for name, theirs in (("cosine", "cosine"), ("linear", "linear_beta")):
        expected = DDPMScheduler(num_steps, schedule=theirs).alphas_cumprod
        torch.testing.assert_close(alpha_bar_of(name, num_steps), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("num_steps", [20, 1000])
def test_alpha_bar_follows_the_closed_form(name: str, num_steps: int) -> None:
    np.testing.assert_allclose(alpha_bar_of(name, num_steps), CLOSED_FORM[name](num_steps), rtol=1e-5)


def test_the_last_beta_of_the_cosine_schedule_is_clipped() -> None:
    first = (math.cos(0.508 / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
    np.testing.assert_allclose(alpha_bar_of("cosine", 2), [first, 0.001 * first], rtol=1e-4)


def test_linear_schedule_of_three_steps_worked_by_hand() -> None:
    expected = [0.9999, 0.9999 * 0.98995, 0.9999 * 0.98995 * 0.98]
    np.testing.assert_allclose(alpha_bar_of("linear", 3), expected, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("space", [(4, 4), (2, 3, 4)])
def test_noising_is_the_closed_form_for_each_images_own_timestep(
    schedule: str, space: tuple[int, ...], randn: Callable[..., torch.Tensor]
) -> None:
    images, noise = randn(3, 2, *space), randn(3, 2, *space)
    noised = NoiseSchedule(1000, schedule).add_noise(images, noise, TIMESTEPS)
    for i, t in enumerate(TIMESTEPS.tolist()):
        signal, sigma = signal_and_noise(schedule, t)
        torch.testing.assert_close(noised[i], signal * images[i] + sigma * noise[i], rtol=1e-4, atol=1e-4)


def test_epsilon_target_is_the_noise(randn: Callable[..., torch.Tensor]) -> None:
    images, noise = randn(3, 1, 4, 4), randn(3, 1, 4, 4)
    assert torch.equal(NoiseSchedule(prediction_type="epsilon").target(images, noise, TIMESTEPS), noise)


def test_sample_target_is_the_image(randn: Callable[..., torch.Tensor]) -> None:
    images, noise = randn(3, 1, 4, 4), randn(3, 1, 4, 4)
    assert torch.equal(NoiseSchedule(prediction_type="sample").target(images, noise, TIMESTEPS), images)


def test_velocity_target_is_the_formula_of_salimans_and_ho(randn: Callable[..., torch.Tensor]) -> None:
    images, noise = randn(3, 1, 4, 4), randn(3, 1, 4, 4)
    target = NoiseSchedule(prediction_type="v_prediction").target(images, noise, TIMESTEPS)
    for i, t in enumerate(TIMESTEPS.tolist()):
        signal, sigma = signal_and_noise("cosine", t)
        torch.testing.assert_close(target[i], signal * noise[i] - sigma * images[i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_the_image_is_recovered_from_the_true_target(prediction_type: str, randn: Callable[..., torch.Tensor]) -> None:
    schedule = NoiseSchedule(prediction_type=prediction_type)
    images, noise = randn(3, 1, 4, 4), randn(3, 1, 4, 4)
    target = schedule.target(images, noise, TIMESTEPS)
    found = schedule.predicted_image(target, schedule.add_noise(images, noise, TIMESTEPS), TIMESTEPS)
    torch.testing.assert_close(found, images, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("prediction_type", "noisy", "prediction", "expected"),
    [("epsilon", 1.0, -2.0, 2 * (1 + 3**0.5)), ("v_prediction", 0.5, -1.0, 0.25 + 0.75**0.5)],
)
def test_predicted_image_worked_by_hand_for_a_quarter_of_the_signal(
    prediction_type: str, noisy: float, prediction: float, expected: float
) -> None:
    schedule = NoiseSchedule(2, prediction_type=prediction_type)
    schedule.alpha_bar.fill_(0.25)
    found = schedule.predicted_image(torch.tensor([[[prediction]]]), torch.tensor([[[noisy]]]), torch.tensor([1]))
    assert found.item() == pytest.approx(expected)


def test_alpha_bar_is_saved_with_the_weights() -> None:
    pretrained, network = NoiseSchedule(50, "linear"), NoiseSchedule(50, "cosine")
    network.load_state_dict(pretrained.state_dict())
    np.testing.assert_allclose(network.alpha_bar, linear(50), rtol=1e-4)


def test_a_schedule_of_the_checkpoint_is_known_once_weights_are_loaded(randn: Callable[..., torch.Tensor]) -> None:
    schedule, images, noise = NoiseSchedule(50, "checkpoint"), randn(1, 1, 4, 4), randn(1, 1, 4, 4)
    schedule.load_state_dict(schedule.state_dict())  # which says nothing, either
    with pytest.raises(RuntimeError, match=r"comes with its weights \(schedule 'checkpoint'\), and no weights"):
        schedule.add_noise(images, noise, torch.tensor([3]))
    pretrained = NoiseSchedule(50, "linear")
    schedule.load_state_dict(pretrained.state_dict())
    expected = pretrained.add_noise(images, noise, torch.tensor([3]))
    assert torch.equal(schedule.add_noise(images, noise, torch.tensor([3])), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_call_leaves_later_calls_exact(dtype: torch.dtype, randn: Callable[..., torch.Tensor]) -> None:
    schedule = NoiseSchedule()
    images, noise = randn(3, 1, 4, 4), randn(3, 1, 4, 4)
    before = schedule.add_noise(images, noise, TIMESTEPS)
    schedule.add_noise(images.to(dtype), noise.to(dtype), TIMESTEPS)
    assert schedule.alpha_bar.dtype == torch.float32
    assert torch.equal(schedule.add_noise(images, noise, TIMESTEPS), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1000, "quadratic", "epsilon"), "Unknown noise schedule 'quadratic'. Allowed: cosine, linear, checkpoint"),
        ((1, "cosine", "epsilon"), "at least 2 steps, got 1"),
        ((1000, "cosine", "score"), "Unknown prediction type 'score'. Allowed: epsilon, v_prediction, sample"),
    ],
)
def test_wrong_settings_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(*arguments)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_min_snr_weights_turn_an_error_into_one_of_the_image_weighted_by_at_most_gamma(prediction_type):
    # The weighted error of the prediction must be min(SNR, gamma) times that of the image it stands for.
    schedule = NoiseSchedule(1000, "cosine", prediction_type).double()
    timesteps, gamma = torch.tensor([50, 300, 500, 700]), 5.0
    generator = torch.Generator().manual_seed(0)
    images, noise, error = (torch.randn(4, 1, 3, 3, generator=generator).double() for _ in range(3))
    noisy, target = schedule.add_noise(images, noise, timesteps), schedule.target(images, noise, timesteps)
    error_of_images = schedule.predicted_image(target + error, noisy, timesteps) - images
    alpha_bar = schedule.alpha_bar[timesteps]
    weights = torch.minimum(alpha_bar / (1 - alpha_bar), torch.tensor(gamma).double())
    found = schedule.loss_weights(timesteps, "min_snr", gamma) * error.square().flatten(1).mean(1)
    torch.testing.assert_close(found, weights * error_of_images.square().flatten(1).mean(1))
    assert len(set((weights < gamma).tolist())) == 2  # both sides of gamma are tested


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_noise_weights_make_the_loss_that_of_the_noise_whatever_is_predicted(prediction_type):
    schedule = NoiseSchedule(1000, "cosine", prediction_type).double()
    timesteps, generator = torch.tensor([5, 300, 700]), torch.Generator().manual_seed(0)
    images, noise, error = (torch.randn(3, 1, 3, 3, generator=generator).double() for _ in range(3))
    noisy, target = schedule.add_noise(images, noise, timesteps), schedule.target(images, noise, timesteps)
    estimate = schedule.predicted_image(target + error, noisy, timesteps)
    signal, sigma = schedule.signal_and_noise(timesteps, 4)
    implied_noise = (noisy - signal * estimate) / sigma
    found = schedule.loss_weights(timesteps, "noise", 5.0) * error.square().flatten(1).mean(1)
    torch.testing.assert_close(found, (implied_noise - noise).square().flatten(1).mean(1))


def test_prediction_weights_are_all_one():
    assert NoiseSchedule().loss_weights(torch.tensor([0, 999]), "prediction", 5.0).tolist() == [1.0, 1.0]
