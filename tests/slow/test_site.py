"""The site is built without a warning, and the notebooks run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documented import DOCS, REPOSITORY
from forked import ForkedCommand
from nnunet_commands import DATA, FEW_SAMPLES, SETTINGS, change_plans

pytestmark = pytest.mark.slow

XRAYS, VOLUMES = (DOCS / "getting-started" / name for name in ("xrays.ipynb", "volumes.ipynb"))
HIPPOCAMPUS = DATA / "hippocampus"
SHORT = {
    "VOLUMES": str(HIPPOCAMPUS),
    "NETWORK": "--base-features 4 --blocks-per-stage 1 --batch-size 2 --timesteps 1 50 --hidden-features 8",
    "PRETRAINING": "--pretraining-epochs 1 --pretraining-iterations 2 --pretraining-batch-size 2",
    "TRAINING": "--epochs 1 --iterations 4",
}


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
    assert (
        tmp_path / "site" / "how-to" / "report_example.html"
    ).is_file()  # of a frame, whose link mkdocs does not check


def test_the_notebook_of_xrays_runs() -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(XRAYS, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    texts = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any(text.startswith("Dice 0.") for text in texts)


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason=f"needs the hippocampus volumes in {HIPPOCAMPUS}")
def test_the_notebook_of_volumes_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Its cells, with smaller parameters; its commands in processes that need not import nnU-Net again."""

    def run(command: list[Any], **options: Any) -> None:
        words = [Path(command[0]).name, *map(str, command[1:])]
        with (tmp_path / "log.txt").open("a+") as log:
            assert ForkedCommand(words, os.environ, tmp_path, log).wait() == 0, Path(log.name).read_text()[-3000:]
        if words[1] == "plan":
            (plans,) = Path(os.environ["nnUNet_preprocessed"]).glob("*/nnUNetDiffusionEnsemblePlans.json")
            change_plans(plans, plans.stem, FEW_SAMPLES)

    monkeypatch.setattr(subprocess, "run", run)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    for name in ("raw", "preprocessed", "results", "extTrainer"):
        monkeypatch.setenv(f"nnUNet_{name}", "")  # what the notebook sets is forgotten with this
    namespace: dict[str, Any] = {}
    for cell in (cell for cell in json.loads(VOLUMES.read_text())["cells"] if cell["cell_type"] == "code"):
        exec(compile("".join(cell["source"]), VOLUMES.name, "exec"), namespace)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert namespace.keys() >= SHORT.keys()
            namespace |= SHORT
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("label")] == [
        ["label", "1:"],
        ["label", "2:"],
    ]
    assert list(namespace["result"].timesteps) == [1, 50]
    shutil.rmtree(namespace["root"])
