"""A denoiser for another number of image channels: nnU-Net's rule for stems, repeat the weights and rescale."""

from collections.abc import Mapping, Sequence

from torch import Tensor


def adapt_channels(
    weights: Mapping[str, Tensor], inputs: Sequence[str], output: str, channels: int
) -> dict[str, Tensor]:
    """Weights of a denoiser for images with another number of channels.

    Args:
        weights: of all its layers.
        inputs: names of the weight of the convolution that reads images; state dicts may have several for it.
        output: name of the convolution that writes images, without `.weight` and `.bias`.
        channels: new number of channels; the old number changes no value.

    Returns:
        all weights, those of the two convolutions adapted and in float32.
    """
    adapted = {name: adapt_input(weights[name].float(), channels) for name in inputs}
    for name in (f"{output}.weight", f"{output}.bias"):
        adapted[name] = adapt_output(weights[name].float(), channels)
    return {**weights, **adapted}


def adapt_input(weight: Tensor, channels: int) -> Tensor:
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


def adapt_output(weight: Tensor, channels: int) -> Tensor:
    """Weight or bias of a convolution that writes images, for another number of channels.

    Every new channel gets the mean over the old ones, not rescaled: each of them is an image of its own.

    Args:
        weight: (old channels, features, *kernel), or a bias, (old channels,).
        channels: new number of channels; the old number gives it as it is.

    Returns:
        (channels, features, *kernel) or (channels,).
    """
    if channels == weight.shape[0]:
        return weight
    return weight.mean(0, keepdim=True).repeat_interleave(channels, dim=0)
