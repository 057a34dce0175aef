"""Reading and writing checkpoints, all of them: a file that is none is called what it is, and none is half written."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_diffusion_ensemble.nnunet.safetensors_file import ENDING, read_safetensors, write_safetensors
from nnunet_diffusion_ensemble.system.atomic import whole_file

KEYS = ("network_weights", "init_args", "trainer_name")  # of every checkpoint that nnU-Net or we write
# What pickles of numbers call; they make numbers and nothing else.
NUMBERS_OF_NUMPY: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("b1", "i4", "i8", "f2", "f4", "f8")),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    np.float64(0).__reduce__()[0],
]
ZIP, PICKLE, HDF5 = b"PK\x03\x04", b"\x80", b"\x89HDF"


def read_checkpoint(file: str | Path, mapped: bool = False, trusted: bool = False) -> dict[str, Any]:
    """Reads a checkpoint of nnU-Net, or of a trainer of ours, on the CPU.

    No code of the file is run unless it is trusted. Those of our trainers and of nnU-Net's own need none.

    Args:
        file: e.g. `checkpoint_final.pth`, or `.safetensors` of `nnunet-diffusion export`.
        mapped: leave the weights in the file until they are used, and do not look for damaged bytes in them.
        trusted: run what the file says where it needs that, as nnU-Net does: for files of the user's own trainings.

    Returns:
        The checkpoint, with at least the keys `network_weights` (tensors by name), `init_args` and `trainer_name`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged, or something else, or it is not trusted and needs to run code; the
            message says what.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is a folder, not a checkpoint." if file.is_dir() else f"There is no {file}.")
    what = _what_it_is_instead(file)
    if what is not None:
        raise ValueError(f"{file} is not a checkpoint that nnU-Net wrote: it is {what}.")
    checkpoint = read_safetensors(file) if _is_safetensors(file) else _unpickled(file, mapped, trusted)
    missing = [key for key in KEYS if key not in checkpoint] if isinstance(checkpoint, dict) else list(KEYS)
    if missing:
        raise ValueError(
            f"{file} was written by torch.save, but is not a checkpoint of nnU-Net: it holds {_content(checkpoint)} "
            f"and lacks {', '.join(missing)}."
        )
    _check_kinds(file, checkpoint)
    return checkpoint


def write_checkpoint(checkpoint: Mapping[str, Any], file: str | Path) -> None:
    """Writes what `read_checkpoint` reads without running code, whole or not at all.

    Args:
        checkpoint: what it is to hold; numbers of numpy become Python's.
        file: `.safetensors` is written in that format, everything else as torch does.

    Raises:
        ValueError: it lacks one of the keys `network_weights`, `init_args` and `trainer_name`.
    """
    missing = [key for key in KEYS if key not in checkpoint]
    if missing:
        raise ValueError(f"A checkpoint needs {', '.join(missing)}; this one holds {_content(dict(checkpoint))}.")
    content = {key: value if key == KEYS[0] else plain_values(value) for key, value in checkpoint.items()}
    with whole_file(file) as temporary:
        if Path(file).suffix == ENDING:
            write_safetensors(content, temporary)
        else:
            torch.save(content, temporary)


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """A bare state dict of any library on the CPU, as it stands in the file. Nothing else is unpickled.

    Raises:
        ValueError: if the file is something else or truncated.
    """
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{file} cannot be read as a state dict of PyTorch: it is truncated or something else "
            f"({type(error).__name__}). Make one with torch.save(model.state_dict(), FILE)."
        ) from error
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(v, Tensor) for v in weights.values()):
        holds = f"the keys {list(weights)[:5]}" if isinstance(weights, Mapping) else f"a {type(weights).__name__}"
        raise ValueError(f"{file} holds no state dict but {holds}. Make one with torch.save(model.state_dict(), FILE).")
    return dict(weights)


def _check_kinds(file: Path, checkpoint: Mapping[str, Any]) -> None:
    weights = checkpoint["network_weights"]
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError(f"{file} is damaged: its network_weights are not tensors by name.")
    if not all(isinstance(name, str) for name in (*weights, checkpoint["trainer_name"])):
        raise ValueError(f"{file} is damaged: names in it are no text.")
    if not isinstance(checkpoint["init_args"], Mapping):
        raise ValueError(f"{file} is damaged: its init_args are not named values.")


def _unpickled(file: Path, mapped: bool, trusted: bool) -> Any:
    """Without running code; with it if that is needed and the file is trusted."""
    if not mapped:
        _refuse_damaged(file)
    try:
        with torch.serialization.safe_globals(NUMBERS_OF_NUMPY):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # damaged pickles raise errors of any kind
        if not trusted:
            raise ValueError(
                f"{file} is damaged, or cannot be read without running code that is in it "
                f"({_first_line(error)}). If you trust who made it, make a file without code of it: "
                "nnunet-diffusion export --trust CHECKPOINT DENOISER.pth"
            ) from error
    try:
        return torch.load(file, map_location="cpu", weights_only=False, mmap=mapped)
    except Exception as error:
        raise ValueError(
            f"{file} is damaged, or needs a package that is not installed ({_first_line(error)})."
        ) from error


def _first_line(error: Exception) -> str:
    """torch adds advice, which would run the code."""
    text = str(error).strip().partition("\n")[0].partition(". In PyTorch")[0].partition(" (1)")[0]
    return f"{type(error).__name__}: {text}"


def _refuse_damaged(file: Path) -> None:
    """Raises ValueError if a part of the zip archive does not have the checksum that it was written with."""
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except Exception as error:  # of what stands between the parts
        raise ValueError(f"{file} is damaged ({_first_line(error)}). Copy it again.") from error
    if damaged is not None:
        raise ValueError(f"{file} is damaged: {damaged} in it has another checksum than was written. Copy it again.")


def plain_values(value: Any) -> Any:
    """Numbers of numpy as Python's, within lists and dictionaries, so that a file of them is read without code."""
    if isinstance(value, dict):
        return {plain_values(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain_values(item) for item in value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return value


def _what_it_is_instead(file: Path) -> str | None:
    """In words, by its first bytes and its zip directory; None for a whole file of `torch.save` or safetensors."""
    with file.open("rb") as stream:
        start = stream.read(9)
    if not start:
        return "empty"
    if start.startswith(ZIP) or ZIP.startswith(start):
        return _what_zip_it_is_instead(file)
    if start.startswith(PICKLE):
        return "a bare pickle or a file of a torch older than 1.6"
    if start.startswith(HDF5):
        return "an HDF5 file, as Keras writes them"
    if _is_safetensors(file):
        return None
    return f"a file of another kind, which begins with {start!r}"


def _is_safetensors(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(9)
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size


def _what_zip_it_is_instead(file: Path) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "truncated: its end is missing, so its writing or its copying was interrupted"
    if any(name.endswith("/data.pkl") for name in names):
        return None
    if any(name.endswith("plans.json") for name in names):
        return "a whole model as a zip archive; install it with nnUNetv2_install_pretrained_model_from_zip"
    return f"a zip archive of other things, such as {names[0] if names else 'nothing'}"


def _content(checkpoint: object) -> str:
    if not isinstance(checkpoint, dict):
        return f"an object of type {type(checkpoint).__name__}"
    return f"the keys {', '.join(map(str, list(checkpoint)[:5]))}" if checkpoint else "nothing"
