"""Has a denoiser learnt the density of images, or its training images by heart?

Each sample's distance to its nearest training image is compared with the distances of held-out images to theirs, which
no denoiser has seen: samples that are copies are much nearer (Carlini et al. 2023, arXiv 2301.13188, for the distance).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import torch
from scipy.stats import fisher_exact
from torch import Tensor
from torch.nn import functional

COMPARED_SIZE = {2: 64, 3: 32}  # pixels along each axis at most, by dimension
NEAR_QUANTILE = 0.05
SIGNIFICANCE = 0.001
SMALL_SET = 200  # training images; below that even small denoisers can learn each of them by heart


@dataclass(frozen=True)
class MemorisationReport:
    """Root-mean-square distances per pixel to the nearest training image.

    Attributes:
        sample_distances: of each sample.
        held_out_distances: of each held-out image.
        num_training_images: how many training images were compared.
    """

    sample_distances: Tensor
    held_out_distances: Tensor
    num_training_images: int

    @property
    def num_near(self) -> int:
        """Samples nearer to a training image than 95% of the held-out images are."""
        return self._num_near(self.sample_distances)

    @property
    def is_suspicious(self) -> bool:
        """Whether more samples than held-out images are that near, beyond chance (Fisher's exact test)."""
        table = [
            [self._num_near(distances), len(distances) - self._num_near(distances)]
            for distances in (self.sample_distances, self.held_out_distances)
        ]
        return bool(fisher_exact(table, alternative="greater").pvalue < SIGNIFICANCE)

    def _num_near(self, distances: Tensor) -> int:
        return int((distances < self.held_out_distances.quantile(NEAR_QUANTILE)).sum())

    def __str__(self) -> str:
        near, far = (d.median() for d in (self.sample_distances, self.held_out_distances))
        line = (
            f"Memorisation check: the nearest of {self.num_training_images} training images is {near:.3f} away from a "
            f"sample and {far:.3f} from a held-out image (medians); {self.num_near} of {len(self.sample_distances)} "
            f"samples are nearer than 95% of {len(self.held_out_distances)} held-out images"
        )
        if self.is_suspicious:
            line += ". WARNING: the denoiser may copy training images; train it shorter, smaller or on more images"
        if self.num_training_images < SMALL_SET:
            line += f". WARNING: {self.num_training_images} images are few; a denoiser can learn them by heart"
        return line


def check_memorisation(
    samples: Tensor, held_out: Tensor, training: Iterable[Tensor], mirror_axes: Sequence[int]
) -> MemorisationReport:
    """Compares samples and held-out images with all training images.

    Args:
        samples: images drawn from the denoiser (N, C, *space).
        held_out: images that it was not trained on (M, C, *space).
        training: training images in batches (B, C, *space).
        mirror_axes: spatial axes along which training mirrored the images; mirrored copies count as copies.
    """
    small_samples, small_held_out = _shrunk(samples), _shrunk(held_out)
    nearest = [torch.full((len(images),), torch.inf) for images in (samples, held_out)]
    num_training_images = 0
    for batch in training:
        shrunk = _shrunk(batch)
        num_training_images += len(batch)
        for axes in _subsets(mirror_axes):
            mirrored = shrunk.flip([axis + 2 for axis in axes]) if axes else shrunk
            for i, images in enumerate((small_samples, small_held_out)):
                nearest[i] = torch.minimum(nearest[i], _distances(images, mirrored).min(1).values)
    return MemorisationReport(nearest[0], nearest[1], num_training_images)


def _shrunk(images: Tensor) -> Tensor:
    """Images averaged to at most COMPARED_SIZE, where noise and single pixels no longer count."""
    largest = COMPARED_SIZE[images.ndim - 2]
    return functional.interpolate(images.float(), [min(n, largest) for n in images.shape[2:]], mode="area")


def _distances(images: Tensor, others: Tensor) -> Tensor:
    """Root mean square of the difference of each pair, (images, others)."""
    pixels = images[0].numel()
    return torch.cdist(images.flatten(1), others.flatten(1)) / pixels**0.5


def _subsets(axes: Sequence[int]) -> Iterable[tuple[int, ...]]:
    return chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))
