"""Pages of the reference are those of the code: commands, and files that are written."""

import ast
import re
from types import ModuleType

import pytest
from documented import DOCS, REPOSITORY
from scripts import load_script

from nnunet_diffusion_ensemble.cli.parser import COMMANDS

PACKAGE = REPOSITORY / "nnunet_diffusion_ensemble"
FILE = re.compile(r"[\w-]+\.(?:json|csv|txt|png|html|yaml|pth|sh)")
# Named in the code, but not written: an example, and what others bring.
READ_ONLY = {"SPEC.yaml", "config.json", "scheduler_config.json", "split.json", "_0000.png"}


def load(name: str) -> ModuleType:
    """A script of the documents."""
    return load_script(DOCS / f"{name}.py")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load("write_commands")


def names_of_files() -> set[str]:
    """Whole strings in the package that are the name of a file."""
    nodes = [node for module in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(module.read_text()))]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if FILE.fullmatch(text)}


def test_the_page_of_commands_is_that_of_the_parser(script: ModuleType) -> None:
    assert script.PAGE.read_text() == script.page(), "run python docs/write_commands.py"


def test_the_page_of_mistakes_is_that_of_the_questions() -> None:
    script = load("write_troubleshooting")
    assert script.PAGE.read_text() == script.page(), "run python docs/write_troubleshooting.py"


def test_every_command_has_a_section(script: ModuleType) -> None:
    assert re.findall(r"^## (.+)$", script.page(), re.MULTILINE) == list(COMMANDS)


def test_an_option_shows_its_values_and_its_default(script: ModuleType) -> None:
    page = script.page()
    assert "| `-c`, `--configurations` (required) | `CONFIGURATIONS ...` |  | e.g. 2d 3d_fullres |" in page
    assert "| `--on-problem` | `refuse`, `skip` | `refuse` | about images that cannot be predicted" in page


def test_every_file_that_the_code_names_is_on_the_page_of_files() -> None:
    page = (DOCS / "reference" / "files.md").read_text()
    assert sorted(name for name in names_of_files() - READ_ONLY if name not in page) == []
