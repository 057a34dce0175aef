"""The networks of the study: the package's own, and nnU-Net's residual-encoder U-Net without diffusion."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.noise import fixed_noise
from nnunet_diffusion_ensemble.denoiser.pretrained import load_into_network, read_pretrained
from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.network.ensemble import TimestepEnsembleNetwork

CLASSES = 2
TIMESTEPS = (1, 10, 25, 50, 100, 200, 300, 400, 600, 800)
ENSEMBLES = {
    "eight": (1, 10, 25, 50, 200, 400, 600, 800),
    "to 400": (1, 10, 25, 50, 100, 200, 400),
    "to 200": (1, 10, 25, 50, 100, 200),
    "1": (1,),
}


def architecture_of(features: Sequence[int], norm: str = "instance") -> dict[str, Any]:
    """A residual-encoder U-Net in the plans' words, one stage for each number of features."""
    stages = len(features)
    norms = {"instance": "instancenorm.InstanceNorm2d", "batch": "batchnorm.BatchNorm2d"}
    arguments = {
        "n_stages": stages,
        "features_per_stage": list(features),
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3]] * stages,
        "strides": [[1, 1]] + [[2, 2]] * (stages - 1),
        "n_blocks_per_stage": [1] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.{norms[norm]}",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


class PlainUNet(nn.Module):
    """The U-Net that learns from labels alone."""

    def __init__(self, architecture: Mapping[str, Any]):
        super().__init__()
        names = (architecture["network_class_name"], deepcopy(architecture["arch_kwargs"]))
        imported = architecture["_kw_requires_import"]
        self.unet = get_network_from_plans(*names, imported, 1, CLASSES, allow_init=True, deep_supervision=False)

    def logits_for_loss(self, images: Tensor) -> Tensor:
        return self.unet(images)

    def timestep_logits(self, images: Tensor, timesteps: Sequence[int]) -> Tensor:
        """(1, N, classes, H, W)."""
        return self.unet(images)[None]

    def parameter_groups(self, rate: float, denoiser_rate: float) -> list[dict[str, Any]]:
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": rate}]


class DiffusionSegmentation(nn.Module):
    """The package's network on a pretrained denoiser.

    Args:
        checkpoint: the denoiser.
        fine_tuned: `none`, `decoder`, or `all`.
        highest: timesteps of training are drawn below it; None: from the eight published ones.
        head: settings of the head, by dotted path.
    """

    def __init__(self, checkpoint: Path, fine_tuned: str, highest: int | None, head: Mapping[str, Any]):
        super().__init__()
        pretrained = read_pretrained(checkpoint)
        options = {"training.fine_tune_denoiser": fine_tuned != "none", **head}
        base = DiffusionMethod(denoiser=pretrained.settings)
        method = base.with_options(options)
        architecture = deepcopy(dict(pretrained.architecture))
        self.network = TimestepEnsembleNetwork(architecture, 1, CLASSES, method, pretrained.patch_size)
        load_into_network(self.network, checkpoint, architecture)
        if fine_tuned == "decoder":
            self.network.denoiser.unet.encoder.requires_grad_(False)
            self.network.denoiser.unet.embedding.requires_grad_(False)
        self.highest = highest
        for number, timestep in enumerate(TIMESTEPS):
            noise = fixed_noise(12345 + number, (1, 1, 1, *pretrained.patch_size))
            self.register_buffer(f"noise_{timestep}", noise, persistent=False)

    def drawn_timesteps(self, number: int) -> Tensor:
        """(1, N)."""
        device = self.network.timesteps.device
        if self.highest is not None:
            return torch.randint(self.highest, (1, number), device=device)
        return self.network.timesteps[torch.randint(len(self.network.timesteps), (1, number), device=device)]

    def logits_for_loss(self, images: Tensor) -> Tensor:
        return self.network(images, torch.randn_like(images)[None], self.drawn_timesteps(len(images)))[0]

    def timestep_logits(self, images: Tensor, timesteps: Sequence[int]) -> Tensor:
        """(timesteps, N, classes, H, W), with fixed noise."""
        results = []
        for timestep in timesteps:
            told = torch.full((1, len(images)), timestep, device=images.device)
            results.append(self.network.logits(images, getattr(self, f"noise_{timestep}"), told)[0])
        return torch.stack(results)

    def denoising_loss(self, images: Tensor) -> Tensor:
        denoiser = self.network.denoiser
        timesteps = torch.randint(len(denoiser.schedule.alpha_bar), (len(images),), device=images.device)
        prediction, target = denoiser(images, torch.randn_like(images), timesteps)
        weights = denoiser.schedule.loss_weights(timesteps, "min_snr", 5.0)
        return (weights * (prediction - target).square().flatten(1).mean(1)).mean()

    def parameter_groups(self, rate: float, denoiser_rate: float) -> list[dict[str, Any]]:
        denoiser = [p for p in self.network.denoiser.parameters() if p.requires_grad]
        groups = [{"params": list(self.network.head.parameters()), "lr": rate}]
        return groups + ([{"params": denoiser, "lr": denoiser_rate}] if denoiser else [])


SegmentationNetwork = PlainUNet | DiffusionSegmentation


@torch.no_grad()
def probabilities(network: SegmentationNetwork, images: Tensor, timesteps: Sequence[int], at_once: int = 100) -> Tensor:
    """Of the foreground at each timestep, (timesteps or 1, N, H, W), of normalised images."""
    network.eval()
    parts = [network.timestep_logits(part, timesteps).softmax(2)[:, :, 1] for part in images.split(at_once)]
    network.train()
    return torch.cat(parts, dim=1)


def mean_probability(by_timestep: Tensor, timesteps: Sequence[int], of: Sequence[int]) -> Tensor:
    if len(by_timestep) == 1:
        return by_timestep[0]
    return by_timestep[[list(timesteps).index(t) for t in of]].mean(0)
