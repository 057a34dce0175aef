"""How errors are told."""

import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

USER_ERRORS = (ValueError, OSError, RuntimeError)  # written for users; nnU-Net's are the last
OUT_OF_MEMORY = "OutOfMemoryError"  # torch's, a RuntimeError
PACKAGE = __name__.split(".")[0]
WRONG_CALL = re.compile(r"\) (missing \d+ required|takes \d+)")  # as Python says it


def in_one_line(error: BaseException) -> str:
    """What an error says, with its kind where it was not written for users."""
    text = " ".join(str(error).split())
    return text if isinstance(error, USER_ERRORS) and text else f"{type(error).__name__}: {text}"


def first_few(things: Sequence[object], most: int) -> str:
    """So many of them in words, and how many more there are."""
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return ", ".join(map(str, things[:most])) + more


def raise_listing(headline: str, problems: list[str]) -> None:
    """Raises a `ValueError` with a line for each problem, if there is any."""
    if problems:
        raise ValueError("\n  ".join([headline, *problems]))


@contextmanager
def blaming(file: Path | str, advice: str = "") -> Iterator[None]:
    """For a block that does nothing but interpret a file: what is missing or odd in it raises errors of any kind.

    What no file can cause is left as it is: too little memory, a name that our code does not know, a call of ours that
    does not fit.

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
    except (NotImplementedError, OSError, MemoryError):
        raise
    except (ValueError, RuntimeError) as error:  # nnU-Net's do not name the file
        if Path(file).name in str(error) or type(error).__name__ == OUT_OF_MEMORY:
            raise
        raise ValueError(f"{file}: {in_one_line(error)} {advice}".rstrip()) from error
    except Exception as error:
        if _is_ours(error):
            raise
        raise ValueError(_blame(file, error, advice)) from error


def _is_ours(error: Exception) -> bool:
    """Whether it is a slip in our own code, which no file can make."""
    if isinstance(error, AttributeError):
        owner = error.obj if isinstance(error.obj, type | ModuleType) else type(error.obj)
        return _of_package(owner.__name__ if isinstance(owner, ModuleType) else owner.__module__)
    if isinstance(error, TypeError) and WRONG_CALL.search(str(error)):
        frame, _ = list(traceback.walk_tb(error.__traceback__))[-1]
        return _of_package(frame.f_globals.get("__name__", ""))
    return isinstance(error, NameError)


def _of_package(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def _blame(file: Path | str, error: Exception, advice: str) -> str:
    kind = "lacks" if isinstance(error, KeyError) else "is damaged, or lacks something that is needed:"
    return f"{file} {kind} {str(error) if isinstance(error, KeyError) else in_one_line(error)}. {advice}".rstrip()
