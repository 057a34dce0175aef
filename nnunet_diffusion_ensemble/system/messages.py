"""How errors are told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER_ERRORS = (ValueError, OSError, RuntimeError)  # written for users; nnU-Net's are the last


def in_one_line(error: BaseException) -> str:
    """What an error says, with its kind where it was not written for users."""
    text = " ".join(str(error).split())
    return text if isinstance(error, USER_ERRORS) and text else f"{type(error).__name__}: {text}"


def raise_listing(headline: str, problems: list[str]) -> None:
    """Raises a `ValueError` with a line for each problem, if there is any."""
    if problems:
        raise ValueError("\n  ".join([headline, *problems]))


@contextmanager
def blaming(file: Path | str, advice: str = "") -> Iterator[None]:
    """For a block that does nothing but interpret a file: what is missing or odd in it raises errors of any kind.

    Args:
        file: it is named.
        advice: a sentence that says what to do.

    Raises:
        ValueError: for an error that was not written for users, or does not name the file.
    """
    try:
        yield
    except (RecursionError, UnicodeError) as error:
        raise ValueError(_blame(file, error, advice)) from error
    except (NotImplementedError, OSError):
        raise
    except (ValueError, RuntimeError) as error:  # nnU-Net's do not name the file
        if Path(file).name in str(error):
            raise
        raise ValueError(f"{file}: {in_one_line(error)} {advice}".rstrip()) from error
    except Exception as error:
        if _is_ours(error):
            raise
        raise ValueError(_blame(file, error, advice)) from error


def _is_ours(error: Exception) -> bool:
    """Whether it is a slip in our own code, which no file can make."""
    module = type(getattr(error, "obj", None)).__module__
    return isinstance(error, NameError) or (
        isinstance(error, AttributeError) and module.split(".")[0] == __name__.split(".")[0]
    )


def _blame(file: Path | str, error: Exception, advice: str) -> str:
    kind = "lacks" if isinstance(error, KeyError) else "is damaged, or lacks something that is needed:"
    return f"{file} {kind} {str(error) if isinstance(error, KeyError) else in_one_line(error)}. {advice}".rstrip()
