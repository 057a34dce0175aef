"""What a command says when it fails: a sentence for a user's mistake, and for one of ours where to find the details."""

import os
import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType

from nnunet_diffusion_ensemble import __version__
from nnunet_diffusion_ensemble.system.explained import explained
from nnunet_diffusion_ensemble.system.full_disk import full_disk
from nnunet_diffusion_ensemble.system.messages import PACKAGE, USER_ERRORS, in_one_line

USERS_MISTAKE, OUR_MISTAKE = 2, 3  # exit status
TRACEBACK = "NNUNET_DIFFUSION_TRACEBACK"  # variable: any value shows stack traces
NNUNETS_COMMANDS = "nnUNetv2_"


def told_to_user(error: Exception) -> tuple[str, int]:
    """What to print, and the exit status."""
    shown = f"\n{''.join(traceback.format_exception(error))}" if os.environ.get(TRACEBACK) else ""
    if text := full_disk(error) or explained(error):
        return f"{text}{shown}", USERS_MISTAKE
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({error}).{shown}", USERS_MISTAKE
    if isinstance(error, USER_ERRORS) and str(error) and not isinstance(error, RecursionError):
        return f"{_sentence(error)}{shown}", USERS_MISTAKE
    where = shown or f" The stack trace is in {_written(error)}; please send it to us."
    text = f"this is a mistake of nnunet-diffusion ({__version__}), not of yours. {in_one_line(error)}.{where}"
    return text, OUR_MISTAKE


def _sentence(error: BaseException) -> str:
    """Without the number that the system gives an error."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _written(error: Exception) -> str:
    """A file with the stack trace."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="nnunet-diffusion-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exception(error, file=file)
    return file.name


# ---- within nnU-Net's own commands


def tell_in_nnunets_commands() -> None:
    """Where one of nnU-Net's commands runs, errors that are meant for users end it with their sentence alone.

    That is, errors that our code raises, and those that `explained` knows. All others keep their stack trace, and so do
    these where the variable TRACEBACK is set. For modules that nnU-Net imports: nothing else of ours runs before its
    errors do.
    """
    if Path(sys.argv[0] if sys.argv else "").name.startswith(NNUNETS_COMMANDS):
        sys.excepthook = _excepthook


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    is_meant = isinstance(error, Exception) and (
        explained(error) or full_disk(error) or (isinstance(error, USER_ERRORS) and _raised_by_us(trace))
    )
    if os.environ.get(TRACEBACK) or not is_meant:
        sys.__excepthook__(kind, error, trace)
        return
    assert isinstance(error, Exception)
    print(f"{Path(sys.argv[0]).stem}: error: {told_to_user(error)[0]}", file=sys.stderr)


def _raised_by_us(trace: TracebackType | None) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(trace)]
    return bool(frames) and frames[-1].f_globals.get("__name__", "").split(".")[0] == PACKAGE
