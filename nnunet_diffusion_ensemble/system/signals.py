"""SIGTERM ends a command of ours as Ctrl-C does, and its forked workers as it ends any process."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does, the command that runs and all."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _is_listened_for() -> bool:
    return signal.getsignal(signal.SIGTERM) is _interrupt


def _hold_back() -> None:
    if _is_listened_for():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _let_through() -> None:
    if _is_listened_for():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _let_through_to_worker() -> None:
    if _is_listened_for():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


# Pools end their forked workers by SIGTERM. One that comes while Python sets up the fork would be lost, and who waits
# for the worker would wait forever; later it would leave a stack trace.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_let_through_to_worker)
