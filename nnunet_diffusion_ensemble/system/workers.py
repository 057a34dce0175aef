"""A function applied to many items in several processes: results as they come or in order, memory that stays flat."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 8  # results of each process that may wait for an earlier one


def die_with_parent() -> None:
    """Ends this worker once the main process is gone, even killed: a restart must find nobody still writing."""

    def outlive_nobody() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=outlive_nobody, daemon=True).start()


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], num_processes: int, imported: Sequence[str] = ()
) -> Iterator[Result]:
    """Yields `function(item)` for each item.

    Args:
        function: can be pickled, like items and results.
        items: taken as they are needed.
        num_processes: 1 computes in this process.
        imported: modules that are imported once for all processes, where the system can do that (Windows cannot).

    Raises:
        RuntimeError: a process died. Errors of the function are passed on.
    """
    if num_processes == 1:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(num_processes, _context(imported), initializer=die_with_parent)
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) == AHEAD * num_processes:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A process died. If no error is shown above, the system probably ended it for want of "
            "memory: use fewer processes and run again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def as_they_come(
    function: Callable[[str, Item], Result], items: Iterable[tuple[str, Item]], num_processes: int
) -> Iterator[Result]:
    """Yields `function(name, item)` for named items, whichever is ready first; few are taken ahead.

    Raises:
        RuntimeError: a process died; names what it may have been at. Errors of the function are passed on.
    """
    pool = ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn"), initializer=die_with_parent)
    waiting, running = iter(items), dict[Future[Result], str]()
    try:
        while True:
            for name, item in islice(waiting, 2 * num_processes - len(running)):
                running[pool.submit(function, name, item)] = name
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield future.result()
                del running[future]
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"A worker died while it worked on one of {', '.join(sorted(running.values()))}. If no error is shown "
            "above, the system probably ended it for want of memory: use fewer processes (nnUNet_def_n_proc=1) and "
            "run again; what is finished is kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _context(imported: Sequence[str]) -> multiprocessing.context.BaseContext:
    """Processes are forked from one that has imported what takes seconds, but computed nothing."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(imported))
    return context
