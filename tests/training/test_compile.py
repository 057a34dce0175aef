"""torch.compile, which nnU-Net uses on CUDA: no graph breaks, the same results, checkpoints without its wrapper."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch._dynamo import OptimizedModule

from nnunet_diffusion_ensemble.method import ContrastiveSettings, DenoiserSettings, DiffusionMethod
from nnunet_diffusion_ensemble.network.ensemble import TimestepEnsembleNetwork
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.training.contrastive.learning import GlobalNetwork, LocalNetwork
from nnunet_diffusion_ensemble.training.denoising_network import PretrainingNetwork

pytestmark = pytest.mark.slow  # the tracing


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    yield
    torch._dynamo.reset()


# Traced as by nnU-Net's call, but not compiled any further; a graph break is an error.
compiled: Any = partial(torch.compile, backend="eager", fullgraph=True)


@pytest.mark.parametrize("topology", ["2d", "3d_anisotropic"])
def test_the_pretraining_network_compiles_without_a_graph_break(architecture, size_of, topology, randomise, randn):
    network = randomise(PretrainingNetwork(architecture(topology), 2, DenoiserSettings()))
    images, noise = randn(2, 2, *size_of(topology)), randn(2, 2, *size_of(topology))
    timesteps = torch.tensor([3, 700])
    for found, expected in zip(
        compiled(network)(images, noise, timesteps), network(images, noise, timesteps), strict=True
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "ensemble.fusion": "concatenated_features",
            "ensemble.images_per_pass": 2,
            "training.timesteps_per_image": None,
        },
        {"ensemble.adds_noise": False, "ensemble.head.finest_levels": 1, "training.fine_tune_denoiser": True},
    ],
    ids=["mean", "concatenated", "fine-tuned"],
)
def test_the_ensemble_network_compiles_without_a_graph_break(options, architecture, size_of, randomise, randn):
    method = DiffusionMethod().with_options({"ensemble.timesteps": (1, 50, 400), **options})
    size = size_of("2d")
    network = randomise(TimestepEnsembleNetwork(architecture("2d"), 1, 2, method, size)).eval()
    images, timesteps = randn(2, 1, *size), network.timesteps[:, None].expand(-1, 2)
    noise = randn(3, 2, 1, *size) if method.ensemble.adds_noise else None
    torch.testing.assert_close(compiled(network)(images), network(images))
    found, expected = compiled(network)(images, noise, timesteps), network(images, noise, timesteps)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("topology", ["2d", "3d_anisotropic"])
def test_the_contrastive_networks_compile_without_a_graph_break(architecture, size_of, topology, randomise, randn):
    made, size = architecture(topology), size_of(topology)
    arguments = (made["network_class_name"], made["arch_kwargs"], made["_kw_requires_import"], 1, 1)
    settings = ContrastiveSettings(num_regions=2, region_size=2)
    make_unet = partial(get_network_from_plans, *arguments, deep_supervision=False)
    for network in (GlobalNetwork(make_unet(), settings), LocalNetwork(make_unet(), settings, size)):
        images = randn(2, 1, *size)
        torch.testing.assert_close(compiled(randomise(network))(images), network(images))


def test_a_compiled_pretraining_writes_the_checkpoint_of_a_plain_one(make_trainer, randn, monkeypatch, tmp_path):
    batch, checkpoints = {"data": randn(2, 1, 16, 16), "index": 0}, []
    for compiles in (False, True):
        trainer = make_trainer(DiffusionPretrainTrainer)
        monkeypatch.setattr(trainer, "_do_i_compile", lambda compiles=compiles: compiles)
        monkeypatch.setattr(torch, "compile", compiled)
        trainer.initialize()
        assert isinstance(trainer.network, OptimizedModule) == compiles
        trainer.on_train_epoch_start()
        for _ in range(2):
            trainer.train_step(batch)
        checkpoints.append(tmp_path / f"{compiles}.pth")
        trainer.save_checkpoint(str(checkpoints[-1]))
    plain, ours = (torch.load(file, weights_only=False) for file in checkpoints)
    for part in ("network_weights", "trained_weights"):
        torch.testing.assert_close(ours[part], plain[part], rtol=1e-3, atol=1e-4)
