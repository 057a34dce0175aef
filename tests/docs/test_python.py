"""The examples of docs/reference/python.md, run as they stand there."""

import doctest
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnunet_diffusion_ensemble.demo.hospitals import SAMPLE

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "python.md"


def test_the_examples_print_what_the_document_says(
    model_folder: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_folder(name="RESULTS_FOLDER", patch_size=[64, 64])
    shutil.copy(next((SAMPLE / "montgomery" / "images").iterdir()), tmp_path / "chest.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # the document shows a CPU
    found = doctest.testfile(str(DOCUMENT), module_relative=False, optionflags=doctest.REPORT_NDIFF)
    assert found.attempted > 15
    assert found.failed == 0
