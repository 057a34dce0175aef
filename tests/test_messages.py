"""No string of the package names a file that an installed package does not have."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "nnunet_diffusion_ensemble"
MODULES = sorted(
    path for folder in (PACKAGE, REPOSITORY / "trainers", REPOSITORY / "planners") for path in folder.rglob("*.py")
)
OF_THE_REPOSITORY = re.compile(r"\b(?:docs|benchmarks|tests)/\w|[\w-]+\.md\b")
IN_THE_WHEEL = {path.name for path in PACKAGE.rglob("*.md")}


def named_files(source: str) -> set[str]:
    """Files of the repository in a module's messages, help and docstrings, apart from that of the module itself."""
    module = ast.parse(source)
    nodes = [node for statement in module.body[ast.get_docstring(module) is not None :] for node in ast.walk(statement)]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant)]
    found = {match for text in texts if isinstance(text, str) for match in OF_THE_REPOSITORY.findall(text)}
    return found - IN_THE_WHEEL


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_strings_name_no_file_that_a_wheel_does_not_carry(module: Path) -> None:
    assert named_files(module.read_text()) == set()


@pytest.mark.parametrize(
    "source",
    [
        'raise ValueError(f"{file} is wrong: see docs/reference/plans.md.")',
        'parser.add_argument("spec", help="what to test: docs/how-to/benchmark.md")',
        'def f():\n    """Made by benchmarks/cost.py."""',
        'logger.warning("CONTRIBUTING.md says why")',
    ],
)
def test_such_a_file_would_be_found(source: str) -> None:
    assert named_files(source)


def test_what_ships_may_be_named() -> None:
    assert named_files('print("Their terms: NOTICE.md")') == set()
