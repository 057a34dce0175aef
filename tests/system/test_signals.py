"""Forked workers of a command that listens for SIGTERM."""

import os
import signal
import subprocess
import sys

import pytest

TERMINATED_WORKERS = """
import multiprocessing, time
from nnunet_diffusion_ensemble.system.signals import ending_on_signals
with ending_on_signals():
    workers = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)) for _ in range(30)]
    for worker in workers:  # some while they are being set up, some later
        worker.start()
        worker.terminate()
    workers.append(multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)))
    workers[-1].start()
    time.sleep(0.2)
    workers[-1].terminate()
    for worker in workers:
        worker.join(30)
    print({worker.exitcode for worker in workers})
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_workers_that_are_terminated_end_at_once_and_without_a_stack_trace() -> None:
    ended = subprocess.run([sys.executable, "-c", TERMINATED_WORKERS], capture_output=True, text=True, check=True)
    assert (ended.stdout.strip(), ended.stderr) == (f"{{{-signal.SIGTERM}}}", "")
