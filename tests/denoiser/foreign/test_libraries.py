"""The table of libraries: a made-up one needs an entry and its own code, and nothing else."""

import sys
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.foreign.denoiser import read_foreign
from nnunet_diffusion_ensemble.denoiser.foreign.saved_model import SavedModel
from nnunet_diffusion_ensemble.denoiser.unets.base import DenoisingUNet
from nnunet_diffusion_ensemble.method import LIBRARIES, DiffusionMethod
from nnunet_diffusion_ensemble.method.libraries import Library

ALPHA_BAR = torch.linspace(0.99, 0.01, 7)


class TwoConvolutions(DenoisingUNet):
    """The smallest U-Net: one level."""

    def __init__(self, arguments: dict):
        super().__init__()
        self.feature_channels, self.size_divisors = (arguments["width"],), (1, 1)
        self.begin = nn.Conv2d(arguments["in_channels"], arguments["width"], 1)
        self.end = nn.Conv2d(arguments["width"], arguments["out_channels"], 1)

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        return (self.end,)

    def features(self, noisy_images: Tensor, timesteps: Tensor) -> list[Tensor]:
        return [self.begin(noisy_images)]

    def forward(self, noisy_images: Tensor, timesteps: Tensor) -> Tensor:
        return self.end(self.begin(noisy_images))


def read(path: Path) -> SavedModel:
    arguments = {"in_channels": 1, "out_channels": 1, "width": int(path.name)}
    weights = {name: torch.full_like(value, 0.5) for name, value in TwoConvolutions(arguments).state_dict().items()}
    return SavedModel(arguments, weights, ALPHA_BAR, "epsilon")


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("made_up_library")
    module.build, module.read = TwoConvolutions, read  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entry = Library("made_up_library:build", "made_up_library:read", prefix="unet.", first="begin", last="end")
    monkeypatch.setitem(LIBRARIES, "made_up", entry)


@pytest.mark.usefixtures("made_up")
def test_a_library_is_read_after_one_entry_in_the_table() -> None:
    foreign = read_foreign("made_up:4")
    assert foreign.state_dict["unet.begin.weight"].shape == (4, 1, 1, 1)
    torch.testing.assert_close(foreign.state_dict["schedule.alpha_bar"], ALPHA_BAR)


@pytest.mark.usefixtures("made_up")
def test_its_denoiser_is_adapted_to_other_channels() -> None:
    adapted = read_foreign("made_up:4").for_images([1.0, 1.0], [0.0, 0.0])
    assert adapted.state_dict["unet.begin.weight"].tolist() == [[[[0.25]], [[0.25]]]] * 4  # the mean times 1/2
    assert adapted.state_dict["unet.end.weight"].shape == (2, 4, 1, 1)


@pytest.mark.usefixtures("made_up")
def test_its_name_is_allowed_in_plans() -> None:
    values = {"denoiser": {"library": {"name": "made_up", "arguments": {}}}}
    assert DiffusionMethod().with_options(values).denoiser.library.name == "made_up"  # type: ignore[union-attr]


def test_another_name_is_not_allowed_in_plans() -> None:
    with pytest.raises(ValueError, match=r"library\.name must be diffusers, monai or guided_diffusion; got 'made_up'"):
        DiffusionMethod().with_options({"denoiser": {"library": {"name": "made_up", "arguments": {}}}})


@pytest.mark.parametrize("name", LIBRARIES)
def test_code_that_the_table_names_is_there(name: str) -> None:
    assert callable(resolve_name(LIBRARIES[name].builder))
    assert callable(resolve_name(LIBRARIES[name].reader))
