"""Reading a checkpoint, and what is said of files that are none."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint, read_state_dict, write_checkpoint

CHECKPOINT = {"network_weights": {"a": torch.arange(3.0)}, "init_args": {"fold": 0}, "trainer_name": "nnUNetTrainer"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.pth"


def test_a_checkpoint_is_read_as_it_was_written(file: Path) -> None:
    torch.save(CHECKPOINT | {"logging": {"losses": [np.float32(0.5)]}}, file)
    read = read_checkpoint(str(file))
    assert torch.equal(read["network_weights"]["a"], torch.tensor([0.0, 1.0, 2.0]))
    assert (read["init_args"], read["trainer_name"]) == ({"fold": 0}, "nnUNetTrainer")
    assert read["logging"] == {"losses": [0.5]}


def test_weights_that_stay_in_the_file_are_the_same(file: Path) -> None:
    torch.save(CHECKPOINT, file)
    there, mapped = read_checkpoint(file), read_checkpoint(file, mapped=True)
    assert there.keys() == mapped.keys()
    for name, weights in there["network_weights"].items():
        assert torch.equal(mapped["network_weights"][name], weights)


def damaged(file: Path) -> None:
    """The pickle inside is overwritten, the zip's directory is whole."""
    torch.save(CHECKPOINT, file)
    content = file.read_bytes()
    start = content.index(b"network_weights") - 20
    file.write_bytes(content[:start] + bytes(60) + content[start + 60 :])


def safetensors(file: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def model_zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("Dataset001_A/nnUNetTrainer__nnUNetPlans__2d/plans.json", "{}")


def other_zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (damaged, "is damaged"),
        (lambda file: file.touch(), "it is empty"),
        (lambda file: file.write_text("hello, there"), r"another kind, which begins with b'hello, th'"),
        (lambda file: file.write_bytes(pickle.dumps(CHECKPOINT["init_args"])), "it is a bare pickle"),
        (lambda file: torch.save(CHECKPOINT, file, _use_new_zipfile_serialization=False), "a torch older than 1.6"),
        (lambda file: file.write_bytes(b"\x89HDF\r\n\x1a\n"), "it is an HDF5 file"),
        (safetensors, "is a safetensors file, but not of"),
        (model_zip, "nnUNetv2_install_pretrained_model_from_zip"),
        (other_zip, r"a zip archive of other things, such as notes\.txt"),
        (lambda file: torch.save({"state_dict": {}}, file), "holds the keys state_dict and lacks network_weights, "),
        (lambda file: torch.save(torch.zeros(1), file), "holds an object of type Tensor"),
    ],
    ids=range(11),
)
def test_a_file_that_is_no_checkpoint_is_called_what_it_is(
    write: Callable[[Path], object], message: str, file: Path
) -> None:
    write(file)
    with pytest.raises(ValueError, match=message) as error:
        read_checkpoint(file)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("length", [1, 3, 4, 100, 700, -30, -1])
def test_a_truncated_checkpoint_is_called_so_wherever_it_ends(length: int, file: Path) -> None:
    torch.save(CHECKPOINT, file)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"some\.pth is not .*: it is truncated"):
        read_checkpoint(file)


class Marker:
    """Unpickling it would be noticed."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("the file was unpickled",)


def test_a_pickle_of_unknown_origin_is_refused_without_running_it(file: Path) -> None:
    file.write_bytes(pickle.dumps(Marker()))
    with pytest.raises(ValueError, match="bare pickle"):
        read_checkpoint(file)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"network_weights": [torch.zeros(1)]}, "its network_weights are not tensors by name"),
        ({"network_weights": {"a": 1.0}}, "its network_weights are not tensors by name"),
        ({"network_weights": {1: torch.zeros(1)}}, "names in it are no text"),
        ({"trainer_name": 5}, "names in it are no text"),
        ({"init_args": [0]}, "its init_args are not named values"),
    ],
)
def test_what_stands_under_the_keys_must_be_of_the_right_kind(wrong: dict, message: str, file: Path) -> None:
    torch.save(CHECKPOINT | wrong, file)
    with pytest.raises(ValueError, match=rf"some\.pth is damaged: {message}"):
        read_checkpoint(file)


def test_changed_weights_are_noticed_by_their_checksum_unless_they_stay_in_the_file(file: Path) -> None:
    torch.save(CHECKPOINT, file)
    content, weights = file.read_bytes(), np.arange(3, dtype=np.float32)
    assert content.count(weights.tobytes()) == 1
    file.write_bytes(content.replace(weights.tobytes(), (weights + 1).tobytes()))
    with pytest.raises(ValueError, match=r"is damaged: .*data/0 in it has another checksum than was written"):
        read_checkpoint(file)
    assert read_checkpoint(file, mapped=True)["network_weights"]["a"].tolist() == [1.0, 2.0, 3.0]


def test_code_in_a_file_is_run_only_if_the_file_is_trusted(file: Path) -> None:
    torch.save(CHECKPOINT | {"folder": PurePosixPath("results")}, file)
    with pytest.raises(ValueError, match=r"cannot be read without running code(.|\n)*export --trust"):
        read_checkpoint(file)
    assert read_checkpoint(file, trusted=True)["folder"] == PurePosixPath("results")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no .*gone\.pth"):
        read_checkpoint(tmp_path / "gone.pth")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_checkpoint(tmp_path)


def test_what_is_written_is_read(file: Path) -> None:
    write_checkpoint(CHECKPOINT | {"role": "denoiser"}, file)
    read = read_checkpoint(file)
    assert torch.equal(read["network_weights"]["a"], torch.tensor([0.0, 1.0, 2.0]))
    assert (read["init_args"], read["trainer_name"], read["role"]) == ({"fold": 0}, "nnUNetTrainer", "denoiser")


def test_numbers_of_numpy_are_written_as_those_of_python(file: Path) -> None:
    losses = [np.float32(0.5), np.int64(2), np.array([0.25, 1.0])]
    write_checkpoint(CHECKPOINT | {"logging": {"losses": losses, "best": (np.float64(1.5),)}}, file)
    read = torch.load(file, weights_only=True)  # which takes no number of numpy
    assert read["logging"] == {"losses": [0.5, 2, [0.25, 1.0]], "best": (1.5,)}


def test_a_writing_that_fails_leaves_the_old_checkpoint_and_nothing_else(file: Path) -> None:
    write_checkpoint(CHECKPOINT, file)
    before = file.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        write_checkpoint(CHECKPOINT | {"logging": lambda: None}, file)  # a lambda cannot be pickled
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_what_could_not_be_read_again_is_not_written(file: Path) -> None:
    with pytest.raises(ValueError, match="needs init_args, trainer_name; this one holds the keys network_weights"):
        write_checkpoint({"network_weights": {}}, file)
    assert not file.exists()


def test_a_state_dict_is_read_as_it_stands(file: Path) -> None:
    torch.save({"module.a": torch.tensor([0.5], dtype=torch.float16)}, file)
    (name, weight), *others = read_state_dict(file).items()
    assert (name, weight.dtype, weight.tolist(), others) == ("module.a", torch.float16, [0.5], [])


def test_a_state_dict_cannot_run_code(file: Path) -> None:
    torch.save({"a": torch.zeros(1), "hook": print}, file)
    with pytest.raises(ValueError, match=r"cannot be read as a state dict of PyTorch.*torch\.save"):
        read_state_dict(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, r"holds no state dict but the keys \[\]"), ({"a": 1.0}, "the keys"), ([torch.zeros(1)], "a list")],
)
def test_what_is_no_state_dict_is_called_what_it_is(content: object, message: str, file: Path) -> None:
    torch.save(content, file)
    with pytest.raises(ValueError, match=message):
        read_state_dict(file)
