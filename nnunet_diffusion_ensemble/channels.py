"""A denoiser for another number of image channels: nnU-Net's rule for stems, repeat the weights and rescale."""

from torch import Tensor


def adapt_input_weight(weight: Tensor, channels: int) -> Tensor:
    """Weight of a convolution that reads images, for another number of channels.

    Every new channel gets the mean over the old ones times `old / new`, so that an image repeated over the channels
    gives the very same activations as before. Which new channel resembles which old one is not known.

    Args:
        weight: (features, old channels, *kernel).
        channels: new number of channels; the old number gives the weight as it is.

    Returns:
        (features, channels, *kernel).
    """
    old = weight.shape[1]
    if channels == old:
        return weight
    return (weight.mean(1, keepdim=True) * (old / channels)).repeat_interleave(channels, dim=1)


def adapt_output_weight(weight: Tensor, bias: Tensor | None, channels: int) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a convolution that writes images, for another number of channels.

    Every new channel gets the mean over the old ones, not rescaled: each of them is an image of its own.

    Args:
        weight: (old channels, features, *kernel).
        bias: (old channels,), or None.
        channels: new number of channels; the old number gives both as they are.

    Returns:
        weight (channels, features, *kernel) and bias (channels,) or None.
    """
    if channels == weight.shape[0]:
        return weight, bias
    new_weight = weight.mean(0, keepdim=True).repeat_interleave(channels, dim=0)
    return new_weight, None if bias is None else bias.mean(0, keepdim=True).repeat_interleave(channels, dim=0)
