"""nnU-Net's commands and ours made small: in this process, with threads for pools, and few samples of intensities."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib.metadata import entry_points
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

NUM_SAMPLES = 100_000  # of a data set; nnU-Net draws a thousand times as many from images however small, in seconds
FOLDERS = ("raw", "preprocessed", "results")
# Read when a command runs.
SETTINGS = {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"}


class WithThreads:
    """A context of multiprocessing, with threads for its pools."""

    Pool = ThreadPool

    def __init__(self, context: Any):
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def stay_small(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """One thread, where nnU-Net takes one for each core; few samples of intensities; its pools are threads.

    A worker that it spawns imports all again, and one that was forked from a process with threads may wait forever.
    """
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.training.dataloading import data_loader
    from nnunetv2.utilities import utils

    from nnunet_diffusion_ensemble.data import fingerprint

    initialise, contexts = DatasetFingerprintExtractor.__init__, multiprocessing.get_context

    def initialise_small(self: Any, *arguments: Any, **options: Any) -> None:
        initialise(self, *arguments, **options)
        self.num_foreground_voxels_for_intensitystats = NUM_SAMPLES

    replace(DatasetFingerprintExtractor, "__init__", initialise_small)
    replace(fingerprint, "NUM_SAMPLES", NUM_SAMPLES)
    replace(data_loader, "threadpool_limits", lambda **_: nullcontext())  # looks through all libraries, at each batch
    replace(multiprocessing, "cpu_count", lambda: 1)
    replace(multiprocessing, "get_context", lambda method=None: WithThreads(contexts(method)))
    replace(utils, "Pool", ThreadPool)


def nnunets_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes nnU-Net's folders in `root`, which becomes the working directory; commands will run in this process."""
    from nnunet_diffusion_ensemble.nnunet.register import EXTERNAL_FOLDER, EXTERNAL_VARIABLE
    from nnunet_diffusion_ensemble.system import workers

    for name in FOLDERS:
        (root / f"nnUNet_{name}").mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(root / f"nnUNet_{name}"))
    for name, value in (SETTINGS | {EXTERNAL_VARIABLE: str(EXTERNAL_FOLDER)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)
    stay_small(monkeypatch.setattr)
    monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda number, *context, **options: ThreadPoolExecutor(number))


def run(words: Sequence[str]) -> None:
    """A command of ours or of nnU-Net's in this process; fails unless it ends well."""
    (script,) = entry_points(group="console_scripts", name=words[0])
    num_threads = torch.get_num_threads()
    with patch.dict(os.environ), patch.object(sys, "argv", list(words)):  # which end with a process
        try:
            status = script.load()()
        except SystemExit as end:
            status = end.code
        finally:
            torch.set_num_threads(num_threads)
    assert not status, " ".join(words)
