"""The denoiser: nnU-Net's residual-encoder U-Net with the timestep as a scale and shift after every norm.

For one fixed timestep, scale and shift (FiLM, Perez et al. 2018) fold exactly into the affine parameters of the norm:
a frozen timestep is an ordinary `ResidualEncoderUNet`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.residual import BasicBlockD, StackedResidualBlocks
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU, StackedConvBlocks
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn
from torch.nn import functional

from nnunet_diffusion_ensemble.denoiser.schedule import NoiseSchedule
from nnunet_diffusion_ensemble.denoiser.unets.base import DenoisingUNet
from nnunet_diffusion_ensemble.method import DenoiserSettings
from nnunet_diffusion_ensemble.nnunet.named_classes import module_class

EMBEDDING_FEATURES = 128
INSTANCE_NORMS = (nn.InstanceNorm2d, nn.InstanceNorm3d)


def sinusoidal_embedding(timesteps: Tensor, features: int) -> Tensor:
    """Sine and cosine of the timestep at `features / 2` frequencies from 1 to 1/10000; (N,) to (N, features)."""
    half = features // 2
    frequencies = torch.exp(-math.log(10000) / half * torch.arange(half, device=timesteps.device))
    angles = timesteps[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimestepEmbedding(nn.Module):
    """Timesteps (N,) to embeddings (N, EMBEDDING_FEATURES)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(EMBEDDING_FEATURES, EMBEDDING_FEATURES),
            nn.SiLU(),
            nn.Linear(EMBEDDING_FEATURES, EMBEDDING_FEATURES),
            nn.SiLU(),
        )

    def forward(self, timesteps: Tensor) -> Tensor:
        return self.layers(sinusoidal_embedding(timesteps, EMBEDDING_FEATURES))


class TimestepNorm(nn.Module):
    """A norm followed by a scale and a shift that depend on the timestep; at first they change nothing.

    They come from `Modulations`, which computes those of all norms at once. After an instance norm they are folded
    into its own, since each further pass over the feature maps would cost a GPU as much as the norm itself.
    """

    def __init__(self, norm: nn.Module, channels: int, position: int):
        super().__init__()
        self.norm: Any = norm
        self.position = position  # among the norms of the network
        self.modulation = nn.Linear(EMBEDDING_FEATURES, 2 * channels)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        is_instance_norm = isinstance(norm, nn.InstanceNorm2d | nn.InstanceNorm3d)
        self.folds = is_instance_norm and self.norm.affine and not self.norm.track_running_stats

    def forward(self, x: Tensor, modulations: Sequence[Tensor]) -> Tensor:
        scale, shift = modulations[self.position].chunk(2, dim=1)
        if not self.folds:
            per_channel = (*scale.shape, *[1] * (x.ndim - 2))
            return torch.addcmul(shift.reshape(per_channel), self.norm(x), scale.reshape(per_channel))
        weight, bias = scale * self.norm.weight, torch.addcmul(shift, scale, self.norm.bias)
        # Instance norm is batch norm of a batch of one with all images' channels.
        channels = x.reshape(1, -1, *x.shape[2:])
        normed = functional.batch_norm(
            channels, None, None, weight.flatten(), bias.flatten(), training=True, eps=self.norm.eps
        )
        return normed.reshape(x.shape)


class Modulations(nn.Module):
    """Scale and shift of all norms of a network by one matrix product, in place of one for each.

    Args:
        norms: in the order of their positions; they keep their layers.
    """

    identity: Tensor

    def __init__(self, norms: Sequence[TimestepNorm]):
        super().__init__()
        self.layers = [norm.modulation for norm in norms]
        self.widths = [layer.out_features for layer in self.layers]
        scale_and_shift = torch.tensor([1.0, 0.0])  # what the layers learn is added to it
        identity = torch.cat([scale_and_shift.repeat_interleave(width // 2) for width in self.widths])
        self.register_buffer("identity", identity, persistent=False)

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        """Embeddings (N, EMBEDDING_FEATURES) to (N, 2 * channels) for each norm: its scales, then its shifts."""
        weight = torch.cat([layer.weight for layer in self.layers])
        bias = torch.cat([layer.bias for layer in self.layers]) + self.identity
        return functional.linear(embedding, weight, bias).to(bias.dtype).split(self.widths, dim=1)


def replace_norm(block: ConvDropoutNormReLU, norm: nn.Module) -> None:
    """Replaces a block's norm under both of its names."""
    position = next(i for i, m in enumerate(block.all_modules) if m is block.norm)
    block.norm = norm
    block.all_modules[position] = norm


def _make_norms_timestep_dependent(network: nn.Module) -> list[TimestepNorm]:
    norms: list[TimestepNorm] = []
    for block in [m for m in network.modules() if isinstance(m, ConvDropoutNormReLU)]:
        norms.append(TimestepNorm(block.norm, block.output_channels, len(norms)))
        replace_norm(block, norms[-1])
    return norms


def _run(module: Any, x: Tensor, modulations: Sequence[Tensor]) -> Tensor:
    """`module(x)` for the building blocks of a residual-encoder U-Net, with the modulations handed to every norm."""
    if isinstance(module, TimestepNorm):
        return module(x, modulations)
    if isinstance(module, BasicBlockD):
        inner = _run(module.conv2, _run(module.conv1, x, modulations), modulations)
        return module.nonlin2(inner + _run(module.skip, x, modulations))
    if isinstance(module, ConvDropoutNormReLU):
        module = module.all_modules
    elif isinstance(module, StackedConvBlocks):
        module = module.convs
    elif isinstance(module, StackedResidualBlocks):
        module = module.blocks
    if isinstance(module, nn.Sequential):
        for part in module:
            x = _run(part, x, modulations)
        return x
    return module(x)


class TimestepUNet(DenoisingUNet):
    """U-Net with nnU-Net's topology and parameter names that knows the timestep.

    Args:
        architecture: `architecture` of a configuration of the plans (a `ResidualEncoderUNet`, any strides and kernels,
            2D or 3D).
        input_channels: channels of the image; as many come out.

    Raises:
        NotImplementedError: if the plans name another architecture or one without a norm.
    """

    def __init__(self, architecture: Mapping[str, Any], input_channels: int):
        super().__init__()
        network_class = module_class(architecture["network_class_name"], "network_class_name")
        is_residual = issubclass(network_class, ResidualEncoderUNet)
        if not is_residual or architecture["arch_kwargs"].get("norm_op") is None:
            raise NotImplementedError(
                f"The denoiser is built from a ResidualEncoderUNet with a norm, but the plans name "
                f"{architecture['network_class_name']} with norm {architecture['arch_kwargs'].get('norm_op')}. "
                "Plan with DiffusionEnsemblePlanner."
            )
        unet = get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            input_channels,
            input_channels,
            allow_init=True,
            deep_supervision=False,
        )
        self.encoder, self.decoder = unet.encoder, unet.decoder
        # The decoder's own link to the encoder would put every weight into the checkpoint a second time.
        del self.decoder.encoder, self.decoder.seg_layers
        self.modulations = Modulations(_make_norms_timestep_dependent(self))
        self.embedding = TimestepEmbedding()
        self.feature_channels = tuple(self.encoder.output_channels[-2::-1])
        self.size_divisors = tuple(math.prod(strides) for strides in zip(*self.encoder.strides, strict=True))
        self.output = unet.encoder.conv_op(self.feature_channels[-1], input_channels, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(cast(Tensor, self.output.bias))

    def check_size(self, size: Sequence[int]) -> None:
        super().check_size(size)
        if tuple(size) == self.size_divisors and any(isinstance(m, INSTANCE_NORMS) for m in self.modules()):
            raise ValueError(
                f"An image of {' x '.join(map(str, size))} is one pixel in this denoiser's deepest stage, where an "
                "instance norm needs more than one. Make it twice as large along one axis or more."
            )

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        return (self.output,)

    def features(self, noisy_images: Tensor, timesteps: Tensor) -> list[Tensor]:
        modulations = self.modulations(self.embedding(timesteps))
        x = _run(self.encoder.stem, noisy_images, modulations)
        skips = []
        for stage in self.encoder.stages:
            x = _run(stage, x, modulations)
            skips.append(x)
        levels = []
        for upsample, stage, skip in zip(self.decoder.transpconvs, self.decoder.stages, skips[-2::-1], strict=True):
            x = _run(stage, torch.cat((upsample(x), skip), dim=1), modulations)
            levels.append(x)
        return levels

    def forward(self, noisy_images: Tensor, timesteps: Tensor) -> Tensor:
        return self.output(self.features(noisy_images, timesteps)[-1])


def _build_unet(architecture: Mapping[str, Any], input_channels: int, settings: DenoiserSettings) -> DenoisingUNet:
    if settings.library is None:
        return TimestepUNet(architecture, input_channels)
    from nnunet_diffusion_ensemble.denoiser.unets.libraries import (
        build_library_unet,  # the libraries are slow to import
    )

    return build_library_unet(settings.library, input_channels)


class Denoiser(nn.Module):
    """A U-Net together with its schedule and input scaling: all that is needed to use it, saved in one state dict.

    Buffers that are saved with the weights: `schedule.alpha_bar`, `input_scale`, `input_shift`, `intensity_range`
    (lowest and highest scaled value seen in pretraining; sampling is clipped to it) and `trained_iterations` (0 means
    random weights, -1 weights that were trained elsewhere).

    Args:
        architecture: `architecture` of a configuration of the plans; not read where `settings.library` names a U-Net.
        input_channels: channels of the image.
        settings: diffusion process and input scaling.
    """

    input_scale: Tensor
    input_shift: Tensor
    intensity_range: Tensor
    trained_iterations: Tensor

    def __init__(self, architecture: Mapping[str, Any], input_channels: int, settings: DenoiserSettings):
        super().__init__()
        for name, values in (("input_scale", settings.input_scale), ("input_shift", settings.input_shift)):
            if len(values) not in (1, input_channels):
                raise ValueError(
                    f"diffusion.denoiser.{name} of the plans has {len(values)} values, the images have "
                    f"{input_channels} channels. Give one value, or one for each channel."
                )
        self.unet = _build_unet(architecture, input_channels, settings)
        self.schedule = NoiseSchedule(settings.num_diffusion_steps, settings.schedule, settings.prediction_type)
        per_channel = (1, input_channels, *[1] * self.unet.dimension)
        self.register_buffer("input_scale", torch.tensor(settings.input_scale).reshape(1, -1, *per_channel[2:]))
        self.register_buffer("input_shift", torch.tensor(settings.input_shift).reshape(1, -1, *per_channel[2:]))
        self.input_scale = self.input_scale.expand(per_channel).clone()
        self.input_shift = self.input_shift.expand(per_channel).clone()
        self.register_buffer("intensity_range", torch.zeros(2))
        self.register_buffer("trained_iterations", torch.zeros((), dtype=torch.long))

    @property
    def is_pretrained(self) -> bool:
        return bool(self.trained_iterations != 0)

    def scaled(self, images: Tensor) -> Tensor:
        """Preprocessed images in the range that the diffusion process works in."""
        return images * self.input_scale + self.input_shift

    def features(self, images: Tensor, noise: Tensor | None, timesteps: Tensor) -> list[Tensor]:
        """Decoder features of noised images.

        Args:
            images: preprocessed images (N, C, *space).
            noise: standard normal noise of the same shape; None leaves the images without noise.
            timesteps: (N,), one for each image.

        Returns:
            one tensor (N, features, *space of the level) for each decoder level, coarsest first.
        """
        images = self.scaled(images)
        if noise is not None:
            images = self.schedule.add_noise(images, noise, timesteps)
        return self.unet.features(images, timesteps)

    def forward(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction for noised images, and the target that it should equal; both (N, C, *space)."""
        images = self.scaled(images)
        prediction = self.unet(self.schedule.add_noise(images, noise, timesteps), timesteps)
        return prediction, self.schedule.target(images, noise, timesteps)


class FrozenDenoiser(Denoiser):
    """The encoder of the segmentation network: a denoiser that is only read. No gradients, always in eval mode."""

    def __init__(self, architecture: Mapping[str, Any], input_channels: int, settings: DenoiserSettings):
        super().__init__(architecture, input_channels, settings)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenDenoiser":
        return super().train(False)

    @torch.no_grad()
    def features(self, images: Tensor, noise: Tensor | None, timesteps: Tensor) -> list[Tensor]:
        return super().features(images, noise, timesteps)


class FineTunedDenoiser(Denoiser):
    """A denoiser that learns to segment. Its prediction, which nothing asks for any more, stays as it was."""

    def __init__(self, architecture: Mapping[str, Any], input_channels: int, settings: DenoiserSettings):
        super().__init__(architecture, input_channels, settings)
        self.learn(True)

    def learn(self, learns: bool) -> None:
        """Whether it learns from the next call of `train` on, or is only read, as `FrozenDenoiser` is."""
        self.learns = learns
        self.requires_grad_(learns)
        for layer in self.unet.output_layers:  # DDP waits in vain for gradients of what is not used
            layer.requires_grad_(False)

    def train(self, mode: bool = True) -> "FineTunedDenoiser":
        return super().train(mode and self.learns)
