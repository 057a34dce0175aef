"""Files that stand under their name whole or not at all, whatever is killed meanwhile or loses power."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".partial"


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
