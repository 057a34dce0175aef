"""What every U-Net inside a denoiser offers, whoever trained it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


def _nearest_multiples(n: int, divisor: int) -> str:
    below = n // divisor * divisor
    return f"{below} or {below + divisor}" if below and below != n else str(below or divisor)


class DenoisingUNet(nn.Module, ABC):
    """A U-Net that predicts from noisy images and timesteps, and shows the features of its decoder.

    Attributes:
        feature_channels: channels of each decoder level, coarsest first.
        size_divisors: along each axis the number that the size of an image must be a multiple of.
    """

    feature_channels: tuple[int, ...]
    size_divisors: tuple[int, ...]

    @property
    def dimension(self) -> int:
        """2 or 3."""
        return len(self.size_divisors)

    def check_size(self, size: Sequence[int]) -> None:
        """Raises ValueError for a spatial size that the topology cannot halve and double without a remainder."""
        divisors = self.size_divisors
        allowed = " x ".join(f"multiples of {divisor}" for divisor in divisors)
        message = f"This denoiser works on images of {allowed}, not {' x '.join(map(str, size))}."
        if len(size) != self.dimension:
            raise ValueError(message)
        if any(n < divisor or n % divisor for n, divisor in zip(size, divisors, strict=True)):
            nearest = " x ".join(_nearest_multiples(n, divisor) for n, divisor in zip(size, divisors, strict=True))
            raise ValueError(f"{message} The nearest that fit: {nearest}.")

    @property
    @abstractmethod
    def output_layers(self) -> tuple[nn.Module, ...]:
        """What makes the prediction of the finest level; the features do not depend on it."""

    @abstractmethod
    def features(self, noisy_images: Tensor, timesteps: Tensor) -> list[Tensor]:
        """Outputs of all decoder levels, coarsest first; the last has the size of the image.

        Args:
            noisy_images: (N, C, *space).
            timesteps: (N,), one for each image.
        """

    @abstractmethod
    def forward(self, noisy_images: Tensor, timesteps: Tensor) -> Tensor:
        """Prediction (N, C, *space) for noisy images (N, C, *space) at timesteps (N,)."""
