"""What plans name is a part of networks, or is refused before anything calls it."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from nnunet_diffusion_ensemble.nnunet.named_classes import check_architecture, module_class
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer


def test_a_class_of_networks_is_found() -> None:
    assert module_class("torch.nn.Conv2d", "x") is nn.Conv2d


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os.system", "is no class of networks: name a subclass of torch.nn.Module"),
        ("builtins.print", "is no class of networks"),
        ("torch.nn.functional.relu", "is no class of networks"),
        ("pathlib.Path", "is no class of networks"),
        ("torch.nn", "is no class of networks"),
        ("nowhere.Network", "cannot be imported"),
        ("", "is no class of networks"),
        (None, "cannot be imported"),
        (["torch.nn.Conv2d"], "cannot be imported"),
    ],
)
def test_anything_else_is_refused(name: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module_class(name, "diffusion.ensemble.network_class_name")


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("conv_op", "os.system"),
        ("nonlin", "subprocess.call"),
        ("norm_op", "torch.nn.functional.relu"),
        ("norm_op", "this.Norm"),  # importing it would print a poem
        ("nonlin", 3),
    ],
)
def test_an_architecture_that_would_call_something_else_is_refused(
    setting: str, name: Any, architecture: Callable, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(ValueError, match=rf"architecture\.{setting} is {name!r}"):
        check_architecture(architecture("2d", **{setting: name}))
    assert capsys.readouterr().out == ""


def test_an_ordinary_architecture_is_allowed(architecture: Callable) -> None:
    check_architecture(architecture("2d"))


def test_a_network_class_that_is_a_function_is_not_called(
    make_trainer: Callable, capsys: pytest.CaptureFixture
) -> None:
    trainer = make_trainer(DiffusionEnsembleTrainer, {"ensemble.network_class_name": "builtins.print"})
    capsys.readouterr()
    with pytest.raises(ValueError, match=r"network_class_name of the plans is 'builtins\.print'"):
        trainer.initialize()
    assert "ResidualEncoderUNet" not in capsys.readouterr().out
