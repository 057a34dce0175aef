"""Augmentation of batches in torch, on the device, without a step that waits for the device."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from shift_study.data import z_score

BLACK, GREY, MIXED = "black", "grey", "mixed"


@dataclass(frozen=True)
class Augmentation:
    """Ranges of random changes of an image in [0, 1], each of which happens with its probability.

    Attributes:
        rotation: degrees, either way.
        scale: logarithm of the magnification, either way; `stretch` adds to it for each axis by itself.
        translation: share of the image, either way.
        padding: outside the image: `black`, `grey` (the mean of the image), or `mixed`, one of both.
        gamma, contrast: logarithms, either way. Contrast is about the mean.
        brightness: added, either way.
        noise: standard deviation of white noise, at most. `blur`: of a Gaussian, in pixels, at most.
        low_resolution: smallest magnification to which an image is reduced and brought back.
        clip: whether changes of contrast and brightness end at 0 and 1.
        cutout: side of a grey square, as a share of the image, at most.
        inverted_gamma: whether gamma acts on the negative in half of the images.
        mirror: left and right.
        of_the_product: normalised first, as the package's `ShiftAugmentation` gets images: padded with their lowest
            value (`mixed`: or with 0), changed within their range, with mean and deviation kept.
    """

    rotation: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    translation: float = 0.0
    spatial_probability: float = 1.0
    padding: str = BLACK
    gamma: float = 0.0
    gamma_probability: float = 1.0
    contrast: float = 0.0
    brightness: float = 0.0
    contrast_probability: float = 1.0
    noise: float = 0.0
    noise_probability: float = 0.5
    blur: float = 0.0
    blur_probability: float = 0.5
    low_resolution: float = 1.0
    clip: bool = True
    cutout: float = 0.0
    inverted_gamma: bool = False
    mirror: bool = False
    of_the_product: bool = False

    def spatial(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Rotation, scaling and translation of images (N, 1, H, W) and masks (N, H, W) alike. Masks are 0
        outside, and keep their -1."""
        grid = functional.affine_grid(self._matrices(images), list(images.shape), align_corners=False)
        outside = self._padding_value(images)
        moved = functional.grid_sample(images - outside, grid, "bilinear", "zeros", align_corners=False) + outside
        if masks is None:
            return moved, None
        as_images = masks[:, None].to(images.dtype)
        return moved, functional.grid_sample(as_images, grid, "nearest", "zeros", align_corners=False)[:, 0].long()

    def intensity(self, images: Tensor) -> Tensor:
        """Changes of grey values of images (N, 1, H, W) in [0, 1]."""
        if self.gamma:
            images = _sometimes(self._with_gamma(images), images, self.gamma_probability)
        if self.contrast or self.brightness:
            mean = images.mean((1, 2, 3), keepdim=True)
            factor, shift = self._log_uniform(images, self.contrast), self.brightness * _either_way(images)
            changed = (images - mean) * factor + mean + shift
            changed = changed.clamp(0, 1) if self.clip else changed
            images = _sometimes(changed, images, self.contrast_probability)
        if self.low_resolution < 1:
            images = _sometimes(self._at_low_resolution(images), images, 0.25)
        if self.blur:
            images = _sometimes(_blurred(images, self.blur * _uniform(images)), images, self.blur_probability)
        if self.noise:
            noisy = images + self.noise * _uniform(images) * torch.randn_like(images)
            images = _sometimes(noisy, images, self.noise_probability)
        return self._cut_out(images) if self.cutout else images

    def __call__(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Augmented images, normalised afterwards, and their masks."""
        if not self.of_the_product:
            images, masks = self.spatial(images, masks)
            return z_score(self.intensity(images)), masks
        images, masks = self.spatial(z_score(images), masks)
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        changed = self.intensity((images - low) / (high - low))
        std, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True)
        return z_score(changed) * std + mean, masks

    def _matrices(self, images: Tensor) -> Tensor:
        """(N, 2, 3), from places in the result to places in the image."""
        angle = math.radians(self.rotation) * _either_way(images).flatten()
        both, happens = self.scale * _either_way(images).flatten(), _happens(images, self.spatial_probability).flatten()
        x, y = ((both + self.stretch * _either_way(images).flatten()).exp() for _ in range(2))
        shift_x, shift_y = (2 * self.translation * _either_way(images).flatten() for _ in range(2))
        if self.mirror:
            x = torch.where(_happens(images, 0.5).flatten(), -x, x)
        cos, sin = angle.cos(), angle.sin()
        rows = torch.stack([cos / x, -sin / x, shift_x, sin / y, cos / y, shift_y], dim=1).reshape(-1, 2, 3)
        unchanged = torch.eye(2, 3, device=images.device)
        return torch.where(happens[:, None, None], rows, unchanged)

    def _padding_value(self, images: Tensor) -> Tensor:
        black = torch.zeros_like(images[:, :, :1, :1])
        if self.of_the_product:
            black = images.amin((1, 2, 3), keepdim=True)
        if self.padding == BLACK:
            return black
        mean = images.mean((1, 2, 3), keepdim=True)
        return mean if self.padding == GREY else _sometimes(mean, black, 0.5)

    def _with_gamma(self, images: Tensor) -> Tensor:
        exponent = self._log_uniform(images, self.gamma)
        inside = images.clamp(0, 1)
        changed = inside.pow(exponent)
        if not self.inverted_gamma:
            return changed
        return _sometimes(1 - (1 - inside).pow(exponent), changed, 0.5)

    def _at_low_resolution(self, images: Tensor) -> Tensor:
        """One magnification for the batch, in steps, since sizes are fixed."""
        size = round(images.shape[-1] * self.low_resolution)
        small = functional.interpolate(images, size=(size, size), mode="nearest")
        return functional.interpolate(small, size=images.shape[2:], mode="bicubic", align_corners=False)

    def _log_uniform(self, images: Tensor, width: float) -> Tensor:
        return (width * _either_way(images)).exp()

    def _cut_out(self, images: Tensor) -> Tensor:
        inside = random_rectangles(images, 0.1, self.cutout)
        return torch.where(inside & _happens(images, 0.5), images.mean((1, 2, 3), keepdim=True), images)


def random_rectangles(images: Tensor, least: float, most: float) -> Tensor:
    """A rectangle in each image, (N, 1, H, W) bool; sides between two shares of the image's."""
    inside = []
    for axis in (2, 3):
        shape = [1, 1, 1, 1]
        shape[axis] = images.shape[axis]
        places = torch.linspace(0, 1, images.shape[axis], device=images.device).reshape(shape)
        length = least + (most - least) * _uniform(images)
        start = (1 - length) * _uniform(images)
        inside.append((places >= start) & (places <= start + length))
    return inside[0] & inside[1]


def _uniform(images: Tensor) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, device=images.device)


def _either_way(images: Tensor) -> Tensor:
    return 2 * _uniform(images) - 1


def _happens(images: Tensor, probability: float) -> Tensor:
    return _uniform(images) < probability


def _sometimes(changed: Tensor, images: Tensor, probability: float) -> Tensor:
    return changed if probability >= 1 else torch.where(_happens(images, probability), changed, images)


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each image by its own standard deviation, in pixels."""
    reach = torch.arange(-3, 4, device=images.device, dtype=images.dtype)
    kernel = (-(reach**2) / (2 * sigma.reshape(-1, 1, 1, 1).clamp_min(1e-3) ** 2)).exp()
    kernel = kernel / kernel.sum(-1, keepdim=True)
    number, rows = len(images), functional.pad(images, (3, 3, 3, 3), mode="reflect").transpose(0, 1)
    rows = functional.conv2d(rows, kernel, groups=number)
    return functional.conv2d(rows, kernel.transpose(2, 3), groups=number).transpose(0, 1)


NONE = Augmentation()
NNUNET = Augmentation(
    rotation=180, scale=0.35, spatial_probability=0.3, padding=GREY, gamma=0.36, gamma_probability=0.37, contrast=0.29,
    contrast_probability=0.28, clip=False, noise=0.06, noise_probability=0.1, blur=1.0, blur_probability=0.1,
    low_resolution=0.75, inverted_gamma=True,
)  # fmt: skip
SIMPLE = Augmentation(
    rotation=15, scale=0.3, stretch=0.15, translation=0.15, gamma=0.7, contrast=0.4, brightness=0.2
)  # fmt: skip
STRONG = Augmentation(
    rotation=25, scale=0.35, stretch=0.25, translation=0.2, gamma=1.0, contrast=0.6, brightness=0.3, noise=0.08,
    blur=1.2, low_resolution=0.6, cutout=0.3,
)  # fmt: skip
