"""Reading and writing checkpoints, all of them: a file that is none is called what it is, and none is half written."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunet_diffusion_ensemble.system.atomic import whole_file

KEYS = ("network_weights", "init_args", "trainer_name")  # of every checkpoint that nnU-Net or we write
ZIP, PICKLE, HDF5 = b"PK\x03\x04", b"\x80", b"\x89HDF"


def read_checkpoint(file: str | Path, mapped: bool = False) -> dict[str, Any]:
    """Reads a checkpoint of nnU-Net, or of a trainer of ours, on the CPU.

    Like nnU-Net's own reader it unpickles, so that only files from people you trust should be read; a file that is not
    one of `torch.save` is refused before that.

    Args:
        file: e.g. `checkpoint_final.pth`.
        mapped: leave the weights in the file until they are used.

    Returns:
        The checkpoint, with at least the keys `network_weights`, `init_args` and `trainer_name`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged, or something else; the message says what.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is a folder, not a checkpoint." if file.is_dir() else f"There is no {file}.")
    what = _what_it_is_instead(file)
    if what is not None:
        raise ValueError(f"{file} is not a checkpoint that nnU-Net wrote: it is {what}.")
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=False, mmap=mapped)
    except Exception as error:  # damaged pickles raise errors of any kind
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{file} is damaged, or needs a package that is not installed ({reason}).") from error
    missing = [key for key in KEYS if key not in checkpoint] if isinstance(checkpoint, dict) else list(KEYS)
    if missing:
        raise ValueError(
            f"{file} was written by torch.save, but is not a checkpoint of nnU-Net: it holds {_content(checkpoint)} "
            f"and lacks {', '.join(missing)}."
        )
    return checkpoint


def write_checkpoint(checkpoint: Mapping[str, Any], file: str | Path) -> None:
    """Writes what `read_checkpoint` reads, whole or not at all.

    Raises:
        ValueError: it lacks one of the keys `network_weights`, `init_args` and `trainer_name`.
    """
    missing = [key for key in KEYS if key not in checkpoint]
    if missing:
        raise ValueError(f"A checkpoint needs {', '.join(missing)}; this one holds {_content(dict(checkpoint))}.")
    with whole_file(file) as temporary:
        torch.save(dict(checkpoint), temporary)


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


def _what_it_is_instead(file: Path) -> str | None:
    """In words, by its first bytes and its zip directory; None for a whole file of `torch.save`."""
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
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size:
        return "a safetensors file, which holds weights but not nnU-Net's plans"
    return f"a file of another kind, which begins with {start!r}"


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
