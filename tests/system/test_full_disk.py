"""A full disk is called that, with the file's name; what stood there stays, and nothing else is left."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.nnunet.checkpoint import write_checkpoint
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.full_disk import DiskFullError, full_disk, naming_full_disk
from nnunet_diffusion_ensemble.system.told import USERS_MISTAKE, told_to_user

CHECKPOINT = {"network_weights": {"a": torch.zeros(100_000)}, "init_args": {}, "trainer_name": "T"}
FULL = Path("/dev/full")  # takes nothing: every write ends for want of room
needs_full_device = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")


@pytest.fixture
def on_full_disk(tmp_path: Path) -> Callable[[str], Path]:
    """`on_full_disk("a.json")`: a file that is there; the file that is to replace it finds no room."""

    def make(name: str) -> Path:
        (tmp_path / name).write_text("of before")
        (tmp_path / f"{name}.partial").symlink_to(FULL)
        return tmp_path / name

    return make


def set_free_bytes(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


@needs_full_device
def test_a_text_that_finds_no_room_leaves_the_old_one(on_full_disk: Callable[[str], Path]) -> None:
    file = on_full_disk("plans.json")
    with pytest.raises(DiskFullError, match=rf"^The disk is full: {file} could not be written\. Make room"):
        write_text(file, "new")
    assert [path.name for path in file.parent.iterdir()] == ["plans.json"]
    assert file.read_text() == "of before"


@needs_full_device
def test_so_does_a_checkpoint_whatever_torch_calls_it(
    on_full_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free_bytes(monkeypatch, 0)
    file = on_full_disk("checkpoint.pth")
    with pytest.raises(DiskFullError, match=rf"The disk is full: {file} could not"):
        write_checkpoint(CHECKPOINT, file)
    assert file.read_text() == "of before"


def test_the_error_of_safetensors_is_understood_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    set_free_bytes(monkeypatch, 0)
    monkeypatch.setattr("safetensors.torch.save_file", no_room)
    with pytest.raises(DiskFullError, match=r"The disk is full: .*checkpoint\.safetensors could not"):
        write_checkpoint(CHECKPOINT, tmp_path / "checkpoint.safetensors")
    assert not list(tmp_path.iterdir())


@needs_full_device
def test_a_command_ends_with_the_sentence(
    on_full_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    set_free_bytes(monkeypatch, 0)
    file = on_full_disk("mine.pth")
    assert main(["export", "chest-xray-64", str(file)]) == USERS_MISTAKE
    told = capsys.readouterr().err
    assert f"The disk is full: {file} could not be written" in told and "Traceback" not in told
    assert file.read_text() == "of before"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_systems_numbers_for_it_are_known(number: int, tmp_path: Path) -> None:
    with pytest.raises(DiskFullError), naming_full_disk(tmp_path / "a"):
        raise OSError(number, "as the system has it")


@pytest.mark.parametrize("error", [RuntimeError("no such layer"), OSError("odd")])
def test_an_error_without_a_number_is_that_only_where_no_room_is_left(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free_bytes(monkeypatch, 2**30)
    with pytest.raises(type(error)) as caught, naming_full_disk(tmp_path / "a"):
        raise error
    assert caught.value is error
    set_free_bytes(monkeypatch, 2**10)
    with pytest.raises(DiskFullError), naming_full_disk(tmp_path / "not there yet" / "a"):
        raise error


def test_another_error_of_the_system_stays_what_it_is_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free_bytes(monkeypatch, 0)
    with pytest.raises(PermissionError), naming_full_disk(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "denied")


def test_it_is_found_behind_the_error_of_a_library() -> None:
    error = RuntimeError("the writer failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "weights.bin")
    assert full_disk(error) == "The disk is full: weights.bin could not be written. Make room."
    assert told_to_user(error) == (full_disk(error), USERS_MISTAKE)
    assert full_disk(RuntimeError("the writer failed")) == full_disk(None) == ""
