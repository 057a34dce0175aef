"""Contrastive learning: the loss, the regions, the networks, the views."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from monai.losses import ContrastiveLoss
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn
from torch.nn.functional import cosine_similarity

from nnunet_diffusion_ensemble.method import ContrastiveSettings
from nnunet_diffusion_ensemble.training.contrastive.learning import (
    GlobalNetwork,
    LocalNetwork,
    TwoViews,
    at_regions,
    draw_regions,
    fixed_randomness,
    nt_xent,
)

# ---- loss


def test_loss_of_orthogonal_images_with_equal_views():
    # Each of the four views: cosine 1 with its positive, 0 with two negatives.
    views = torch.eye(2)
    expected = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert nt_xent(views, 3 * views, temperature=0.5).item() == pytest.approx(expected)


def test_loss_of_views_that_are_nearer_to_the_other_image():
    # Cosines: 0 with the positive; 1 and 0 with the negatives.
    first, second = torch.eye(2), torch.eye(2).flip(0)
    assert nt_xent(first, second, temperature=1.0).item() == pytest.approx(math.log(2 + math.e))


def loss_in_loops(first, second, temperature, cases):
    """Mean of -log(positive / (positive + negatives)) over the views, each exp(cosine / temperature)."""
    views, cases = [*first, *second], [*cases, *cases]
    losses = []
    for i, view in enumerate(views):
        positive = (i + len(first)) % len(views)
        similarities = [math.exp(cosine_similarity(view, other, dim=0) / temperature) for other in views]
        negatives = sum(s for j, s in enumerate(similarities) if cases[j] != cases[i])
        losses.append(-math.log(similarities[positive] / (similarities[positive] + negatives)))
    return np.mean(losses)


@pytest.mark.parametrize("cases", [[0, 1, 2, 3, 4], [7, 3, 7, 3, 7]])
def test_loss_is_that_of_loops_over_all_pairs(randn, cases):
    first, second = randn(5, 6), randn(5, 6)
    found = nt_xent(first, second, 0.1, torch.tensor(cases)).item()
    assert found == pytest.approx(loss_in_loops(first, second, 0.1, cases), rel=1e-4)


def test_without_cases_all_images_differ_as_for_monai(randn):
    first, second = randn(5, 6), randn(5, 6)
    torch.testing.assert_close(nt_xent(first, second, 0.2), ContrastiveLoss(0.2)(first, second))


def test_loss_of_a_set_of_images_is_the_mean_of_theirs(randn):
    first, second = randn(3, 5, 6), randn(3, 5, 6)
    expected = torch.stack([nt_xent(*views, 0.1) for views in zip(first, second, strict=True)]).mean()
    torch.testing.assert_close(nt_xent(first, second, 0.1), expected)


def test_loss_of_half_precision_is_computed_in_single(randn):
    first, second = randn(4, 3).half(), randn(4, 3).half()
    found = nt_xent(first, second, 0.01)
    torch.testing.assert_close(found, nt_xent(first.float(), second.float(), 0.01))


def test_without_negatives_the_loss_is_zero(randn):
    assert nt_xent(randn(1, 4), randn(1, 4), 0.1).item() == 0


# ---- regions


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize(("size", "region_size", "most"), [((8, 11), 3, 6), ((4, 6, 5), 2, 12), ((3, 3), 3, 1)])
def test_regions_lie_in_the_feature_map_and_share_no_voxel(size, region_size, most):
    for corners in draw_regions(size, region_size, most, generators(*range(20))):
        counts = torch.zeros(size)
        for corner in corners.tolist():
            counts[tuple(slice(start, start + region_size) for start in corner)] += 1
        assert counts.max() == 1
        assert counts.sum() == most * region_size ** len(size)


def test_regions_are_drawn_everywhere_and_anew_for_each_generator():
    corners = draw_regions((7, 7), 3, 2, generators(*range(50)))
    assert corners.shape == (50, 2, 2)
    assert set(corners.flatten().tolist()) == {0, 1, 3, 4}  # the grid of 6 x 6 starts at 0 or 1
    assert len({tuple(drawn) for drawn in corners.flatten(1).tolist()}) > 10


def test_the_same_generators_draw_the_same_regions():
    found = [draw_regions((9, 9), 3, 4, generators(3, 4)) for _ in range(2)]
    assert torch.equal(*found)


@pytest.mark.parametrize("size", [(6, 9), (4, 6, 5)])
def test_features_at_regions_are_the_slices(size, randn):
    features = randn(3, 2, *size)
    corners = draw_regions(size, 2, 4, generators(0, 1, 2))
    found = at_regions(features, corners, 2)
    for image in range(3):
        for region, corner in enumerate(corners[image].tolist()):
            where = tuple(slice(start, start + 2) for start in corner)
            assert torch.equal(found[image, region], features[image][(slice(None), *where)].flatten())


# ---- networks


@pytest.fixture
def make_unet(architecture, randomise):
    def make(topology: str = "2d") -> nn.Module:
        made = architecture(topology)
        arguments = made["arch_kwargs"], made["_kw_requires_import"], 1, 1
        return randomise(get_network_from_plans(made["network_class_name"], *arguments, deep_supervision=False))

    return make


make_local = partial(ContrastiveSettings, num_regions=2, region_size=2)


def trained(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_both_networks_hold_all_weights_of_the_unet_under_their_names(make_unet):
    unet = make_unet()
    expected = unet.state_dict()
    for network in (GlobalNetwork(unet, make_local()), LocalNetwork(unet, make_local(), (16, 16))):
        found = network.state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        assert all(name.startswith("projection.") for name in found.keys() - expected.keys())


def test_the_global_network_projects_the_mean_of_the_bottleneck(make_unet, size_of, topology, randn):
    unet, images = make_unet(topology), randn(2, 1, *size_of(topology))
    network = GlobalNetwork(unet, ContrastiveSettings(projection_features=7))
    mean = unet.encoder(images)[-1].flatten(2).mean(-1)
    first, _, second = network.projection.seg_layers
    torch.testing.assert_close(network(images), second(first(mean).clamp(min=0)))
    assert network(images).shape == (2, 7)


def test_the_global_network_trains_encoder_and_projection(make_unet):
    network = GlobalNetwork(make_unet(), ContrastiveSettings())
    names = {name for name, _ in network.named_parameters()}
    assert trained(network) == {name for name in names if name.startswith(("encoder.", "projection."))}


@pytest.mark.parametrize("num_stages", [1, 2])
def test_the_local_network_projects_what_the_decoder_has_after_some_stages(
    make_unet, size_of, topology, num_stages, randn
):
    unet, images, outputs = make_unet(topology), randn(2, 1, *size_of(topology)), []
    network = LocalNetwork(unet, make_local(num_decoder_stages=num_stages), size_of(topology))
    hook = unet.decoder.stages[num_stages - 1].register_forward_hook(lambda *call: outputs.append(call[2]))
    unet(images)
    hook.remove()
    torch.testing.assert_close(network(images), network.projection(outputs[0]))


def test_the_local_network_trains_the_first_stages_and_the_projection(make_unet, randn):
    network = LocalNetwork(make_unet(), make_local(num_decoder_stages=1), (16, 16))
    prefixes = ("decoder.stages.0.", "decoder.transpconvs.0.", "projection.")
    names = {name for name, _ in network.named_parameters()}
    assert trained(network) == {name for name in names if name.startswith(prefixes)}
    assert network.pretrained_parts == ["encoder.", "decoder.transpconvs.0.", "decoder.stages.0."]
    network(randn(2, 1, 16, 16)).sum().backward()
    assert all(parameter.grad is None for parameter in network.encoder.parameters())


def test_the_frozen_encoder_stays_as_in_evaluation(make_unet):
    network = LocalNetwork(make_unet(), make_local(), (16, 16)).train()
    assert network.training and network.decoder.stages.training
    assert not any(module.training for module in network.encoder.modules())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_decoder_stages": 3}, "num_decoder_stages is 3, but the decoder has 2 stages"),
        # After one stage 8 x 8 features, in which 2 x 2 regions of size 3 fit.
        (
            {"num_decoder_stages": 1, "num_regions": 5, "region_size": 3},
            r"maps of 8 x 8 have room for 4 regions of size 3, but .*num_regions is 5. Lower num_regions",
        ),
    ],
)
def test_settings_that_do_not_fit_the_decoder_are_refused(make_unet, settings, message):
    with pytest.raises(ValueError, match=message):
        LocalNetwork(make_unet(), make_local(**settings), (16, 16))


def test_as_many_regions_as_fit_are_allowed(make_unet):
    LocalNetwork(make_unet(), ContrastiveSettings(num_decoder_stages=1, num_regions=4), (16, 16))


# ---- views


class AddsANumber(BasicTransform):
    """Which differs at each call, in place."""

    def apply(self, data_dict: dict, **params: object) -> dict:
        data_dict["image"] += float(np.random.rand() + torch.rand(()))
        return data_dict


def test_two_views_are_drawn_anew_from_one_patch_and_stand_in_channels(randn):
    patch = randn(2, 4, 4)
    before = patch.clone()
    found = TwoViews(AddsANumber())(image=patch, segmentation=torch.zeros(1, 4, 4))["image"]
    assert found.shape == (4, 4, 4)
    differences = found - before.repeat(2, 1, 1)
    for view in (differences[:2], differences[2:]):
        assert view.std() < 1e-6 < view.mean()
    assert abs(differences[0, 0, 0] - differences[2, 0, 0]) > 1e-3
    assert torch.equal(patch, before)


def test_fixed_randomness_repeats_and_leaves_no_trace():
    def drawn() -> list[float]:
        return [np.random.rand(), torch.rand(()).item()]

    np.random.seed(1)
    torch.manual_seed(1)
    expected = drawn() + drawn()
    np.random.seed(1)
    torch.manual_seed(1)
    outside, inside = drawn(), []
    for _ in range(2):
        with fixed_randomness(5):
            inside.append(drawn())
    assert outside + drawn() == expected
    assert inside[0] == inside[1]
