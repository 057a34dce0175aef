"""A denoiser to pass on: what the file holds, and that it is the same denoiser."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.denoiser.export import export_denoiser
from nnunet_diffusion_ensemble.denoiser.pretrained import read_pretrained
from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.training.denoising_network import PretrainingNetwork

BUFFERS = ("schedule.alpha_bar", "input_scale", "input_shift", "intensity_range", "trained_iterations")


@pytest.fixture
def checkpoint(architecture: Callable, randomise: Callable, tmp_path: Path) -> Path:
    """A pretraining's checkpoint with everything that a training needs beside the weights."""
    made = architecture("2d", features_per_stage=[8, 16, 32])
    method = DiffusionMethod().with_options({"denoiser.input_scale": (0.3,), "pretrained_checkpoint": "/home/me/x.pth"})
    network = randomise(PretrainingNetwork(made, 1, method.denoiser))
    network.denoiser.trained_iterations.fill_(7)
    network.denoiser.intensity_range.copy_(torch.tensor([-1.1, 2.3]))
    configuration = {"architecture": made, "diffusion": method.to_plans(), "patch_size": [16, 24], "spacing": [1, 1]}
    plans = {"dataset_name": "Dataset001_A", "configurations": {"2d": configuration, "3d_fullres": {}}}
    weights = network.state_dict()
    state = {
        "network_weights": weights | {"head.weight": torch.zeros(3)},
        "trained_weights": {name: value.clone() for name, value in weights.items()},
        "optimizer_state": {name: value.clone() for name, value in weights.items()},
        "init_args": {"plans": plans, "configuration": "2d", "fold": "all"},
        "trainer_name": "DiffusionPretrainTrainer",
    }
    torch.save(state, tmp_path / "checkpoint_final.pth")
    return tmp_path / "checkpoint_final.pth"


def test_the_exported_denoiser_is_the_same(checkpoint: Path, tmp_path: Path) -> None:
    export_denoiser(read_pretrained(checkpoint), tmp_path / "out.pth")
    before, after = (read_pretrained(file) for file in (checkpoint, tmp_path / "out.pth"))
    assert before.patch_size == after.patch_size
    expected = before.module().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in after.module().state_dict().items())


def test_it_holds_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    export_denoiser(read_pretrained(checkpoint), tmp_path / "out.pth")
    saved = torch.load(tmp_path / "out.pth", weights_only=True)  # not even an object that needs to be unpickled
    assert set(saved) == {"network_weights", "init_args", "trainer_name", "pretrains"}
    assert all(name.startswith("denoiser.") for name in saved["network_weights"])
    assert list(saved["init_args"]["plans"]["configurations"]) == ["2d"]
    assert "/home/me" not in str(saved["init_args"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_final.pth", "out.pth"]


def test_half_precision_rounds_parameters_and_no_buffer(checkpoint: Path, tmp_path: Path) -> None:
    export_denoiser(read_pretrained(checkpoint), tmp_path / "half.pth", half=True)
    expected = read_pretrained(checkpoint).module().state_dict()
    for name, value in read_pretrained(tmp_path / "half.pth").module().state_dict().items():
        assert value.dtype == expected[name].dtype
        rounded = expected[name] if name in BUFFERS else expected[name].half().float()
        assert torch.equal(value, rounded), name


def test_half_precision_halves_the_file(checkpoint: Path, tmp_path: Path) -> None:
    # Each parameter once with 2 bytes, though the state dict names most of them twice; 1,000 alpha-bars with 4.
    export_denoiser(read_pretrained(checkpoint), tmp_path / "half.pth", half=True)
    denoiser = read_pretrained(checkpoint).module()
    num_bytes = 2 * sum(parameter.numel() for parameter in denoiser.parameters()) + 4 * 1000
    stored = read_pretrained(tmp_path / "half.pth").weights.values()
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in stored}
    assert sum(storages.values()) == pytest.approx(num_bytes, abs=100)


def test_a_weight_too_large_for_half_precision_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=False)
    state["network_weights"]["denoiser.unet.output.weight"][0] = 1e5
    torch.save(state, checkpoint)
    with pytest.raises(ValueError, match=r"unet\.output\.weight holds values too large for float16"):
        export_denoiser(read_pretrained(checkpoint), tmp_path / "half.pth", half=True)
    assert not (tmp_path / "half.pth").exists()


def test_a_checkpoint_is_not_overwritten_by_its_own_export(checkpoint: Path, tmp_path: Path, capsys) -> None:
    before = checkpoint.read_bytes()
    assert main(["export", str(checkpoint), str(tmp_path / "." / "checkpoint_final.pth")]) == 2
    assert "is the checkpoint itself" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before


def test_a_missing_folder_is_named(checkpoint: Path, tmp_path: Path, capsys) -> None:
    assert main(["export", str(checkpoint), str(tmp_path / "nowhere" / "out.pth")]) == 2
    assert f"There is no folder {tmp_path / 'nowhere'}." in capsys.readouterr().err
