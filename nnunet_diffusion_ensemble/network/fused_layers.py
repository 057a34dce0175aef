"""Layers of a pixel classifier that keep one feature map of a hidden layer for the gradient instead of three.

ReLU, batch norm and a 1x1 convolution in a row keep for the backward pass the input of the norm and that of the
convolution, and the backward pass of each adds a gradient as large. The input x of the norm is all that is needed,
since the norm is a scale and a shift of each channel: with r = (x - mean) / std, a layer y = W (gamma r + beta) + b and
the gradient g of y, everything follows from the small matrix A = sum over pixels of g x^T and the vector s = sum of g.
"""

from typing import Any

import torch
from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
STATISTICS_ON = ("cpu", "cuda")  # devices that have torch.batch_norm_update_stats; torch's compiler has not


class _ReluNormConvolution(torch.autograd.Function):
    """y = W (gamma r + beta) + b for r = normalised relu(x); x is overwritten by its ReLU.

    Shapes: x (N, C, *space), weight (K, C); returns y (N, K, *space), mean (C,), variance (C,) and the overwritten x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple:
        x.relu_()
        ctx.mark_dirty(x)
        pixels = x.flatten(2)
        mean, variance = torch.batch_norm_update_stats(pixels, None, None, 0.0)  # on CPUs faster than torch.var_mean
        scale = (variance + eps).rsqrt()
        folded = weight * (gamma * scale)
        offset = bias + weight @ (beta - gamma * scale * mean)
        y = x.new_empty(len(x), len(weight), *x.shape[2:])
        torch.bmm(folded.expand(len(x), -1, -1), pixels, out=y.flatten(2)).add_(offset[:, None])
        ctx.save_for_backward(x, gamma, beta, weight, mean, scale)
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        return y, mean, variance, x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        x, gamma, beta, weight, mean, scale = ctx.saved_tensors
        space, x, g = x.shape[2:], x.flatten(2), gradients[0].flatten(2)
        num_pixels = x.shape[0] * x.shape[2]
        total = g.sum(dim=(0, 2))
        outer = torch.bmm(g, x.transpose(1, 2)).sum(dim=0)
        normed = (outer - total[:, None] * mean) * scale  # sum over pixels of g r^T
        d_gamma, d_beta = (weight * normed).sum(dim=0), total @ weight
        d_weight = normed * gamma + total[:, None] * beta
        # Gradient of a batch norm: gamma / std times (dz - mean of dz - r times mean of dz r), for dz = W^T g.
        slope = gamma * scale
        by_x = -slope * scale * d_gamma / num_pixels
        constant = -slope * d_beta / num_pixels - by_x * mean
        d_x = torch.bmm((weight * slope).T.expand(len(g), -1, -1), g)
        d_x.addcmul_(x, by_x[:, None]).add_(constant[:, None])
        torch.ops.aten.threshold_backward.grad_input(d_x, x, 0, grad_input=d_x)  # in place: no further map of full size
        return d_x.unflatten(2, space), d_gamma, d_beta, d_weight, total, None


class PixelLayers(nn.Sequential):
    """A Sequential in which ReLU, batch norm and 1x1 convolution, one after the other, take less memory and time.

    They are computed together in training in float32 on CPUs and CUDA; otherwise, and where torch compiles the network,
    each layer runs by itself.
    """

    def forward(self, x: Any) -> Any:
        layers = list(self)
        position = 0
        while position < len(layers):
            following = layers[position : position + 3]
            if _can_be_joined(x, following):
                x = _joined(x, following[1], following[2])
                position += len(following)
            else:
                x = layers[position](x)
                position += 1
        return x


def _can_be_joined(x: Any, layers: list[Any]) -> bool:
    """Whether batch statistics are those of this process alone, nothing is computed in half precision, and x may be
    overwritten."""
    if len(layers) < 3 or type(layers[0]) is not nn.ReLU or type(layers[1]) not in BATCH_NORMS:
        return False
    if torch.compiler.is_compiling() or x.device.type not in STATISTICS_ON:
        return False
    is_pointwise = type(layers[2]) in CONVOLUTIONS and set(layers[2].kernel_size) == {1}
    is_plain = is_pointwise and not torch.is_autocast_enabled(x.device.type)
    return is_plain and layers[1].training and x.requires_grad and x.is_contiguous() and not x._is_view()


def _joined(x: Tensor, norm: Any, convolution: Any) -> Tensor:
    weight, bias = convolution.weight.flatten(1), convolution.bias
    y, mean, variance, _ = _ReluNormConvolution.apply(x, norm.weight, norm.bias, weight, bias, norm.eps)
    _track(norm, mean, variance, x.numel() // x.shape[1])
    return y


@torch.no_grad()
def _track(norm: Any, mean: Tensor, variance: Tensor, num_pixels: int) -> None:
    """Running statistics as the norm would keep them: of the unbiased variance."""
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (num_pixels / (num_pixels - 1)), norm.momentum)
