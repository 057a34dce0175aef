"""Denoiser files from others: no code of theirs is run, damage is noticed, and any nonsense is told in a sentence."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import change_somewhere, damaged, is_read

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.denoiser.export import export_denoiser, export_folded
from nnunet_diffusion_ensemble.denoiser.pretrained import read_pretrained
from nnunet_diffusion_ensemble.nnunet.checkpoint import plain_values, read_checkpoint
from nnunet_diffusion_ensemble.nnunet.safetensors_file import read_safetensors, write_safetensors
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer

TRIES = 1000
BUILT_ONE_OF = 20


@pytest.fixture
def pretrained(make_trainer: Callable, randomise: Callable, tmp_path: Path) -> Path:
    """A small checkpoint of the pretraining, as it writes it."""
    trainer = make_trainer(DiffusionPretrainTrainer)
    trainer.initialize()
    randomise(trainer.averaged_network)
    trainer.averaged_network.denoiser.trained_iterations.fill_(3)
    trainer.logger.log("val_losses", np.float32(0.25), 0)
    file = tmp_path / "checkpoint_final.pth"
    trainer.save_checkpoint(str(file))
    return file


@pytest.fixture
def exported(pretrained: Path, tmp_path: Path) -> Path:
    export_denoiser(read_pretrained(pretrained), tmp_path / "denoiser.pth")
    return tmp_path / "denoiser.pth"


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.write_text, (self.file, "code was run")


@pytest.fixture
def hostile(exported: Path, tmp_path: Path) -> Path:
    checkpoint = torch.load(exported, weights_only=True)
    torch.save(checkpoint | {"logging": Runs(tmp_path / "run")}, tmp_path / "hostile.pth")
    return tmp_path / "hostile.pth"


# ---- trust


def test_checkpoints_of_the_pretraining_need_no_code(pretrained: Path) -> None:
    checkpoint = torch.load(pretrained, weights_only=True)  # without any exception for numbers of numpy
    assert checkpoint["logging"]["val_losses"] == [0.25]


def test_numbers_of_numpy_in_a_checkpoint_of_nnunet_need_no_trust(exported: Path, tmp_path: Path) -> None:
    logging = {"values": [np.float32(0.5), np.float64(2.0), np.int64(3), np.float16(1.5), np.bool_(True)]}
    torch.save(torch.load(exported, weights_only=True) | {"logging": logging}, tmp_path / "stock.pth")
    assert read_checkpoint(tmp_path / "stock.pth")["logging"] == logging


@pytest.mark.parametrize("command", ["sample {file} {tmp}/out.png", "export {file} {tmp}/out.pth"])
def test_no_command_runs_code_of_a_file(
    command: str, hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(command.format(file=hostile, tmp=tmp_path).split()) == 2
    assert "cannot be read without running code" in capsys.readouterr().err
    assert not (tmp_path / "run").exists() and not list(tmp_path.glob("out*"))


def test_with_trust_a_file_without_code_is_made_of_it(hostile: Path, tmp_path: Path) -> None:
    assert main(["export", str(hostile), str(tmp_path / "out.pth"), "--trust"]) == 0
    assert (tmp_path / "run").read_text() == "code was run"
    read_pretrained(tmp_path / "out.pth").refuse_untrained()


@pytest.mark.parametrize("operation", ["conv_op", "nonlin", "norm_op"])
def test_plans_of_a_file_do_not_choose_what_is_called(operation: str, exported: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(exported, weights_only=True)
    arguments = checkpoint["init_args"]["plans"]["configurations"]["2d"]["architecture"]["arch_kwargs"]
    arguments[operation] = "os.system"
    torch.save(checkpoint, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match=rf"hostile\.pth.*architecture\.{operation} is 'os\.system'"):
        read_pretrained(tmp_path / "hostile.pth")


def test_numbers_become_plain_within_lists_and_dictionaries() -> None:
    made = plain_values({"a": [np.float32(0.5), (np.int64(2), "b")], "c": np.arange(2), np.int64(1): None})
    assert made == {"a": [0.5, (2, "b")], "c": [0, 1], 1: None}
    assert [type(made["a"][0]), type(made["a"][1][0])] == [float, int]


# ---- damage


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_one_bit_that_is_another_anywhere_in_the_weights_is_noticed(
    ending: str, exported: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"copy{ending}"
    export_denoiser(read_pretrained(exported), file)
    value = next(iter(read_pretrained(file).weights.values())).numpy().tobytes()
    content = bytearray(file.read_bytes())
    content[content.index(value) + len(value) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"copy{ending} is damaged.*checksum"):
        read_pretrained(file)


# ---- safetensors


def test_a_denoiser_in_safetensors_is_the_same(exported: Path, tmp_path: Path) -> None:
    assert main(["export", str(exported), str(tmp_path / "out.safetensors")]) == 0
    before, after = read_pretrained(exported), read_pretrained(tmp_path / "out.safetensors")
    assert before.weights.keys() == after.weights.keys()
    assert all(torch.equal(value, after.weights[name]) for name, value in before.weights.items())
    assert (after.plans, after.configuration_name) == (before.plans, before.configuration_name)
    images = torch.randn(1, 1, 16, 16)
    timesteps = torch.tensor([5])
    results = [one.module().unet(images, timesteps) for one in (before, after)]
    assert torch.equal(*results)


def test_other_programs_read_weights_and_plans(exported: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    export_denoiser(read_pretrained(exported), tmp_path / "out.safetensors", half=True)
    with safe_open(tmp_path / "out.safetensors", framework="pt") as opened:
        described = json.loads(opened.metadata()["nnunet_diffusion_ensemble"])
        names = set(opened.keys())
    assert described["checkpoint"]["trainer_name"] == "DiffusionPretrainTrainer"
    assert list(described["checkpoint"]["init_args"]["plans"]["configurations"]) == ["2d"]
    assert set(described["same"]) and not names & set(described["same"])  # each value once


def test_tensors_with_two_names_are_stored_once_and_read_under_both(tmp_path: Path) -> None:
    value = torch.arange(4.0)
    weights = {"a": value, "b": value, "c": value.clone(), "d": value[:2], "e": torch.tensor(3)}
    write_safetensors({"network_weights": weights, "x": [1]}, tmp_path / "f.safetensors")
    read = read_safetensors(tmp_path / "f.safetensors")
    assert read["x"] == [1]
    assert all(torch.equal(read["network_weights"][name], value) for name, value in weights.items())
    assert read["network_weights"]["a"].data_ptr() == read["network_weights"]["b"].data_ptr()


def test_safetensors_of_others_are_called_that(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "theirs.safetensors")
    with pytest.raises(ValueError, match="not of `nnunet-diffusion export`: it holds weights without the plans"):
        read_pretrained(tmp_path / "theirs.safetensors")


def test_a_folded_denoiser_is_not_written_where_nnunet_cannot_read_it(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"reads no \.safetensors: name out\.pth instead"):
        export_folded(read_pretrained(exported), tmp_path / "out.safetensors", 50)
    assert not (tmp_path / "out.safetensors").exists()


# ---- nonsense of all kinds


def _read_and_build(file: Path) -> None:
    read_pretrained(file).module()


def test_no_change_of_a_denoisers_plans_ends_in_a_stack_trace(exported: Path, tmp_path: Path) -> None:
    rng, file = random.Random(0), tmp_path / "fuzzed.pth"
    original = torch.load(exported, weights_only=True)
    few = {f"denoiser.{name}" for name in ("input_scale", "trained_iterations")}  # all that reading looks at
    few_weights = {name: value for name, value in original["network_weights"].items() if name in few}
    read = 0
    for number in range(TRIES // 2):
        is_built = number % BUILT_ONE_OF == 0  # which takes most of the time
        weights = original["network_weights"] if is_built else dict(few_weights)
        checkpoint = {
            **original,
            "network_weights": weights,
            "init_args": json.loads(json.dumps(original["init_args"])),
        }
        path = change_somewhere(checkpoint["init_args"] if rng.random() < 0.9 else checkpoint, rng)
        torch.save(checkpoint, file)
        read += is_read(lambda: _read_and_build(file) if is_built else read_pretrained(file), path)  # noqa: B023
    assert 0 < read < TRIES // 2


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_no_flipped_byte_ends_in_a_stack_trace(ending: str, exported: Path, tmp_path: Path) -> None:
    export_denoiser(read_pretrained(exported), tmp_path / f"whole{ending}")
    content, rng, file = (tmp_path / f"whole{ending}").read_bytes(), random.Random(1), tmp_path / f"fuzzed{ending}"
    for _ in range(TRIES // 4):
        file.write_bytes(damaged(content, rng))
        is_read(lambda: read_pretrained(file), file)
