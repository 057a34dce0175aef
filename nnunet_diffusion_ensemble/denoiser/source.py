"""Naming a pretrained denoiser: a checkpoint's path, the name of one that ships with the package, or a library's."""

from pathlib import Path

SHIPPED = Path(__file__).resolve().parent / "shipped"


def shipped_denoisers() -> dict[str, Path]:
    """Checkpoints that ship with the package, by name."""
    return {file.stem: file for file in sorted(SHIPPED.glob("*.pth"))}


def denoiser_file(source: str) -> Path:
    """The checkpoint that a user means.

    Args:
        source: name of a shipped denoiser, or else path of a checkpoint.

    Raises:
        FileNotFoundError: there is neither.
    """
    shipped = shipped_denoisers()
    if source in shipped:
        return shipped[source]
    file = Path(source)
    if file.exists():
        return file.resolve()
    names = ", ".join(shipped) or "none"
    raise FileNotFoundError(
        f"There is no file {file.absolute()}, and no denoiser of this name that ships with the package ({names})."
    )


def names_library(source: str) -> bool:
    """Whether it is `LIBRARY:PATH`, a denoiser of another library, rather than a file or a shipped one."""
    library, separator, _ = source.partition(":")
    return bool(separator) and len(library) > 1 and not Path(source).exists()  # one letter is a drive of Windows


def source_for_plans(source: str) -> str:
    """How plans name it: a shipped one by its name, which holds in every installation; others by absolute path."""
    return source if source in shipped_denoisers() else str(denoiser_file(source))
