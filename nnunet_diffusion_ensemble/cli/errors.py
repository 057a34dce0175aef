"""What a command says when it fails: a sentence for a user's mistake, and for one of ours where to find the details."""

import os
import tempfile
import traceback

from nnunet_diffusion_ensemble import __version__
from nnunet_diffusion_ensemble.system.full_disk import full_disk
from nnunet_diffusion_ensemble.system.messages import USER_ERRORS, in_one_line

USERS_MISTAKE, OUR_MISTAKE = 2, 3  # exit status
TRACEBACK = "NNUNET_DIFFUSION_TRACEBACK"  # variable: any value shows stack traces


def told_to_user(error: Exception) -> tuple[str, int]:
    """What to print, and the exit status."""
    shown = f"\n{''.join(traceback.format_exception(error))}" if os.environ.get(TRACEBACK) else ""
    if full := full_disk(error):
        return f"{full}{shown}", USERS_MISTAKE
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
