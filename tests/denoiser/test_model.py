"""The denoiser against nnU-Net's stock U-Net: equal while the modulation is zero, and equal with it folded in."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.model import (
    Denoiser,
    FrozenDenoiser,
    Modulations,
    TimestepNorm,
    TimestepUNet,
    sinusoidal_embedding,
)
from nnunet_diffusion_ensemble.method import DenoiserSettings

Architecture = Callable[..., dict[str, Any]]
Randn = Callable[..., Tensor]
CHANNELS = 2
ONE_CHANNEL = DenoiserSettings()


def stock_unet(architecture: dict[str, Any], channels: int) -> nn.Module:
    return get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        channels,
        channels,
        deep_supervision=False,
    )


def copy_weights(stock: nn.Module, unet: TimestepUNet) -> None:
    """Weights of a stock U-Net by name; only its segmentation layers have no counterpart."""
    ours = dict(unet.named_parameters())
    with torch.no_grad():
        for name, weight in stock.named_parameters():
            if "seg_layers" not in name:
                ours.pop(name.replace(".norm.", ".norm.norm.")).copy_(weight)
    assert all("modulation" in name or name.startswith(("embedding.", "output.")) for name in ours)


def stock_features(stock: nn.Module, images: Tensor) -> list[Tensor]:
    """Outputs of the stages of the stock decoder, coarsest first."""
    seen: list[Tensor] = []
    for stage in stock.decoder.stages:
        stage.register_forward_hook(lambda module, inputs, output: seen.append(output))
    stock.eval()(images)
    return seen


def assert_all_close(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-4) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def fold(stock: nn.Module, unet: TimestepUNet, timestep: int) -> nn.Module:
    """The stock U-Net with scale and shift of one timestep in the affine weights of its norms."""
    folded, norms = copy.deepcopy(stock), 0
    embedding = unet.embedding(torch.tensor([timestep]))
    with torch.no_grad():
        for name, norm in folded.named_modules():
            if isinstance(norm, (nn.InstanceNorm2d, nn.InstanceNorm3d)):
                modulation = unet.get_submodule(name).modulation
                scale, shift = (modulation.weight @ embedding[0] + modulation.bias).split(norm.num_features)
                norm.weight.mul_(1 + scale)
                norm.bias.mul_(1 + scale).add_(shift)
                norms += 1
    # stem 1, blocks 2 each, projections 3 (no channel change in stage 1's and 2's second blocks), decoder 3
    assert norms == 1 + 2 * 4 + 2 + 3
    return folded


def test_sinusoidal_embedding_is_that_of_the_transformer() -> None:
    found = sinusoidal_embedding(torch.tensor([0, 3, 800]), 8)
    for row, t in zip(found, (0, 3, 800), strict=True):
        angles = [t / 10000 ** (i / 4) for i in range(4)]
        expected = [*map(math.sin, angles), *map(math.cos, angles)]
        torch.testing.assert_close(row, torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_timestep_norm_scales_and_shifts_what_the_norm_gives(randn: Randn) -> None:
    norm = TimestepNorm(nn.Identity(), 2, position=0)
    nn.init.normal_(norm.modulation.weight)
    nn.init.normal_(norm.modulation.bias)
    x, embedding = randn(3, 2, 4, 4), randn(3, 128)
    found = norm(x, Modulations([norm])(embedding))
    for i in range(3):
        values = norm.modulation.weight @ embedding[i] + norm.modulation.bias
        for c in range(2):
            torch.testing.assert_close(found[i, c], x[i, c] * (1 + values[c]) + values[2 + c])


def test_features_without_modulation_are_those_of_the_stock_unet(
    topology: str, architecture: Architecture, size_of: Callable, randomise: Callable, randn: Randn
) -> None:
    stock = randomise(stock_unet(architecture(topology), CHANNELS))
    unet = TimestepUNet(architecture(topology), CHANNELS)
    copy_weights(stock, unet)
    images = randn(2, CHANNELS, *size_of(topology))
    with torch.no_grad():
        assert_all_close(unet.features(images, torch.tensor([5, 700])), stock_features(stock, images))


def test_a_fixed_timestep_folds_into_the_norms_of_the_stock_unet(
    topology: str, architecture: Architecture, size_of: Callable, randomise: Callable, randn: Randn
) -> None:
    stock = randomise(stock_unet(architecture(topology), CHANNELS))
    unet = randomise(TimestepUNet(architecture(topology), CHANNELS), seed=1)
    copy_weights(stock, unet)
    images = randn(2, CHANNELS, *size_of(topology))
    with torch.no_grad():
        folded = fold(stock, unet, timestep=300)
        found, expected = unet.features(images, torch.tensor([300, 300])), stock_features(folded, images)
        assert_all_close(found, expected, tolerance=1e-3)  # random weights this large multiply rounding errors


def test_timesteps_change_the_features_once_the_modulation_is_learnt(
    architecture: Architecture, randomise: Callable, randn: Randn
) -> None:
    unet, images = randomise(TimestepUNet(architecture("2d"), 1)), randn(1, 1, 16, 16)
    one, other = (unet.features(images, torch.tensor([t])) for t in (1, 600))
    assert all((a - b).abs().mean() > 1e-2 for a, b in zip(one, other, strict=True))


def test_each_image_of_a_batch_has_its_own_timestep(
    architecture: Architecture, randomise: Callable, randn: Randn
) -> None:
    unet, images = randomise(TimestepUNet(architecture("2d"), 1)), randn(2, 1, 16, 16)
    together = unet.features(images, torch.tensor([1, 600]))
    for i, t in enumerate((1, 600)):
        alone = unet.features(images[i : i + 1], torch.tensor([t]))
        assert_all_close([level[i : i + 1] for level in together], alone)


def test_feature_channels_and_dimension_are_those_of_the_features(
    topology: str, architecture: Architecture, size_of: Callable, randn: Randn
) -> None:
    unet, size = TimestepUNet(architecture(topology), 1), size_of(topology)
    levels = unet.features(randn(1, 1, *size), torch.tensor([0]))
    assert unet.feature_channels == tuple(level.shape[1] for level in levels) == (3, 2)
    assert levels[-1].shape[2:] == size
    assert unet.dimension == len(size)


def test_state_dict_holds_no_weight_twice_through_the_decoders_link(architecture: Architecture) -> None:
    names = TimestepUNet(architecture("2d"), 1).state_dict()
    assert not [name for name in names if name.startswith(("decoder.encoder.", "decoder.seg_layers."))]


def test_untrained_denoiser_predicts_zero(architecture: Architecture, randn: Randn) -> None:
    prediction, _ = Denoiser(architecture("2d"), 1, ONE_CHANNEL)(
        randn(2, 1, 16, 16), randn(2, 1, 16, 16), torch.tensor([3, 900])
    )
    assert torch.equal(prediction, torch.zeros(2, 1, 16, 16))


def plain_unet(architecture: Architecture) -> dict[str, Any]:
    plain = architecture("2d")
    plain["network_class_name"] = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    plain["arch_kwargs"]["n_conv_per_stage"] = plain["arch_kwargs"].pop("n_blocks_per_stage")
    return plain


def test_another_architecture_is_refused_by_name(architecture: Architecture) -> None:
    with pytest.raises(NotImplementedError, match=r"ResidualEncoderUNet with a norm.*PlainConvUNet"):
        TimestepUNet(plain_unet(architecture), 1)


def test_an_architecture_without_norm_is_refused(architecture: Architecture) -> None:
    with pytest.raises(NotImplementedError, match="with a norm"):
        TimestepUNet(architecture("2d", norm_op=None, norm_op_kwargs=None), 1)


@pytest.mark.parametrize("name", ["input_scale", "input_shift"])
def test_input_scaling_for_another_number_of_channels_is_refused(name: str, architecture: Architecture) -> None:
    with pytest.raises(ValueError, match=rf"diffusion.denoiser.{name} .*has 2 values, the images have 3 channels"):
        Denoiser(architecture("2d"), 3, DenoiserSettings(**{name: (1.0, 2.0)}))


def test_images_are_scaled_and_shifted_channel_by_channel(architecture: Architecture, randn: Randn) -> None:
    settings = DenoiserSettings(input_scale=(2.0, 3.0), input_shift=(-1.0, 0.5))
    images = randn(2, 2, 4, 4, 4)
    found = Denoiser(architecture("3d"), 2, settings).scaled(images)
    torch.testing.assert_close(found[:, 0], 2 * images[:, 0] - 1)
    torch.testing.assert_close(found[:, 1], 3 * images[:, 1] + 0.5)


def test_one_value_of_input_scaling_counts_for_every_channel(architecture: Architecture, randn: Randn) -> None:
    images = randn(2, 3, 4, 4)
    found = Denoiser(architecture("2d"), 3, DenoiserSettings(input_scale=(2.0,), input_shift=(-1.0,))).scaled(images)
    torch.testing.assert_close(found, 2 * images - 1)


def test_input_scaling_is_saved_with_the_weights(architecture: Architecture) -> None:
    pretrained = Denoiser(architecture("2d"), 2, DenoiserSettings(input_scale=(2.0, 3.0), input_shift=(-1.0, 0.5)))
    other = Denoiser(architecture("2d"), 2, DenoiserSettings())
    other.load_state_dict(pretrained.state_dict())
    assert other.input_scale.flatten().tolist() == [2.0, 3.0]
    assert other.input_shift.flatten().tolist() == [-1.0, 0.5]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_forward_gives_prediction_and_target_for_the_noised_scaled_images(
    prediction_type: str, architecture: Architecture, randomise: Callable, randn: Randn
) -> None:
    settings = DenoiserSettings(
        schedule="linear", prediction_type=prediction_type, input_scale=(2.0,), input_shift=(-1.0,)
    )
    denoiser = randomise(Denoiser(architecture("2d"), 1, settings))
    images, noise, t = randn(1, 1, 16, 16), randn(1, 1, 16, 16), 40
    alpha_bar = math.prod(1 - (1e-4 + (0.02 - 1e-4) * i / 999) for i in range(t + 1))
    signal, sigma = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
    scaled = 2 * images - 1
    finest = denoiser.unet.features(signal * scaled + sigma * noise, torch.tensor([t]))[-1]
    output = denoiser.unet.output
    expected = torch.einsum("oc,nchw->nohw", output.weight[:, :, 0, 0], finest) + output.bias.reshape(1, -1, 1, 1)
    prediction, target = denoiser(images, noise, torch.tensor([t]))
    torch.testing.assert_close(prediction, expected, rtol=1e-3, atol=1e-3)
    velocity = signal * noise - sigma * scaled
    torch.testing.assert_close(target, noise if prediction_type == "epsilon" else velocity, rtol=1e-4, atol=1e-4)


def test_denoiser_features_are_those_of_the_noised_scaled_images(
    architecture: Architecture, randomise: Callable, randn: Randn
) -> None:
    denoiser = randomise(Denoiser(architecture("2d"), 1, DenoiserSettings(input_scale=(2.0,), input_shift=(-1.0,))))
    images, noise, t = randn(1, 1, 16, 16), randn(1, 1, 16, 16), torch.tensor([200])
    alpha_bar = denoiser.schedule.alpha_bar[200].item()
    noisy = math.sqrt(alpha_bar) * (2 * images - 1) + math.sqrt(1 - alpha_bar) * noise
    assert_all_close(denoiser.features(images, noise, t), denoiser.unet.features(noisy, t))


def test_denoiser_counts_as_pretrained_after_its_first_iteration(architecture: Architecture) -> None:
    denoiser = Denoiser(architecture("2d"), 1, ONE_CHANNEL)
    assert not denoiser.is_pretrained
    denoiser.trained_iterations += 1
    frozen = FrozenDenoiser(architecture("2d"), 1, ONE_CHANNEL)
    frozen.load_state_dict(denoiser.state_dict())
    assert frozen.is_pretrained


def test_frozen_denoiser_gives_features_without_gradients(architecture: Architecture, randn: Randn) -> None:
    frozen = FrozenDenoiser(architecture("2d"), 1, ONE_CHANNEL)
    images = randn(1, 1, 16, 16).requires_grad_()
    levels = frozen.features(images, randn(1, 1, 16, 16), torch.tensor([1]))
    assert not any(level.requires_grad for level in levels)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_frozen_denoiser_stays_in_eval_mode_when_its_network_trains(architecture: Architecture) -> None:
    network = nn.ModuleDict({"denoiser": FrozenDenoiser(architecture("2d"), 1, ONE_CHANNEL), "head": nn.Identity()})
    network.train()
    assert network["head"].training
    assert not any(module.training for module in network["denoiser"].modules())


def test_frozen_denoiser_has_the_features_of_the_denoiser_it_was_loaded_from(
    architecture: Architecture, randomise: Callable, randn: Randn
) -> None:
    denoiser = randomise(Denoiser(architecture("2d"), 1, ONE_CHANNEL))
    frozen = FrozenDenoiser(architecture("2d"), 1, ONE_CHANNEL)
    frozen.load_state_dict(denoiser.state_dict())
    images, noise, t = randn(2, 1, 16, 16), randn(2, 1, 16, 16), torch.tensor([4, 40])
    assert_all_close(frozen.features(images, noise, t), denoiser.features(images, noise, t))


def test_without_noise_the_features_are_those_of_the_scaled_images(
    architecture: Architecture, randomise: Callable, randn: Randn
) -> None:
    denoiser = randomise(Denoiser(architecture("2d"), 1, DenoiserSettings(input_scale=(2.0,), input_shift=(-1.0,))))
    images, t = randn(2, 1, 16, 16), torch.tensor([0, 700])
    assert_all_close(denoiser.features(images, None, t), denoiser.unet.features(2 * images - 1, t))
