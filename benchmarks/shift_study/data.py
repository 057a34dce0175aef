"""The images of the study: packed once into a file, and put on the device whole."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SEEDS, LABEL_COUNTS = (3, 4), (1, 6)  # seeds 0 to 2 are those of the results
LABELLED = ("montgomery", "shenzhen")
UNLABELLED = ("unlabelled_nih", "unlabelled_shenzhen")


def pack(data: Path, output: Path, sizes: tuple[int, ...]) -> None:
    """Writes images of all groups as uint8 (N, size, size), masks (0, 1), names and the protocol into one file."""
    from nnunet_diffusion_ensemble.data.pixels import read_mask, read_pixels, resize_image, resize_mask

    arrays: dict[str, Any] = {"protocol": np.array((data / "few_label_splits.json").read_text())}
    for group in (*LABELLED, *UNLABELLED):
        folder = data / group / "images" if group in LABELLED else data / group
        files = sorted(folder.glob("*.png"))
        arrays[f"{group}_names"] = np.array([file.stem for file in files])
        pixels = [read_pixels(file)[0] for file in files]
        masks = [read_mask(folder.parent / "masks" / file.name) for file in files] if group in LABELLED else []
        for size in sizes:
            arrays[f"{group}_images_{size}"] = np.stack([resize_image(_grey(p), (size, size)) for p in pixels])
            if masks:
                resized = [resize_mask(mask, (size, size)) > 0 for mask in masks]
                arrays[f"{group}_masks_{size}"] = np.stack(resized).astype(np.uint8)
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(output, **arrays)


def _grey(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 2 else pixels[..., 0]


def z_score(images: Tensor) -> Tensor:
    """Each image (N, 1, H, W) with mean 0 and standard deviation 1, as nnU-Net normalises."""
    std, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / std.clamp_min(1e-8)


def z_score_of_content(images: Tensor) -> Tensor:
    """As nnU-Net's preprocessing and loader leave an image: rows and columns at the border that are black throughout
    are cut off before the normalisation, and the patch is filled up on all sides with 0."""
    results = torch.zeros_like(images)
    for image, result in zip(images, results, strict=True):
        rows, columns = (image[0] > 0).any(1).nonzero().flatten(), (image[0] > 0).any(0).nonzero().flatten()
        content = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        top, left = ((n - m) // 2 for n, m in zip(image.shape[1:], content.shape[1:], strict=True))
        result[:, top : top + content.shape[1], left : left + content.shape[2]] = z_score(content[None])[0]
    return results


def content_of(images: Tensor, masks: Tensor) -> Tensor:
    """Masks (N, H, W) moved as `z_score_of_content` moves the images; -1 outside."""
    results = torch.full_like(masks, -1)
    for image, mask, result in zip(images, masks, results, strict=True):
        rows, columns = (image[0] > 0).any(1).nonzero().flatten(), (image[0] > 0).any(0).nonzero().flatten()
        content = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        top, left = ((n - m) // 2 for n, m in zip(mask.shape, content.shape, strict=True))
        result[top : top + content.shape[0], left : left + content.shape[1]] = content
    return results


@dataclass(frozen=True)
class Cases:
    """Images (N, 1, H, W) in [0, 1] and masks (N, H, W), int64; no masks where there are none."""

    images: Tensor
    masks: Tensor | None = None


class Data:
    """The packed file on a device.

    Args:
        file: written by `pack`.
        size: of the images.
        device: where all of it is held.
        most_images: tested in a hospital, and without labels; None: all.
    """

    def __init__(self, file: Path, size: int, device: torch.device, most_images: int | None = None):
        self.most_images = most_images
        self._cropped: dict[int, Cases] = {}
        self.arrays, self.size, self.device = dict(np.load(file)), size, device
        self.protocol = json.loads(str(self.arrays["protocol"]))

    def images(self, group: str) -> Tensor:
        packed = torch.from_numpy(self.arrays[f"{group}_images_{self.size}"])
        return packed[:, None].to(self.device).float() / 255

    def masks(self, group: str) -> Tensor:
        return torch.from_numpy(self.arrays[f"{group}_masks_{self.size}"]).to(self.device).long()

    def _named(self, names: list[str]) -> Cases:
        positions = {str(name): i for i, name in enumerate(self.arrays["montgomery_names"])}
        rows = torch.tensor([positions[name] for name in names], device=self.device)
        return Cases(self.images("montgomery")[rows], self.masks("montgomery")[rows])

    def labelled(self, seed: int, number: int) -> Cases:
        """The first cases of a seed's order."""
        return self._named(self.protocol["seeds"][str(seed)]["train_order"][:number])

    def at_home(self, seed: int) -> Cases:
        """Montgomery's cases that are neither in the seed's order nor among the test cases of the results."""
        order = self.protocol["seeds"][str(seed)]["train_order"]
        return self._named([name for name in self.pool_names if name not in set(order)][: self.most_images])

    def at_home_cropped(self, seed: int) -> Cases:
        """The same, preprocessed as nnU-Net does."""
        if seed not in self._cropped:
            cases = self.at_home(seed)
            assert cases.masks is not None
            self._cropped[seed] = Cases(z_score_of_content(cases.images), content_of(cases.images, cases.masks))
        return self._cropped[seed]

    @cached_property
    def pool_names(self) -> list[str]:
        test = set(self.protocol["in_domain_test"])
        return [str(name) for name in self.arrays["montgomery_names"] if str(name) not in test]

    @cached_property
    def shenzhen(self) -> Cases:
        return Cases(self.images("shenzhen")[: self.most_images], self.masks("shenzhen")[: self.most_images])

    def unlabelled(self, target_hospital: bool) -> Tensor:
        """Images without labels; of Shenzhen only where asked for."""
        groups = UNLABELLED if target_hospital else UNLABELLED[:1]
        return torch.cat([self.images(group)[: self.most_images] for group in groups])

    def for_pretraining(self, target_hospital: bool) -> Tensor:
        """All images that a denoiser may see: those without labels, and Montgomery's without the test cases."""
        return torch.cat([self._named(self.pool_names).images, self.unlabelled(target_hospital)])
