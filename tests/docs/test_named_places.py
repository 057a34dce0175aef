"""Places in the code that documents name (`folder/module.py:name`) are there."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "nnunet_diffusion_ensemble"
DOCUMENTS = [
    REPOSITORY / "docs" / name
    for name in ("explanation/architecture.md", "explanation/how_it_works.md", "how-to/extending.md")
]
PLACE = re.compile(r"`([\w/]+\.py)(?::(\w+))?`")


def places(document: Path) -> list[tuple[str, str]]:
    return sorted(set(PLACE.findall(document.read_text())))


def names_in(module: Path) -> set[str]:
    found = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize(
    ("file", "name"), sorted({place for document in DOCUMENTS for place in places(document)}), ids=str
)
def test_a_place_that_a_document_names_is_there(file: str, name: str) -> None:
    module = next((folder / file for folder in (PACKAGE, REPOSITORY) if (folder / file).is_file()), None)
    assert module is not None, f"there is no {file}"
    assert not name or name in names_in(module)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_places(document: Path) -> None:
    assert len(places(document)) > 3
