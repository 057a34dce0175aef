"""Files that stand under their name whole or not at all, whatever is killed meanwhile or loses power."""

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_diffusion_ensemble.system.full_disk import naming_full_disk

SUFFIX = ".partial"
AT_CURRENT_FOLDER, EXCHANGE = -100, 2  # Linux: AT_FDCWD and RENAME_EXCHANGE


@contextmanager
def whole_file(file: Path | str) -> Iterator[Path]:
    """Gives the name to write to, the file's own with `.partial`, and renames it when the block ends.

    The content reaches the disk before the rename and the rename before the return: after a power failure there is
    the old file or the new one, not an empty one. If the block fails, the old file stays and nothing else; what a kill
    leaves under the other name is overwritten next time.
    """
    file = Path(file)
    temporary = file.with_name(file.name + SUFFIX)
    try:
        with naming_full_disk(file):
            yield temporary
            _flush(temporary)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(file.parent)


def write_text(file: Path, text: str) -> None:
    """Writes a text and the end of its last line, whole or not at all."""
    with whole_file(file) as temporary:
        temporary.write_text(text + "\n")


def replace_folder(new: Path, folder: Path) -> None:
    """Puts a new folder in the place of one that may be there, which is removed; both are on one disk.

    Where the system can exchange two names (Linux), there is the old folder or the new one at any time. Elsewhere a
    kill can leave it under the name that `bring_back_folder` looks for.
    """
    if not folder.exists():
        new.rename(folder)
    elif not _exchange(new, folder):
        old = _old(folder)
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(new, ignore_errors=True)
    flush_folder(folder.parent)


def bring_back_folder(folder: Path) -> None:
    """Renames the old folder back if a kill in `replace_folder` left none."""
    if _old(folder).exists() and not folder.exists():
        _old(folder).rename(folder)
    shutil.rmtree(_old(folder), ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two names in one step; False if the system or the disk cannot."""
    if sys.platform != "linux":
        return False
    try:
        exchange = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # an old C library
        return False
    return exchange(AT_CURRENT_FOLDER, os.fsencode(one), AT_CURRENT_FOLDER, os.fsencode(other), EXCHANGE) == 0


def flush_folder(folder: Path) -> None:
    """Has the names in a folder reach the disk, where the system can do that (Windows cannot)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _flush(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
