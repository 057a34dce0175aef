"""A full disk is called that, whatever the library that met it calls it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path

WITHOUT_ROOM = (ENOSPC, EDQUOT)
NO_ROOM = 2**16  # bytes; less is left when writing failed for want of room


class DiskFullError(OSError):
    """There is no room for a file; the message says where."""


@contextmanager
def naming_full_disk(file: Path) -> Iterator[None]:
    """Errors of writing for want of room are called that, with the file's name: libraries call it many things.

    Raises:
        DiskFullError: the disk is full.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, DiskFullError) or not _is_for_want_of_room(error, file):
            raise
        raise DiskFullError(
            f"The disk is full: {file} could not be written. Make room, and run the same command again; what stood "
            "there before is unchanged."
        ) from error


def full_disk(error: BaseException | None) -> str:
    """What to tell if an error, or one that it came from, says that a disk is full; otherwise nothing."""
    while error is not None:
        if isinstance(error, DiskFullError):
            return str(error)
        if isinstance(error, OSError) and error.errno in WITHOUT_ROOM:
            return f"The disk is full{f': {error.filename} could not be written' if error.filename else ''}. Make room."
        error = error.__cause__ or error.__context__
    return ""


def _is_for_want_of_room(error: OSError | RuntimeError, file: Path) -> bool:
    """By its number or, where a library has none, by what is left; before what was written is removed."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in WITHOUT_ROOM
    if full_disk(error):
        return True
    return shutil.disk_usage(_existing(file.absolute())).free < NO_ROOM


def _existing(path: Path) -> Path:
    return path if path.is_dir() else _existing(path.parent)
