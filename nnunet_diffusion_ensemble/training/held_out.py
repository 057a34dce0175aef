"""Images that a pretraining holds out, and patches of images."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from torch import Tensor

MOST_COMPARED_IMAGES, COMPARED_AT_ONCE = 5000, 64  # in the memorisation check


def hold_out(
    identifiers: Sequence[str] | np.ndarray, fraction: float, seed: int, fewest: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Splits names into those to train on and those held out, the same at every call; at least `fewest` of these."""
    names = np.sort(np.asarray(identifiers, np.str_))
    num_held_out = max(fewest, round(fraction * len(names)))
    is_held_out = np.zeros(len(names), bool)
    is_held_out[np.random.RandomState(seed).permutation(len(names))[:num_held_out]] = True
    return names[~is_held_out], names[is_held_out]


def central_patches(dataset: nnUNetBaseDataset, identifiers: Sequence[str], patch_size: Sequence[int]) -> Tensor:
    """The middle of each preprocessed image, cropped or padded with zeros to the patch size; (N, C, *patch)."""
    patches = []
    for identifier in identifiers:
        data = dataset.load_case(identifier)[0]
        size = (1, *patch_size) if len(patch_size) == 2 else tuple(patch_size)
        starts = [(have - want) // 2 for have, want in zip(data.shape[1:], size, strict=True)]
        patch = crop_and_pad_nd(data, [[s, s + w] for s, w in zip(starts, size, strict=True)], 0)
        patches.append(torch.from_numpy(np.asarray(patch)).float().reshape(-1, *patch_size))
    return torch.stack(patches)


def random_patches(dataset: nnUNetBaseDataset, patch_size: Sequence[int], seed: int) -> Iterator[Tensor]:
    """The middles of all images in batches, of very many those of a random choice."""
    names = np.random.RandomState(seed).permutation(dataset.identifiers)[:MOST_COMPARED_IMAGES]
    for start in range(0, len(names), COMPARED_AT_ONCE):
        yield central_patches(dataset, names[start : start + COMPARED_AT_ONCE].tolist(), patch_size)


class HeldOutBatches:
    """Endless iterator over fixed batches `{"data": images, "index": number of the first}`."""

    def __init__(self, images: Tensor, batch_size: int):
        self.batches = [
            {"data": images[i : i + batch_size], "index": i} for i in range(0, max(1, len(images)), batch_size)
        ]
        self._endless = self._cycle()

    def __len__(self) -> int:
        return len(self.batches)

    def __next__(self) -> dict:
        return next(self._endless)

    def _cycle(self) -> Iterator[dict]:
        while True:
            yield from self.batches
