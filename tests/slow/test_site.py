"""The site is built without a warning, and the notebooks run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from documented import DOCS, REPOSITORY

pytestmark = pytest.mark.slow

XRAYS = DOCS / "getting-started" / "xrays.ipynb"


def test_the_site_is_built_in_strict_mode(tmp_path: Path) -> None:
    nbconvert = pytest.importorskip("nbconvert", reason="the extra `docs` is not installed")
    pytest.importorskip("material", reason="the extra `docs` is not installed")
    shared = Path(nbconvert.__file__).parents[4] / "share" / "jupyter"  # also where one environment sits on another
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"JUPYTER_PATH": str(shared), "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    api = (tmp_path / "site" / "reference" / "api" / "index.html").read_text()
    assert "LoadedDenoiser" in api
    assert "coarsest first" in api  # of a docstring


def test_the_notebook_of_xrays_runs() -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(XRAYS, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    texts = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any(text.startswith("Dice 0.") for text in texts)
