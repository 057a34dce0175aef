"""The examples of docs/how-to/extending.md, run as they stand there."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.evaluation.metrics import METRICS
from nnunet_diffusion_ensemble.method.libraries import LIBRARIES

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "extending.md"
CHAPTERS = re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE)[1:]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w/]+\.py)\n")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that modules are imported from; what examples import or add to tables is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "my_trainers"))
    tables = [(table, dict(table)) for table in (METRICS, LIBRARIES)]
    before = set(sys.modules)
    yield tmp_path
    for table, content in tables:
        table.clear()
        table.update(content)
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda text: text.partition("\n")[0])
def test_an_example_runs_as_it_stands(chapter: str, workplace: Path) -> None:
    namespace: dict[str, object] = {"__name__": "example"}
    blocks = PYTHON.findall(chapter)
    assert "assert" in blocks[-1]  # it says what comes out
    for block in blocks:
        file = FILE.match(block)
        if file:
            (workplace / file[1]).parent.mkdir(exist_ok=True)
            (workplace / file[1]).write_text(block)
        else:
            exec(compile(block, str(DOCUMENT), "exec"), namespace)


def test_each_of_what_can_be_added_has_a_chapter() -> None:
    titles = [chapter.partition("\n")[0] for chapter in CHAPTERS]
    assert titles == ["A trainer", "A head", "A metric", "A library of denoisers"]
