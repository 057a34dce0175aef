"""The denoiser at one fixed timestep as the weights of an ordinary `ResidualEncoderUNet`.

At a fixed timestep the scale and shift after every norm are constants, so they fold into the norm's own: with weight w,
bias b, scale s and shift h, (w x + b) (1 + s) + h = w (1 + s) x + b (1 + s) + h. What is done to the image before the
first convolution, its input scale and the share of the signal sqrt(alpha_bar_t), folds into that convolution's weights.
"""

from copy import deepcopy
from typing import Any, cast

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.model import Denoiser, TimestepNorm, TimestepUNet, replace_norm


def folded_weights(denoiser: Denoiser, timestep: int) -> dict[str, Tensor]:
    """Weights with which nnU-Net's U-Net computes the features of a denoiser at one timestep.

    Decoder stages of the U-Net give for an image what `denoiser.unet.features` gives at the timestep for the scaled
    image times sqrt(alpha_bar), that is, noised by the mean of the noise, which is 0.

    Args:
        denoiser: of the package's own kind; not changed.
        timestep: from 0 to the length of the diffusion process less one.

    Returns:
        the state dict of the `ResidualEncoderUNet` of the same `architecture`, without its segmentation layers, which a
        denoiser does not have and nnU-Net's loader of pretrained weights leaves alone.

    Raises:
        ValueError: the timestep is outside the process; the U-Net is another library's; or the denoiser shifts its
            input, which zero padding does not allow to fold.
    """
    _check_can_be_folded(denoiser, timestep)
    unet = cast(Any, deepcopy(denoiser.unet))
    with torch.no_grad():
        timesteps = torch.tensor([timestep])
        embedding = unet.embedding(timesteps)
        for block in [module for module in unet.modules() if isinstance(module, ConvDropoutNormReLU)]:
            replace_norm(block, _folded_norm(cast(TimestepNorm, block.norm), embedding))
        signal, _ = denoiser.schedule.signal_and_noise(timesteps, denoiser.input_scale.ndim)
        unet.encoder.stem.convs[0].conv.weight.mul_(signal * denoiser.input_scale)
    parts = {"encoder": unet.encoder, "decoder.encoder": unet.encoder, "decoder": unet.decoder}  # nnU-Net's names
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


def _check_can_be_folded(denoiser: Denoiser, timestep: int) -> None:
    num_steps = len(denoiser.schedule.alpha_bar)
    if not 0 <= timestep < num_steps:
        raise ValueError(f"The timesteps of this denoiser are 0 to {num_steps - 1}, got {timestep}.")
    if not isinstance(denoiser.unet, TimestepUNet):
        raise ValueError(
            "This denoiser is a U-Net of another library, with attention and blocks that nnU-Net's ResidualEncoderUNet "
            "does not have. Only a denoiser of DiffusionPretrainTrainer can be folded into one."
        )
    if bool((denoiser.input_shift != 0).any()):
        raise ValueError(
            f"This denoiser adds {_numbers(denoiser.input_shift)} to its input (diffusion.denoiser.input_shift of its "
            "plans). It pads with zeros after that, nnU-Net's U-Net would before, and its features would be others. "
            "Pretrain on z-scores (ZScoreNormalization), which need no shift."
        )


def _folded_norm(norm: TimestepNorm, embedding: Tensor) -> nn.Module:
    scale, shift = norm.modulation(embedding)[0].chunk(2)
    plain = cast(Any, norm.norm)
    plain.weight.mul_(1 + scale)
    plain.bias.mul_(1 + scale).add_(shift)
    return plain


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:g}" for value in values.flatten().tolist())
