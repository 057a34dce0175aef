"""One process at a time writes an output: a second one is told who is at work, and a dead one blocks nobody."""

import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from errno import EINVAL, ENOLCK, ENOSYS, EOPNOTSUPP
from pathlib import Path

from filelock import lock_descriptor

from nnunet_diffusion_ensemble.system.places import refuse_file

INSIDE, BESIDE = ".lock", ".{name}.lock"
POLL_SECONDS = 0.2
WITHOUT_LOCKS = (ENOSYS, ENOLCK, EOPNOTSUPP, EINVAL)  # as file systems say it

logger = logging.getLogger(__name__)


class AtWorkError(RuntimeError):
    """Another process writes this output; the message says which."""


@dataclass(frozen=True)
class Worker:
    """Who is at work, as it stands in the lock file; `since` is local time."""

    pid: int
    host: str
    since: str
    command: str

    @classmethod
    def this_process(cls) -> "Worker":
        command = shlex.join([Path(sys.argv[0] or sys.executable).name, *sys.argv[1:]])
        return cls(os.getpid(), socket.gethostname(), datetime.now().isoformat(" ", "seconds"), command)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since} ({self.command})"


@contextmanager
def alone_in(folder: Path, wait: bool = False) -> Iterator[None]:
    """Nobody else writes into a folder until the block ends, or this process does; the folder is made.

    Args:
        folder: of the output. For one that the block itself replaces, take `alone_at`.
        wait: until nobody else does, rather than raise.

    Raises:
        AtWorkError: another process does.
        NotADirectoryError: a file is there.
    """
    refuse_file(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, folder / INSIDE, wait):
        yield


@contextmanager
def alone_at(output: Path, wait: bool = False) -> Iterator[None]:
    """`alone_in` for a file, or a folder that is replaced: the lock lies beside it until the block ends."""
    with _alone(output, output.with_name(BESIDE.format(name=output.name)), wait):
        yield


@contextmanager
def if_free(guard: AbstractContextManager[None]) -> Iterator[bool]:
    """For work that is shared: whether nobody else was at work; then nobody will be until the block ends.

    Args:
        guard: one of those above.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(guard)
        except AtWorkError:
            is_free = False
        else:
            is_free = True
        yield is_free


# ---- the locks of this process


@dataclass
class _Hold:
    """A lock file that this process has locked, and by how many blocks within each other."""

    descriptor: int
    depth: int = 1


_held: dict[Path, _Hold] = {}


def _forget_in_child() -> None:
    """A forked worker that outlives us must not hold our locks; closing its copy leaves ours as it is."""
    for hold in _held.values():
        os.close(hold.descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


@contextmanager
def _alone(output: Path, lock: Path, wait: bool) -> Iterator[None]:
    lock = lock.resolve()
    if lock in _held:
        _held[lock].depth += 1
    else:
        descriptor = _waited_for(output, lock) if wait else _locked(lock)
        if descriptor is None:
            raise AtWorkError(
                f"{output} is being written by another process: {_worker_at(lock)}. Wait until it has ended, or name "
                "another output."
            )
        _held[lock] = _Hold(descriptor)
    try:
        yield
    finally:
        _release(lock)


def _release(lock: Path) -> None:
    hold = _held.get(lock)
    if hold is None:  # in a forked worker
        return
    hold.depth -= 1
    if hold.depth == 0:
        del _held[lock]
        with suppress(OSError):  # Windows keeps what is open
            lock.unlink()
        os.close(hold.descriptor)


def _waited_for(output: Path, lock: Path) -> int:
    told = False
    while (descriptor := _locked(lock)) is None:
        if not told:
            logger.warning("Waiting for %s, which writes %s.", _worker_at(lock), output)
            told = True
        time.sleep(POLL_SECONDS)
    return descriptor


def _locked(lock: Path) -> int | None:
    """The open lock file, which says that this process is at work, or None if another one is."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(descriptor, lock):
                os.close(descriptor)
                return None
            if _is_still(descriptor, lock):
                # Windows locks the first byte, and nobody else can read it.
                os.ftruncate(descriptor, 0)
                os.write(descriptor, b"\n" + json.dumps(asdict(Worker.this_process())).encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held it removed it in between


def _lock(descriptor: int, lock: Path) -> bool:
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        logger.warning("The file system of %s has no locks: see to it that no other process writes there.", lock.parent)
        return True


def _is_still(descriptor: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    except FileNotFoundError:
        return False


def _worker_at(lock: Path) -> str:
    try:
        with lock.open("rb") as stream:
            stream.seek(1)
            return str(Worker(**json.loads(stream.read())))
    except (OSError, ValueError, TypeError):  # it has just come or gone
        return "one that does not say which"
