"""A GPU without enough memory: an error that says which settings to lower."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def telling_what_to_lower(settings: Mapping[str, Any]) -> Iterator[None]:
    """Adds to torch's error what can be done about it.

    Args:
        settings: names and present values of what the memory depends on, the first to lower first.

    Raises:
        torch.cuda.OutOfMemoryError: inside, the memory did not suffice.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        lower = ", then ".join(f"{name} (now {value})" for name, value in settings.items())
        ways = [f"lower {lower}"] if lower else []
        ways += ["leave more of it free", "use the CPU"]
        raise torch.cuda.OutOfMemoryError(
            f"The memory of the GPU does not suffice: {', or '.join(ways)}. torch says: {error}"
        ) from error
