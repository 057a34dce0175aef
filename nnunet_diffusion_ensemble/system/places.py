"""Files where a folder is needed, and folders where a file is: refused before anything is computed."""

from pathlib import Path


def refuse_file(folder: Path) -> None:
    """Raises NotADirectoryError if a path that is to be a folder, or one that it lies in, is a file."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(f"{place} is a file, but a folder is needed. Name another one.")


def refuse_folder(file: Path) -> None:
    """Checks where a file is to be written.

    Raises:
        IsADirectoryError: there is a folder of this name.
        FileNotFoundError: the folder that it is to lie in is not there.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder, but a file is needed. Name a file in it.")
    refuse_file(file.absolute().parent)
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder {file.absolute().parent}.")
