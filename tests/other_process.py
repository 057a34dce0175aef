"""Another process that is at work, as far as a lock can tell."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

HOLD = """\
import sys
from contextlib import ExitStack
from pathlib import Path
from nnunet_diffusion_ensemble.system.guard import alone_at, alone_in
guard, place = {"in": alone_in, "at": alone_at}[sys.argv[1]], Path(sys.argv[2])
with guard(place):
    print("holding", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def at_work_elsewhere(lock: Path) -> Iterator[None]:
    """Holds a lock as another process would: the system tells descriptors apart, not processes."""
    with FileLock(lock):
        yield


@contextmanager
def holding(how: str, place: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that works in a folder (`in`) or at a file (`at`) until the block ends, or it is killed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, how, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "holding\n"
        try:
            yield process
        finally:
            process.kill()
