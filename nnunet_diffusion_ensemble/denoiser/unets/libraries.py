"""U-Nets of other libraries as denoising U-Nets: built from the arguments of their constructors, read by hooks.

A level is what goes into the upsampler of a decoder resolution; the last is what goes into the output layer. So each is
the last layer's output of its resolution, whatever attention or residual blocks that consists of.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.unets.base import DenoisingUNet
from nnunet_diffusion_ensemble.method import LIBRARIES, LibrarySettings

# Others keep a second image beside the features, or take a noise level or a context instead of a timestep.
DIFFUSERS_BLOCKS = (
    *("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"),
    *("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
)


class LibraryUNet(DenoisingUNet):
    """A library's model whose levels are caught on their way.

    Args:
        model: the model.
        level_readers: the modules whose inputs are the levels, coarsest first.
        feature_channels: channels of each level.
        dimension: 2 or 3; every resolution halves all axes.
    """

    def __init__(
        self, model: nn.Module, level_readers: Sequence[nn.Module], feature_channels: Sequence[int], dimension: int
    ):
        super().__init__()
        self.model = model
        self.level_readers = tuple(level_readers)  # a tuple, so that their weights are not registered twice
        self.feature_channels = tuple(feature_channels)
        self.size_divisors = (2 ** (len(level_readers) - 1),) * dimension

    # torch.compile cannot follow hooks that come and go; the head around it is compiled all the same.
    @torch.compiler.disable
    def features(self, noisy_images: Tensor, timesteps: Tensor) -> list[Tensor]:
        with self._caught_levels() as levels:
            self.forward(noisy_images, timesteps)
        return levels

    @contextmanager
    def _caught_levels(self) -> Iterator[list[Tensor]]:
        levels: list[Tensor] = []
        handles = [
            reader.register_forward_pre_hook(lambda module, inputs: levels.append(inputs[0]))
            for reader in self.level_readers
        ]
        try:
            yield levels
        finally:
            for handle in handles:
                handle.remove()


class DiffusersUNet(LibraryUNet):
    """diffusers' `UNet2DModel`; `arguments` are those of its constructor."""

    def __init__(self, arguments: Mapping[str, Any]):
        _check_diffusers_arguments(arguments)
        model = import_diffusers().UNet2DModel(**arguments)
        upsamplers = [block.upsamplers[0] for block in model.up_blocks[:-1]]
        widths = tuple(reversed(model.config.block_out_channels))
        super().__init__(model, [*upsamplers, model.conv_norm_out], widths, dimension=2)

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        return self.model.conv_norm_out, self.model.conv_out  # type: ignore[return-value]

    def forward(self, noisy_images: Tensor, timesteps: Tensor) -> Tensor:
        return self.model(noisy_images, timesteps, return_dict=False)[0]


class MonaiUNet(LibraryUNet):
    """MONAI's `DiffusionModelUNet`, 2D or 3D; `arguments` are those of its constructor."""

    def __init__(self, arguments: Mapping[str, Any]):
        from monai.networks.nets import DiffusionModelUNet

        for name in ("with_conditioning", "num_class_embeds"):
            _refuse_condition(name, arguments.get(name))
        model = DiffusionModelUNet(**arguments)
        upsamplers = [block.upsampler for block in model.up_blocks[:-1]]  # type: ignore[union-attr]
        widths = tuple(reversed(model.block_out_channels))
        super().__init__(model, [*upsamplers, model.out], widths, arguments["spatial_dims"])  # type: ignore[list-item]

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        return (self.model.out,)  # type: ignore[return-value]

    def forward(self, noisy_images: Tensor, timesteps: Tensor) -> Tensor:
        return self.model(noisy_images, timesteps)


def build_library_unet(library: LibrarySettings, channels: int) -> DenoisingUNet:
    """The U-Net of a library with random weights.

    Args:
        library: name and arguments; `in_channels` and `out_channels` among them.
        channels: channels of the image, which the arguments must agree with.

    Raises:
        ValueError: for arguments that the library does not take, or for another number of channels.
        RuntimeError: if the library is not installed.
    """
    arguments = library.arguments
    if {arguments.get("in_channels"), arguments.get("out_channels")} != {channels}:
        raise ValueError(
            f"The {library.name} U-Net of the plans reads {arguments.get('in_channels')} and writes "
            f"{arguments.get('out_channels')} channels, the images have {channels}. Plan with --denoiser again, which "
            "adapts it."
        )
    try:
        return LIBRARIES[library.name].build(arguments)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, ZeroDivisionError) as error:
        raise ValueError(
            f"These are no arguments of a {library.name} U-Net that can be used here ({error}): {dict(arguments)}"
        ) from error


def import_diffusers() -> ModuleType:
    """diffusers, or RuntimeError with the command that installs it."""
    try:
        import diffusers
    except ImportError as error:
        raise RuntimeError(
            f"This denoiser needs diffusers, which cannot be imported ({error}). Install it with\n"
            '  pip install "nnunet-diffusion-ensemble[diffusers]"'
        ) from error
    return diffusers


def _refuse_condition(name: str, value: Any) -> None:
    if value:
        raise ValueError(
            f"{name} is {value}: the model is conditional, and there is no class or text to condition an image on that "
            "is to be segmented. Use an unconditional model"
        )


def _check_diffusers_arguments(arguments: Mapping[str, Any]) -> None:
    for name in ("class_embed_type", "num_class_embeds"):
        _refuse_condition(name, arguments.get(name))
    blocks = [*arguments.get("down_block_types", ()), *arguments.get("up_block_types", ())]
    unknown = [block for block in blocks if block not in DIFFUSERS_BLOCKS]
    if unknown:
        raise ValueError(f"blocks of type {', '.join(unknown)} are not supported, only {', '.join(DIFFUSERS_BLOCKS)}")
    if arguments.get("time_embedding_type") == "fourier":
        raise ValueError("time_embedding_type is fourier: the model reads a noise level instead of a timestep")
    if arguments.get("center_input_sample"):
        raise ValueError("center_input_sample is set, which moves noisy images by a fixed amount; only False works")
