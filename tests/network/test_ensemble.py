"""Segmentation network against its parts run one timestep and one image at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from nnunet_diffusion_ensemble.denoiser.noise import fixed_noise
from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.network.ensemble import TimestepEnsembleNetwork

TIMESTEPS = (1, 50, 400)
CLASSES = 3
CONCATENATED = {"fusion": "concatenated_features"}
PDDM = {"timesteps": (0,), "adds_noise": False, "head.hidden_features": (), "head.finest_levels": 1}
EVERY_FUSION = pytest.mark.parametrize("fusion", ["mean_prediction", "concatenated_features"])
Make = Callable[..., TimestepEnsembleNetwork]
Randn = Callable[..., Tensor]


@pytest.fixture
def make_network(
    architecture: Callable[..., dict[str, Any]], size_of: Callable[[str], tuple[int, ...]], randomise: Callable
) -> Make:
    """Networks with random weights, the same at each call; one channel, logits between -4 and 4."""

    def make(
        name: str = "2d", patch_size: tuple[int, ...] | None = None, fine_tuned: bool = False, **options: Any
    ) -> TimestepEnsembleNetwork:
        settings = {"timesteps": TIMESTEPS, "head.hidden_features": (5,)} | options
        ensemble = {f"ensemble.{key}": value for key, value in settings.items()}
        training = {"training.fine_tune_denoiser": fine_tuned, "training.timesteps_per_image": None}
        method = DiffusionMethod().with_options({**ensemble, **training})
        network = TimestepEnsembleNetwork(architecture(name), 1, CLASSES, method, patch_size or size_of(name))
        return with_moderate_logits(randomise(network).eval(), size_of(name))

    return make


@torch.no_grad()
def with_moderate_logits(network: TimestepEnsembleNetwork, size: tuple[int, ...]) -> TimestepEnsembleNetwork:
    """Scales the last layer, since probabilities near 0 and 1 would hide differences."""
    logits = network.timestep_logits(torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0)))
    for parameter in network.head.seg_layers[-1].parameters():
        parameter.mul_(4 / logits.abs().max())
    return network


def each(timesteps: tuple[int, ...], num_images: int = 2) -> Tensor:
    """(timesteps, N): the same ones for all images."""
    return torch.tensor(timesteps)[:, None].expand(-1, num_images)


def one_by_one(network: TimestepEnsembleNetwork, images: Tensor, noise: Tensor) -> Tensor:
    """Logits (timesteps, N, classes, *space) from passes of one image and one timestep."""
    rows = []
    for k, t in enumerate(TIMESTEPS):
        passes = []
        for i in range(len(images)):
            features = network.denoiser.features(images[i : i + 1], noise[k, i : i + 1], torch.tensor([t]))
            passes.append(network.head(features))
        rows.append(torch.cat(passes))
    return torch.stack(rows)


def fixed_noise_of(images: Tensor, seed: int = 12345) -> Tensor:
    """NumPy's noise of the default seed, the same for every image."""
    values = np.random.RandomState(seed).standard_normal((len(TIMESTEPS), 1, *images.shape[1:]))
    return torch.from_numpy(values).float().expand(-1, len(images), *images.shape[1:])


def test_fixed_noise_is_numpys_published_sequence() -> None:
    # The first numbers of NumPy's generator with seed 0, as they stand in its documentation.
    expected = [1.76405235, 0.40015721, 0.97873798, 2.2408932, 1.86755799, -0.97727788]
    np.testing.assert_allclose(fixed_noise(0, (2, 3)).flatten(), expected, rtol=1e-6)


@torch.no_grad()
def test_prediction_is_the_logarithm_of_the_mean_probability_over_timesteps(
    topology: str, make_network: Make, size_of: Callable, randn: Randn
) -> None:
    network, images = make_network(topology), randn(2, 1, *size_of(topology))
    expected = one_by_one(network, images, fixed_noise_of(images)).softmax(dim=2).mean(dim=0)
    torch.testing.assert_close(network(images).exp(), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_with_sigmoid_averaging_each_class_is_averaged_for_itself(make_network: Make, randn: Randn) -> None:
    network, images = make_network(averaging="sigmoid"), randn(2, 1, 16, 16)
    expected = one_by_one(network, images, fixed_noise_of(images)).sigmoid().mean(dim=0)
    torch.testing.assert_close(network(images).sigmoid(), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_given_noise_the_logits_of_each_timestep_and_image_come_back(make_network: Make, randn: Randn) -> None:
    network, images, noise = make_network(), randn(2, 1, 16, 16), randn(3, 2, 1, 16, 16)
    found = network(images, noise, each(TIMESTEPS))
    torch.testing.assert_close(found, one_by_one(network, images, noise), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_every_image_may_have_timesteps_of_its_own(make_network: Make, randn: Randn) -> None:
    network, images, noise = make_network(), randn(2, 1, 16, 16), randn(3, 2, 1, 16, 16)
    alone = one_by_one(network, images, noise)
    first, second = [2, 0], [1, 2]  # positions
    chosen = torch.stack([noise[first, 0], noise[second, 1]], dim=1)
    timesteps = torch.tensor(TIMESTEPS)[torch.tensor([first, second]).T]
    expected = torch.stack([alone[first, 0], alone[second, 1]], dim=1)
    torch.testing.assert_close(network(images, chosen, timesteps), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_concatenated_the_prediction_is_that_of_the_wide_classifier_on_all_timesteps(
    topology: str, make_network: Make, size_of: Callable, randn: Randn
) -> None:
    # With a linear head: upsample every level of every timestep, concatenate, one 1x1 convolution.
    network = make_network(topology, **CONCATENATED, **{"head.hidden_features": ()})
    images = randn(2, 1, *size_of(topology))
    noise = fixed_noise_of(images)
    convolutions = network.head.seg_layers[0].convolutions
    expected = convolutions[-1].bias.reshape(1, -1, *[1] * (images.ndim - 2))
    for k, t in enumerate(TIMESTEPS):
        levels = network.denoiser.features(images, noise[k], torch.tensor([t, t]))
        for level, convolution in zip(levels, convolutions, strict=True):
            weight = convolution.weight.flatten(1).chunk(len(TIMESTEPS), dim=1)[k]
            wide = functional.interpolate(level, size_of(topology), mode="nearest")
            expected = expected + torch.einsum("oc,nc...->no...", weight, wide)
    torch.testing.assert_close(network(images), expected.log_softmax(1), rtol=1e-3, atol=1e-4)
    drawn = network(images, noise, each(TIMESTEPS))
    torch.testing.assert_close(drawn, expected[None], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_without_noise_the_denoiser_sees_the_image_itself_and_is_told_the_timestep(
    topology: str, make_network: Make, size_of: Callable, randn: Randn
) -> None:
    network, images = make_network(topology, **PDDM), randn(2, 1, *size_of(topology))
    (convolution,) = network.head.seg_layers[0].convolutions
    finest = network.denoiser.unet.features(images, torch.tensor([0, 0]))[-1]
    expected = torch.einsum("oc,nc...->no...", convolution.weight.flatten(1), finest)
    expected += convolution.bias.reshape(1, -1, *[1] * (images.ndim - 2))
    torch.testing.assert_close(network(images, None, each((0,))), expected[None], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network(images), expected.log_softmax(1), rtol=1e-4, atol=1e-4)


def test_more_levels_than_the_decoder_has_are_refused(make_network: Make) -> None:
    with pytest.raises(ValueError, match=r"finest_levels of the plans is 3, .* has 2 levels"):
        make_network(**{"head.finest_levels": 3})


@torch.no_grad()
@EVERY_FUSION
@pytest.mark.parametrize("images_per_pass", [1, 4])
def test_prediction_in_chunks_equals_that_of_one_pass(
    images_per_pass: int, fusion: str, make_network: Make, randn: Randn
) -> None:
    images = randn(2, 1, 16, 16)
    whole, chunked = (make_network(images_per_pass=n, fusion=fusion) for n in (64, images_per_pass))
    torch.testing.assert_close(chunked(images), whole(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("images_per_pass", "num_images", "expected"),
    [
        (64, 2, [[0, 1, 2]]),
        (6, 2, [[0, 1, 2]]),
        (5, 2, [[0, 1], [2]]),
        (2, 2, [[0], [1], [2]]),
        (1, 2, [[0], [1], [2]]),  # one timestep of the whole batch is the least
    ],
)
def test_passes_hold_as_many_timesteps_as_the_images_leave_room_for(
    images_per_pass: int, num_images: int, expected: list, make_network: Make
) -> None:
    passes = make_network(images_per_pass=images_per_pass).passes(num_images, len(TIMESTEPS))
    assert [list(which) for which in passes] == expected


def test_concatenated_timesteps_are_trained_in_one_call(make_network: Make) -> None:
    assert make_network(images_per_pass=1, **CONCATENATED).passes(2, 3) == [range(3)]


@EVERY_FUSION
@pytest.mark.parametrize("trains", [False, True])
def test_no_pass_of_the_denoiser_is_larger_than_allowed(
    fusion: str, trains: bool, make_network: Make, randn: Randn
) -> None:
    network, sizes = make_network(images_per_pass=5, fusion=fusion), []
    network.denoiser.unet.encoder.stem.convs[0].conv.register_forward_pre_hook(
        lambda module, inputs: sizes.append(len(inputs[0]))
    )
    images, noise = randn(2, 1, 16, 16), randn(3, 2, 1, 16, 16)
    if trains:
        for which in network.passes(2, 3):
            network(images, noise[list(which)], each(TIMESTEPS)[list(which)])
    else:
        network(images)
    assert sizes == [4, 2]


@torch.no_grad()
def test_prediction_does_not_depend_on_torchs_random_state(make_network: Make, randn: Randn) -> None:
    network, images = make_network(), randn(2, 1, 16, 16)
    torch.manual_seed(1)
    first = network(images)
    torch.manual_seed(2)
    assert torch.equal(network(images), first)


@torch.no_grad()
@EVERY_FUSION
def test_prediction_of_an_image_does_not_depend_on_its_batch(fusion: str, make_network: Make, randn: Randn) -> None:
    network, images = make_network(fusion=fusion), randn(3, 1, 16, 16)
    torch.testing.assert_close(network(images)[2:], network(images[2:]), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_another_noise_seed_changes_the_prediction(make_network: Make, randn: Randn) -> None:
    one, other, images = make_network(noise_seed=1), make_network(noise_seed=2), randn(1, 1, 16, 16)
    other.load_state_dict(one.state_dict())
    assert (one(images) - other(images)).abs().mean() > 0.01


@torch.no_grad()
def test_an_image_of_another_size_than_the_patch_gets_noise_of_its_own_size(make_network: Make, randn: Randn) -> None:
    images = randn(1, 1, 24, 8)
    expected = make_network(patch_size=(24, 8))(images)
    assert torch.equal(make_network(patch_size=(16, 16))(images), expected)


def test_a_patch_that_the_denoiser_cannot_work_on_is_refused(make_network: Make) -> None:
    with pytest.raises(ValueError, match="images of multiples of 4 x multiples of 4, not 16 x 18"):
        make_network(patch_size=(16, 18))


@EVERY_FUSION
def test_only_the_head_gets_a_gradient(fusion: str, make_network: Make, randn: Randn) -> None:
    network = make_network(fusion=fusion).train()
    network(randn(2, 1, 16, 16), randn(3, 2, 1, 16, 16), each(TIMESTEPS)).square().mean().backward()
    with_gradient = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert with_gradient == {"head"}


FINE_TUNED: dict[str, dict[str, Any]] = {"mean": {}, "concatenated": CONCATENATED, "finest level": PDDM}


@pytest.mark.parametrize("options", FINE_TUNED.values(), ids=FINE_TUNED)
def test_fine_tuned_everything_but_the_denoisers_output_gets_a_gradient(
    topology: str, options: dict, make_network: Make, size_of: Callable, randn: Randn
) -> None:
    network = make_network(topology, fine_tuned=True, **options).train()
    timesteps = each(network.settings.timesteps)
    noise = randn(len(timesteps), 2, 1, *size_of(topology)) if network.settings.adds_noise else None
    network(randn(2, 1, *size_of(topology)), noise, timesteps).square().mean().backward()
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without == {"denoiser.unet.output.weight", "denoiser.unet.output.bias"}
    assert without == {name for name, p in network.named_parameters() if not p.requires_grad}
    assert all(module.training for module in network.modules())


@torch.no_grad()
def test_a_fine_tuned_denoiser_predicts_as_a_frozen_one_of_the_same_weights(make_network: Make, randn: Randn) -> None:
    frozen, fine_tuned, images = make_network(), make_network(fine_tuned=True), randn(2, 1, 16, 16)
    fine_tuned.load_state_dict(frozen.state_dict())
    assert torch.equal(fine_tuned(images), frozen(images))


@pytest.mark.parametrize("options", FINE_TUNED.values(), ids=FINE_TUNED)
def test_ddp_waits_for_no_gradient_that_never_comes(options: dict, make_network: Make, randn: Randn) -> None:
    """DDP complains in the second step about parameters that had no gradient in the first."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        network = DistributedDataParallel(make_network(fine_tuned=True, **options).train())
        timesteps = each(network.module.settings.timesteps)
        noise = randn(len(timesteps), 2, 1, 16, 16) if network.module.settings.adds_noise else None
        for _ in range(2):
            network(randn(2, 1, 16, 16), noise, timesteps).square().mean().backward()
    finally:
        dist.destroy_process_group()


def test_training_leaves_the_denoiser_as_it_was_and_in_eval_mode(make_network: Make, randn: Randn) -> None:
    network = make_network().train()
    before = {name: value.clone() for name, value in network.denoiser.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), 0.1)
    network(randn(2, 1, 16, 16), randn(3, 2, 1, 16, 16), each(TIMESTEPS)).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in network.denoiser.state_dict().items())
    assert not any(module.training for module in network.denoiser.modules())
    assert all(module.training for module in network.head.modules())


def test_names_of_head_parameters_are_those_that_nnunets_loader_skips(make_network: Make) -> None:
    names = [name for name in make_network().state_dict() if not name.startswith("denoiser.")]
    assert names
    assert all(name.startswith("head.") and ".seg_layers." in name for name in names)


def test_noise_and_timesteps_are_not_saved_with_the_weights(make_network: Make) -> None:
    assert not {"noise", "timesteps"} & set(make_network().state_dict())
