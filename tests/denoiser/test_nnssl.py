"""A denoiser in nnssl's form: what nnU-Net's readers ask for, by a small reader that follows their rules."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.denoiser.folding import folded_weights
from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.denoiser.nnssl import NAMED_TOPOLOGY, nnssl_description
from nnunet_diffusion_ensemble.denoiser.pretrained import PretrainedDenoiser, read_pretrained
from nnunet_diffusion_ensemble.method import DenoiserSettings, DiffusionMethod

TIMESTEP = 50
PATCH = [16, 16, 16]


def save(denoiser: Denoiser, architecture: dict[str, Any], file: Path, patch: list[int]) -> Path:
    name = f"{len(patch)}d"
    configuration = {"architecture": architecture, "diffusion": DiffusionMethod().to_plans(), "patch_size": patch}
    plans = {"plans_name": "Made", "configurations": {name: {**configuration, "spacing": [1.0] * len(patch)}}}
    state = {
        "network_weights": {f"denoiser.{key}": value for key, value in denoiser.state_dict().items()},
        "init_args": {"plans": plans, "configuration": name},
        "trainer_name": "DiffusionPretrainTrainer",
    }
    torch.save(state, file)
    return file


@pytest.fixture
def made(architecture: Callable, randomise: Callable, tmp_path: Path) -> tuple[Denoiser, dict[str, Any], Path]:
    """A denoiser of volumes of one channel, its architecture and its checkpoint."""
    arguments = architecture("3d")
    denoiser = randomise(Denoiser(arguments, 1, DenoiserSettings())).eval()
    denoiser.trained_iterations.fill_(7)
    return denoiser, arguments, save(denoiser, arguments, tmp_path / "denoiser.pth", PATCH)


@pytest.fixture
def exported(made: tuple, tmp_path: Path) -> dict[str, Any]:
    output = tmp_path / "nnssl.pth"
    assert main(["export", str(made[2]), str(output), "--format", "nnssl", "--timestep", str(TIMESTEP)]) == 0
    return torch.load(output, map_location="cpu", weights_only=True)  # as the readers load it


def stock(arguments: dict[str, Any], channels: int) -> Any:
    network, needs_import = arguments["network_class_name"], arguments["_kw_requires_import"]
    return get_network_from_plans(network, arguments["arch_kwargs"], needs_import, channels, 3, deep_supervision=False)


def load_as_nnunet(network: Any, checkpoint: dict[str, Any], channels: int) -> None:
    """Encoder and stem by the keys of the plan, the stem repeated for more channels; every key must fit."""
    plan, weights = checkpoint["nnssl_adaptation_plan"], dict(checkpoint["network_weights"])
    if channels > plan["pretrain_num_input_channels"]:
        first = weights[f"{plan['keys_to_in_proj'][0]}.weight"]
        for key in plan["keys_to_in_proj"]:
            weights[f"{key}.weight"] = first.repeat(1, channels, 1, 1, 1) / channels
    for key, target in (("key_to_encoder", network.key_to_encoder), ("key_to_stem", network.key_to_stem)):
        prefix = f"{plan[key]}."
        part = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        assert part
        network.get_submodule(target).load_state_dict(part, strict=True)


def test_the_plan_has_the_keys_that_the_readers_name(exported: dict[str, Any]) -> None:
    plan = exported["nnssl_adaptation_plan"]
    assert set(plan) >= {
        *("architecture_plans", "pretrain_plan", "pretrain_num_input_channels", "recommended_downstream_patchsize"),
        *("key_to_encoder", "key_to_stem", "keys_to_in_proj", "key_to_lpe"),
    }
    assert set(plan["architecture_plans"]) == {"arch_class_name", "arch_kwargs", "arch_kwargs_requiring_import"}
    (configuration,) = plan["pretrain_plan"]["configurations"].values()
    assert (configuration["spacing"], configuration["patch_size"]) == ([1.0, 1.0, 1.0], PATCH)
    assert (plan["pretrain_num_input_channels"], plan["recommended_downstream_patchsize"]) == (1, PATCH)
    assert {"type", "name", "apa_citations"} <= set(exported["citations"][0])


def test_its_keys_are_those_of_nnunets_own_network(made: tuple, exported: dict[str, Any]) -> None:
    network, plan = stock(made[1], 1), exported["nnssl_adaptation_plan"]
    assert isinstance(network, ResidualEncoderUNet)
    assert plan["key_to_encoder"] == network.key_to_encoder
    assert plan["key_to_stem"] == network.key_to_stem
    assert tuple(plan["keys_to_in_proj"]) == tuple(network.keys_to_in_proj)


def test_encoder_and_stem_load_strictly_and_compute_the_denoisers_features(
    made: tuple, exported: dict[str, Any], randn: Callable
) -> None:
    denoiser, network, image = made[0], stock(made[1], 1).eval(), randn(2, 1, *PATCH)
    load_as_nnunet(network, exported, 1)
    seen: list[torch.Tensor] = []
    upsampling = denoiser.unet.decoder.transpconvs[0]  # what comes into it leaves the deepest stage of the encoder
    upsampling.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        signal = denoiser.schedule.alpha_bar[TIMESTEP].sqrt()
        denoiser.unet.features(signal * image, torch.full((2,), TIMESTEP))
        deepest = network.encoder(image)[-1]
    torch.testing.assert_close(deepest, seen[0], rtol=1e-3, atol=1e-3 * seen[0].abs().max().item())


def test_a_stem_repeated_for_more_channels_sees_their_mean(
    made: tuple, exported: dict[str, Any], randn: Callable
) -> None:
    one, three = stock(made[1], 1).eval(), stock(made[1], 3).eval()
    load_as_nnunet(one, exported, 1)
    load_as_nnunet(three, exported, 3)
    image = randn(1, 3, *PATCH)
    with torch.no_grad():
        found, expected = three.encoder(image)[-1], one.encoder(image.mean(1, keepdim=True))[-1]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_its_weights_are_those_of_the_folded_denoiser(made: tuple, exported: dict[str, Any]) -> None:
    expected = folded_weights(made[0], TIMESTEP)
    assert list(exported["network_weights"]) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in exported["network_weights"].items())


def described(pretrained: PretrainedDenoiser, **arguments: Any) -> dict[str, Any]:
    pretrained.architecture["arch_kwargs"].update(arguments)
    return nnssl_description(pretrained)["nnssl_adaptation_plan"]["architecture_plans"]


def test_the_one_topology_that_has_a_name_is_named(made: tuple) -> None:
    pretrained = read_pretrained(made[2])
    assert described(pretrained)["arch_class_name"].endswith(".ResidualEncoderUNet")
    assert described(pretrained)["arch_kwargs"]["n_stages"] == made[1]["arch_kwargs"]["n_stages"]
    assert described(pretrained, **NAMED_TOPOLOGY)["arch_class_name"] == "ResEncL"
    assert described(pretrained, n_blocks_per_stage=[1, 3, 4, 6, 6, 5])["arch_class_name"] != "ResEncL"


@pytest.mark.parametrize(
    ("topology", "patch", "options", "message"),
    [
        ("2d", [16, 16], ["--timestep", "50"], "is one of pictures, of 16 x 16 pixels"),
        ("3d", PATCH, [], "at one timestep: name it (--timestep 50)"),
        ("3d", PATCH, ["--timestep", "1000"], "0 to 999, got 1000"),
    ],
)
def test_what_cannot_be_written_so_is_told_and_leaves_no_file(
    topology: str,
    patch: list[int],
    options: list[str],
    message: str,
    architecture: Callable,
    randomise: Callable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    denoiser = randomise(Denoiser(architecture(topology), 1, DenoiserSettings()))
    denoiser.trained_iterations.fill_(7)
    checkpoint = save(denoiser, architecture(topology), tmp_path / "denoiser.pth", patch)
    assert main(["export", str(checkpoint), str(tmp_path / "out.pth"), "--format", "nnssl", *options]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["denoiser.pth"]
