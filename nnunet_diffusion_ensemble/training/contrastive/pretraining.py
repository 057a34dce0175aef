"""What both contrastive pretrainings share: two views of each image, the loss between them, on held-out images, too."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from torch import Tensor

from nnunet_diffusion_ensemble.method import ContrastiveSettings
from nnunet_diffusion_ensemble.training.contrastive.learning import TwoViews, fixed_randomness, nt_xent
from nnunet_diffusion_ensemble.training.contrastive.weights import PARTS_KEY
from nnunet_diffusion_ensemble.training.pretraining import ImagePretrainTrainer
from nnunet_diffusion_ensemble.training.processes import seeded_generator


class ContrastivePretrainTrainer(ImagePretrainTrainer):
    """Trains a network so that two views of an image, drawn by nnU-Net's augmentation, are alike.

    The checkpoint has the weights of the whole U-Net under nnU-Net's names and says which of them are pretrained. The
    paper's variants that know which slices of two volumes correspond are not here: they need aligned volumes.

    Attributes:
        shared_transforms: kinds of transforms that both views of an image have in common.
    """

    shared_transforms: tuple[type[BasicTransform], ...] = ()

    @property
    def length(self) -> ContrastiveSettings:
        return self.method.contrastive

    # ---- views

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """The plans' augmentation, drawn twice but for what the views share; the image gets the channels of both."""
        transforms = super().get_training_transforms(*args, **kwargs).transforms  # type: ignore[attr-defined]
        shared = [t for t in transforms if isinstance(t, self.shared_transforms)]
        drawn_twice = [t for t in transforms if not isinstance(t, self.shared_transforms)]
        return ComposeTransforms([*shared, TwoViews(ComposeTransforms(drawn_twice))])

    def held_out_patches(self) -> Tensor:
        """Both views of the middles of the held-out images, always the same; (N, 2 * C, *patch).

        Here intensities change outside the nonzero region, too, whose mask is not at hand.
        """
        patch_size = self.configuration_manager.patch_size
        rotation, dummy_2d, _, axes = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        transforms = self.get_training_transforms(patch_size, rotation, None, axes, dummy_2d)
        with fixed_randomness(self.method.pretraining.seed):
            return torch.stack([self._transformed(transforms, patch) for patch in super().held_out_patches()])

    @staticmethod
    def _transformed(transforms: BasicTransform, patch: Tensor) -> Tensor:
        inside = torch.zeros_like(patch[:1], dtype=torch.int16)
        return transforms(image=patch, segmentation=inside)["image"]

    # ---- training

    def represent(self, images: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """What is compared: vectors of images (2 * N, features), or of regions of each (2 * N, regions, features).

        Args:
            images: first views, then second views, (2 * N, C, *space).
            generators: random numbers for each of the N images.
        """
        raise NotImplementedError

    def loss_between(self, first: Tensor, second: Tensor, cases: Tensor) -> Tensor:
        """Loss of the batch; `cases` (N,) are numbers of the cases that the images come from."""
        return nt_xent(first, second, self.method.contrastive.temperature)

    @property
    def gradient_weight(self) -> float:
        """By what the gradient of the loss is multiplied, so that DDP's mean is the gradient of the whole batch."""
        return 1.0

    def _represented(self, batch: dict, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        views = batch["data"].to(self.device, non_blocking=True).unflatten(1, (2, -1))
        with self.autocast():
            both = self.represent(views.transpose(0, 1).flatten(0, 1), generators)
        first, second = both.chunk(2)
        return first, second

    def train_step(self, batch: dict) -> dict:
        self.set_learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        generators = [self.generator(self.method.pretraining.seed, i) for i in range(len(batch["data"]))]
        first, second = self._represented(batch, generators)
        cases = torch.from_numpy(np.searchsorted(self.training_images.identifiers, batch["keys"]))
        loss = self.loss_between(first, second, cases.to(self.device, non_blocking=True)) * self.share.loss_weight
        self.backward(loss * self.gradient_weight)
        self.clip_and_step()
        self.iteration += 1
        return {"loss": loss.detach()}

    @torch.no_grad()
    def validation_step(self, batch: dict) -> dict:
        seed, positions = self.method.pretraining.seed + 1, range(batch["index"], batch["index"] + len(batch["data"]))
        first, second = self._represented(batch, [seeded_generator(self.device, seed, i) for i in positions])
        return {"first": first.float().cpu(), "second": second.float().cpu()}

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Compares all held-out images at once, so that the loss does not depend on how they share batches."""
        first, second = (torch.cat([output[name] for output in val_outputs]) for name in ("first", "second"))
        loss = nt_xent(first, second, self.method.contrastive.temperature)
        self.logger.log("val_losses", loss.item(), self.current_epoch)

    def checkpoint(self) -> dict[str, Any]:
        """With the names of the pretrained weights."""
        return super().checkpoint() | {PARTS_KEY: self.plain_network.pretrained_parts}
