"""A denoiser at one timestep as nnU-Net's own U-Net: what nnU-Net computes with it against the denoiser's features."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.denoiser.export import export_folded
from nnunet_diffusion_ensemble.denoiser.folding import folded_weights
from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.denoiser.pretrained import read_pretrained
from nnunet_diffusion_ensemble.denoiser.unets.base import DenoisingUNet
from nnunet_diffusion_ensemble.method import DenoiserSettings, DiffusionMethod

TIMESTEP = 400
SCALES = (0.3, 1.7)


@pytest.fixture
def make_denoiser(architecture: Callable, randomise: Callable) -> Callable[..., Denoiser]:
    """Denoisers of two channels with all weights random, also those of the timestep, which are zero at first."""

    def make(name: str = "2d", shift: float = 0.0, **changes: Any) -> Denoiser:
        settings = DenoiserSettings(input_scale=SCALES, input_shift=(0.0, shift))
        denoiser = randomise(Denoiser(architecture(name, **changes), 2, settings)).eval()
        denoiser.trained_iterations.fill_(7)
        return denoiser

    return make


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes a denoiser as its pretraining does."""

    def saved(denoiser: Denoiser, architecture: dict[str, Any]) -> Path:
        method = DiffusionMethod().with_options({"denoiser.input_scale": SCALES, "denoiser.input_shift": (0.0, 0.0)})
        configuration = {"architecture": architecture, "diffusion": method.to_plans(), "patch_size": [16, 16]}
        state = {
            "network_weights": {f"denoiser.{name}": value for name, value in denoiser.state_dict().items()},
            "init_args": {"plans": {"configurations": {"2d": configuration}}, "configuration": "2d"},
            "trainer_name": "DiffusionPretrainTrainer",
        }
        torch.save(state, tmp_path / "denoiser.pth")
        return tmp_path / "denoiser.pth"

    return saved


def stock_network(architecture: dict[str, Any], num_classes: int = 3) -> nn.Module:
    """The network that stock `nnUNetTrainer` trains, as nnU-Net initialises it."""
    network, arguments = architecture["network_class_name"], architecture["arch_kwargs"]
    needs_import = architecture["_kw_requires_import"]
    return get_network_from_plans(network, arguments, needs_import, 2, num_classes, deep_supervision=True)


def decoder_outputs(network: Any, images: Tensor) -> list[Tensor]:
    outputs: list[Tensor] = []
    for stage in network.decoder.stages:
        stage.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.no_grad():
        network(images)
    return outputs


def expected_features(denoiser: Denoiser, images: Tensor) -> list[Tensor]:
    """x_t for noise that is 0, by the formula, through the denoiser with its timestep."""
    scales = torch.tensor(SCALES).reshape(2, *[1] * (images.ndim - 2))
    noised = denoiser.schedule.alpha_bar[TIMESTEP].sqrt() * (scales * images)
    with torch.no_grad():
        return denoiser.unet.features(noised, torch.full((len(images),), TIMESTEP))


def assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-4) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * other.abs().max().item())


def test_stock_network_loads_the_file_and_computes_the_same_features(
    topology: str, make_denoiser: Callable, architecture: Callable, size_of: Callable, randn: Callable, tmp_path: Path
) -> None:
    denoiser, network = make_denoiser(topology), stock_network(architecture(topology))
    torch.save({"network_weights": folded_weights(denoiser, TIMESTEP)}, tmp_path / "folded.pth")
    load_pretrained_weights(network, tmp_path / "folded.pth")
    images = randn(2, 2, *size_of(topology))
    assert_close(decoder_outputs(network, images), expected_features(denoiser, images), 1e-5)


def test_another_timestep_gives_other_features(
    make_denoiser: Callable, architecture: Callable, randn: Callable
) -> None:
    # Otherwise the test above would pass with the timestep left out on both sides.
    denoiser, network, images = make_denoiser(), stock_network(architecture("2d")), randn(2, 2, 16, 16)
    network.load_state_dict(folded_weights(denoiser, 10), strict=False)
    found, expected = decoder_outputs(network, images), expected_features(denoiser, images)
    assert (found[-1] - expected[-1]).abs().mean() > 0.01


@pytest.mark.parametrize("num_classes", [2, 5])
def test_all_names_and_shapes_are_nnunets_but_for_the_segmentation_layers(
    num_classes: int, make_denoiser: Callable, architecture: Callable
) -> None:
    names = stock_network(architecture("2d"), num_classes).state_dict()
    expected = {name: value.shape for name, value in names.items() if ".seg_layers." not in name}
    assert {name: value.shape for name, value in folded_weights(make_denoiser(), 1).items()} == expected


def test_the_denoiser_stays_as_it_is(make_denoiser: Callable) -> None:
    denoiser = make_denoiser()
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    folded_weights(denoiser, 5)
    after = denoiser.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("timestep", [-1, 1000])
def test_a_timestep_outside_the_process_is_refused(timestep: int, make_denoiser: Callable) -> None:
    with pytest.raises(ValueError, match=f"timesteps of this denoiser are 0 to 999, got {timestep}"):
        folded_weights(make_denoiser(), timestep)


def test_a_shift_of_the_input_is_refused(make_denoiser: Callable) -> None:
    with pytest.raises(ValueError, match=r"adds 0, -1 to its input .*Pretrain on z-scores"):
        folded_weights(make_denoiser(shift=-1.0), 1)


def test_the_first_convolution_scales_the_image_by_the_share_of_the_signal(make_denoiser: Callable) -> None:
    # The norm after it takes a common factor away, so that features further on cannot tell.
    denoiser = make_denoiser()
    convolution = denoiser.unet.encoder.stem.convs[0].conv
    shares = [denoiser.schedule.alpha_bar[TIMESTEP].sqrt() * scale for scale in SCALES]
    expected = torch.stack([convolution.weight[:, i] * share for i, share in enumerate(shares)], dim=1)
    found = folded_weights(denoiser, TIMESTEP)["encoder.stem.convs.0.conv.weight"]
    torch.testing.assert_close(found, expected.detach())
    assert shares[0] < 0.9 * SCALES[0]


def test_a_denoiser_of_another_library_is_refused(make_denoiser: Callable) -> None:
    class OtherUNet(DenoisingUNet):
        output_layers = ()

        def features(self, noisy_images: Tensor, timesteps: Tensor) -> list[Tensor]:
            raise NotImplementedError

        def forward(self, noisy_images: Tensor, timesteps: Tensor) -> Tensor:
            raise NotImplementedError

    foreign = SimpleNamespace(unet=OtherUNet(), schedule=make_denoiser().schedule)
    with pytest.raises(ValueError, match="U-Net of another library"):
        folded_weights(foreign, 1)  # type: ignore[arg-type]


def test_half_precision_rounds_the_features_and_halves_the_file(
    make_denoiser: Callable, architecture: Callable, save: Callable, randn: Callable, tmp_path: Path
) -> None:
    # Relative rounding of float16 is 2^-11 for each weight; in the features of this small network below a hundredth.
    made = architecture("2d", features_per_stage=[16, 32, 64])
    denoiser, images = make_denoiser(features_per_stage=[16, 32, 64]), randn(2, 2, 16, 16)
    checkpoint, network = save(denoiser, made), stock_network(made)
    for name, half in (("whole", False), ("half", True)):
        export_folded(read_pretrained(checkpoint), tmp_path / f"{name}.pth", TIMESTEP, half)
    sizes = [(tmp_path / f"{name}.pth").stat().st_size for name in ("half", "whole")]
    assert sizes[0] / sizes[1] == pytest.approx(0.5, abs=0.1)
    load_pretrained_weights(network, tmp_path / "half.pth")
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    assert_close(decoder_outputs(network, images), expected_features(denoiser, images), 1e-2)


def test_the_command_writes_the_file_and_says_how_to_use_it(
    make_denoiser: Callable, architecture: Callable, save: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    denoiser = make_denoiser()
    checkpoint, output = save(denoiser, architecture("2d")), tmp_path / "folded.pth"
    assert main(["export", str(checkpoint), str(output), "--timestep", "7"]) == 0
    assert f"-pretrained_weights {output}" in capsys.readouterr().out
    saved = torch.load(output, weights_only=True)["network_weights"]
    expected = folded_weights(denoiser, 7)
    assert list(saved) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in saved.items())


def test_a_timestep_outside_the_process_leaves_no_file(
    make_denoiser: Callable, architecture: Callable, save: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoint = save(make_denoiser(), architecture("2d"))
    assert main(["export", str(checkpoint), str(tmp_path / "folded.pth"), "--timestep", "1000"]) == 2
    assert "0 to 999, got 1000" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["denoiser.pth"]


def test_folded_weights_are_no_denoiser(
    make_denoiser: Callable, architecture: Callable, save: Callable, tmp_path: Path
) -> None:
    export_folded(read_pretrained(save(make_denoiser(), architecture("2d"))), tmp_path / "folded.pth", 7)
    with pytest.raises(ValueError, match="holds no denoiser: it was written by nnunet-diffusion export --timestep"):
        read_pretrained(tmp_path / "folded.pth")
