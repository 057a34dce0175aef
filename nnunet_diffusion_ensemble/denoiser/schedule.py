"""Noise schedule: the forward process of a DDPM and the changes between its predictions.

Ho et al. 2020 (arXiv 2006.11239), cosine schedule of Nichol and Dhariwal 2021 (arXiv 2102.09672), velocity of Salimans
and Ho 2022 (arXiv 2202.00512). MONAI's scheduler does not fit a network's forward pass: it keeps alpha-bar outside the
module's buffers and casts it in place to the type of its input, so that one half-precision call spoils it for good.
"""

import math

import torch
from torch import Tensor, nn

from nnunet_diffusion_ensemble.method import FROM_CHECKPOINT


def cosine_betas(num_diffusion_steps: int) -> Tensor:
    """1 - f(t + 1) / f(t) with f(t) = cos^2((t / T + s) / (1 + s) pi / 2), s = 0.008, at most 0.999 (Nichol and
    Dhariwal 2021, equation 17); (steps,) in float64."""
    share = torch.linspace(0, 1, num_diffusion_steps + 1, dtype=torch.float64)
    f = torch.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def linear_betas(num_diffusion_steps: int) -> Tensor:
    """From 1e-4 to 0.02 in equal steps (Ho et al. 2020, section 4); (steps,) in float64."""
    return torch.linspace(1e-4, 0.02, num_diffusion_steps, dtype=torch.float64)


SCHEDULES = {"cosine": cosine_betas, "linear": linear_betas}
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def alpha_bar_of(schedule: str, num_diffusion_steps: int) -> Tensor:
    """Share of the signal's variance left at each timestep, shape (steps,), falling from nearly 1 to nearly 0.

    The schedule `checkpoint` gives NaN, to be replaced by what comes with the weights.

    Raises:
        ValueError: for an unknown schedule or fewer than two steps.
    """
    if schedule not in (*SCHEDULES, FROM_CHECKPOINT):
        allowed = ", ".join((*SCHEDULES, FROM_CHECKPOINT))
        raise ValueError(f"Unknown noise schedule {schedule!r}. Allowed: {allowed}.")
    if num_diffusion_steps < 2:
        raise ValueError(f"A diffusion process needs at least 2 steps, got {num_diffusion_steps}.")
    if schedule == FROM_CHECKPOINT:
        return torch.full((num_diffusion_steps,), torch.nan)
    return torch.cumprod(1 - SCHEDULES[schedule](num_diffusion_steps), dim=0).float()


class NoiseSchedule(nn.Module):
    """Noising of images and the meaning of what the denoiser predicts.

    alpha-bar is a buffer that is saved with the weights, so that a pretrained denoiser brings its own schedule.

    Args:
        num_diffusion_steps: length of the diffusion process; timesteps run from 0 to this number less one.
        schedule: `cosine`, `linear`, or `checkpoint`: alpha-bar comes with the weights, and use before is an error.
        prediction_type: `epsilon` (the noise), `v_prediction` (the velocity) or `sample` (the image).
    """

    alpha_bar: Tensor

    def __init__(self, num_diffusion_steps: int = 1000, schedule: str = "cosine", prediction_type: str = "epsilon"):
        super().__init__()
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"Unknown prediction type {prediction_type!r}. Allowed: {', '.join(PREDICTION_TYPES)}.")
        self.prediction_type = prediction_type
        self.register_buffer("alpha_bar", alpha_bar_of(schedule, num_diffusion_steps))
        self.is_known = schedule != FROM_CHECKPOINT

    def _check_known(self) -> None:
        if not self.is_known:
            self.is_known = not bool(self.alpha_bar.isnan().any())  # remembered: looking into a tensor halts a GPU
        if not self.is_known:
            raise RuntimeError(
                "The noise schedule of this denoiser comes with its weights (schedule 'checkpoint'), and no weights "
                "have been loaded. Load them first, with -pretrained_weights or pretrained_checkpoint in the plans."
            )

    def signal_and_noise(self, timesteps: Tensor, ndim: int) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar) and sqrt(1 - alpha_bar) of timesteps (N,), shaped to multiply `ndim`-dimensional data."""
        self._check_known()
        alpha_bar = self.alpha_bar[timesteps].reshape(-1, *[1] * (ndim - 1))
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def add_noise(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps; images and noise (N, C, *space), timesteps (N,)."""
        signal, sigma = self.signal_and_noise(timesteps, images.ndim)
        return signal * images + sigma * noise

    def target(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser learns to predict: eps, x_0, or v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return images
        signal, sigma = self.signal_and_noise(timesteps, images.ndim)
        return signal * noise - sigma * images

    def predicted_image(self, prediction: Tensor, noisy_images: Tensor, timesteps: Tensor) -> Tensor:
        """The image x_0 that a prediction at x_t stands for."""
        if self.prediction_type == "sample":
            return prediction
        signal, sigma = self.signal_and_noise(timesteps, noisy_images.ndim)
        if self.prediction_type == "epsilon":
            return (noisy_images - sigma * prediction) / signal
        return signal * noisy_images - sigma * prediction

    def loss_weights(self, timesteps: Tensor, weighting: str, gamma: float) -> Tensor:
        """Weights (N,) of the squared error of the prediction.

        SNR is alpha_bar / (1 - alpha_bar). An error of eps is one of x_0 times sqrt(SNR), one of v times sqrt(SNR + 1).

        Args:
            timesteps: (N,).
            weighting: `prediction` weighs all timesteps alike, `noise` makes the loss that of the noise (DDPM's),
                whatever is predicted, and `min_snr` weighs the error of x_0 by min(SNR, gamma) (Hang et al. 2023,
                arXiv 2303.09556).
            gamma: for `min_snr`.
        """
        if weighting == "prediction":
            return torch.ones_like(self.alpha_bar[timesteps])
        alpha_bar = self.alpha_bar[timesteps]
        snr = alpha_bar / (1 - alpha_bar)
        squared_factor = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}
        limit = gamma if weighting == "min_snr" else torch.inf
        return snr.clamp(max=limit) / squared_factor[self.prediction_type]
