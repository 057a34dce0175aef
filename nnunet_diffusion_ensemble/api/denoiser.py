"""`load_denoiser`: a pretrained denoiser for features and samples, wherever it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

from nnunet_diffusion_ensemble.api.checks import LARGEST_SEED, image_batch, whole_number, whole_numbers
from nnunet_diffusion_ensemble.denoiser.export import export_denoiser, export_folded
from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.denoiser.noise import fixed_noise
from nnunet_diffusion_ensemble.denoiser.pretrained import PretrainedDenoiser, read_pretrained
from nnunet_diffusion_ensemble.denoiser.sampling import ddim_sample
from nnunet_diffusion_ensemble.denoiser.source import denoiser_file, names_library
from nnunet_diffusion_ensemble.method import EnsembleSettings
from nnunet_diffusion_ensemble.nnunet.normalisation import normalised
from nnunet_diffusion_ensemble.system.devices import usable_device

NOISE_SEED = EnsembleSettings().noise_seed


@dataclass(frozen=True, repr=False)
class LoadedDenoiser:
    """A pretrained denoiser that is ready to use; made by `load_denoiser`.

    Attributes:
        source: what it was loaded from.
        module: the network, in eval mode on its device.
        image_size: spatial size of the images that it was trained on, and that `sample` draws; None if not known.
        pretrained: the checkpoint with its plans; None for a denoiser of another library.
    """

    source: str
    module: Denoiser
    image_size: tuple[int, ...] | None
    pretrained: PretrainedDenoiser | None

    @property
    def device(self) -> torch.device:
        return self.module.input_scale.device

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.module.input_scale.shape[1]

    @property
    def size_divisors(self) -> tuple[int, ...]:
        """Along each axis the number that the size of an image must be a multiple of."""
        return self.module.unet.size_divisors

    @property
    def num_timesteps(self) -> int:
        """Length of the diffusion process: timesteps run from 0 to this number less one."""
        return len(self.module.schedule.alpha_bar)

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Of the images that it was trained on, in nnU-Net's unit (mm; pixels of PNGs are 1); None if not known."""
        return None if self.pretrained is None else tuple(self.pretrained.configuration["spacing"])

    @property
    def normalisation(self) -> tuple[str, ...] | None:
        """nnU-Net's scheme for each channel of raw images, e.g. `ZScoreNormalization`; None if not known."""
        return None if self.pretrained is None else tuple(self.pretrained.configuration["normalization_schemes"])

    def __repr__(self) -> str:
        size = " x ".join(f"multiples of {divisor}" for divisor in self.size_divisors)
        return (
            f"LoadedDenoiser({self.source!r}, {self.channels} channel(s), {size}, {self.num_timesteps} timesteps, "
            f"{self.device})"
        )

    @torch.no_grad()
    def features(
        self,
        images: np.ndarray | Tensor,
        timesteps: Sequence[int],
        preprocessed: bool = False,
        adds_noise: bool = True,
        seed: int = NOISE_SEED,
        batch_size: int = 64,
    ) -> list[Tensor]:
        """Features of the decoder, as the segmentation head reads them.

        Args:
            images: array or tensor, (N, C, *space), or one image, (C, *space) or (*space); space is height and width,
                or depth, height and width. Any real type.
            timesteps: that the images are noised to, from 0 (the least noise) to `num_timesteps` less one.
            preprocessed: False for raw images: each is normalised by itself as the plans of the denoiser say
                (`normalisation`), like nnU-Net. True for images whose intensities are those already. Neither is
                resampled: bring the images to `spacing` before.
            adds_noise: False leaves the images without noise, and only tells the denoiser the timesteps.
            seed: of the noise, which is the same for all images and differs between timesteps; by default that of the
                planner, so that they are the features of a head with these timesteps.
            batch_size: images that go through the denoiser at once.

        Returns:
            For each decoder level, coarsest first, a float32 tensor on the CPU: (timesteps, N, features, *space of the
            level); the last level has the size of the images.

        Raises:
            TypeError, ValueError: images, timesteps or numbers do not fit; the message says what is allowed.
        """
        steps = whole_numbers(timesteps, "timesteps", 0, self.num_timesteps - 1)
        batch_size = whole_number(batch_size, "batch_size", 1)
        batch = self._preprocessed(images, preprocessed)
        noise = self._noise(seed, (len(steps), 1, *batch.shape[1:])) if adds_noise else [None] * len(steps)
        of_steps = [self._features_at(batch.split(batch_size), t, eps) for t, eps in zip(steps, noise, strict=True)]
        return [torch.stack(level) for level in zip(*of_steps, strict=True)]

    def sample(self, num_images: int, seed: int = 0, steps: int = 50, size: Sequence[int] | None = None) -> Tensor:
        """Draws images (deterministic DDIM).

        Args:
            num_images: how many.
            seed: of the noise at the start; the same seed gives the same images.
            steps: passes of the denoiser.
            size: spatial size; None is `image_size`.

        Returns:
            (num_images, C, *size) in float32 on the CPU, in the intensities of preprocessed images.

        Raises:
            TypeError, ValueError: a number is out of its range, or the size does not fit.
        """
        num_images = whole_number(num_images, "num_images", 1)
        steps = whole_number(steps, "steps", 1, self.num_timesteps)
        seed = whole_number(seed, "seed", 0, LARGEST_SEED)
        size = self.image_size if size is None else whole_numbers(size, "size", 1)
        if size is None:
            raise ValueError(f"{self.source} does not say the size of its images. Name one: size=(64, 64).")
        self.module.unet.check_size(size)
        return ddim_sample(self.module, num_images, size, steps, seed)

    def export(
        self, output: str | Path, half: bool = False, timestep: int | None = None, for_nnssl: bool = False
    ) -> None:
        """Writes a file to pass on: averaged weights and plans, and nothing of your machine.

        Args:
            output: file to write, whole or not at all; one named `.safetensors` in that format.
            half: parameters in float16, half the size.
            timestep: instead, the U-Net at this timestep as pretrained weights for nnU-Net's own trainers.
            for_nnssl: with a timestep, and of volumes: in the form of nnssl's checkpoints.

        Raises:
            ValueError: this denoiser cannot be exported so, or `output` is its own checkpoint.
            FileNotFoundError: the folder of `output` is missing.
        """
        if self.pretrained is None:
            raise ValueError(
                f"{self.source} has no plans yet. Plan a data set for it (nnunet-diffusion plan -d ID --denoiser "
                f"{self.source}), which writes a checkpoint, and export that."
            )
        if timestep is not None:
            export_folded(self.pretrained, Path(output), timestep, half, for_nnssl)
        elif for_nnssl:
            raise ValueError("In nnssl's form a denoiser is written at one timestep: name it (--timestep 50).")
        else:
            export_denoiser(self.pretrained, Path(output), half)

    def _preprocessed(self, images: np.ndarray | Tensor, preprocessed: bool) -> Tensor:
        batch = image_batch(images, self.channels, self.module.unet.dimension)
        self.module.unet.check_size(batch.shape[2:])
        if preprocessed:
            return batch
        if self.pretrained is None:
            low, high = self.module.intensity_range.tolist()
            raise ValueError(
                f"{self.source} was trained by another library, whose files do not say how raw images are normalised. "
                f"Bring them to the range that it was trained on, {low:g} to {high:g}, and say preprocessed=True."
            )
        plans, name = PlansManager(self.pretrained.plans), self.pretrained.configuration_name
        return torch.from_numpy(np.stack([normalised(image, plans, name) for image in batch.numpy()]))

    def _noise(self, seed: int, shape: Sequence[int]) -> Tensor:
        return fixed_noise(whole_number(seed, "seed", 0, LARGEST_SEED), shape).to(self.device)

    def _features_at(self, batches: Sequence[Tensor], timestep: int, noise: Tensor | None) -> list[Tensor]:
        """(N, features, *space) of each level."""
        of_batches = []
        for images in batches:
            times = torch.full((len(images),), timestep, device=self.device)
            repeated = None if noise is None else noise.expand(images.shape)
            levels = self.module.features(images.to(self.device), repeated, times)
            of_batches.append([level.cpu() for level in levels])
        return [torch.cat(level) for level in zip(*of_batches, strict=True)]


def load_denoiser(source: str | Path, device: str | None = None, trust: bool = False) -> LoadedDenoiser:
    """Loads a pretrained denoiser.

    Args:
        source: name of a denoiser that ships with the package (`chest-xray-64`), path of a checkpoint of
            `DiffusionPretrainTrainer` or `DiffusionEnsembleTrainer`, or `LIBRARY:PATH` for a denoiser that another
            library trained (`diffusers:FOLDER`, `monai:FILE`, `guided_diffusion:FILE`).
        device: `cuda`, `cuda:1`, `cpu` or `mps`; None is CUDA where it is there, else the CPU.
        trust: run code of a checkpoint if it cannot be read without, as nnU-Net does; ours and nnU-Net's can.

    Raises:
        FileNotFoundError: there is no such file or shipped denoiser; the message names those that ship.
        ValueError: the file holds no denoiser, or one that was never trained, or there is no such device.
        RuntimeError: the library is not installed.
    """
    where = usable_device(device)
    if names_library(str(source)):
        # Libraries are slow to import.
        from nnunet_diffusion_ensemble.denoiser.foreign.denoiser import read_foreign

        foreign = read_foreign(str(source))
        return LoadedDenoiser(str(source), _frozen(foreign.module(), where), foreign.native_size, None)
    pretrained = read_pretrained(denoiser_file(str(source)), trust)
    pretrained.refuse_untrained()
    return LoadedDenoiser(str(source), _frozen(pretrained.module(), where), pretrained.patch_size, pretrained)


def _frozen(module: Any, device: torch.device) -> Denoiser:
    return module.requires_grad_(False).to(device)
