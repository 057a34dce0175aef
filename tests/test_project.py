"""The project's description: one version, changes of it, extras that are told of, terms of what ships."""

import re

import pytest
from documented import DOCS
from projects import EXTRAS, PROJECT, PYPROJECT, REPOSITORY, repository_files

import nnunet_diffusion_ensemble

ASSIGNED_VERSION = re.compile(r"^\s*(?:__version__|version)\s*[=:]\s*[\"']?\d", re.MULTILINE)


def test_the_version_is_written_in_the_package_and_quoted_by_the_citation_alone() -> None:
    texts = {path for path in repository_files() if path.endswith((".py", ".toml", ".cff", ".cfg"))}
    found = {path for path in texts if ASSIGNED_VERSION.search((REPOSITORY / path).read_text(encoding="utf-8"))}
    assert found == {"nnunet_diffusion_ensemble/__init__.py", "CITATION.cff"}
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "nnunet_diffusion_ensemble.__version__"}


def test_the_newest_changes_are_those_of_this_version() -> None:
    newest = re.search(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == nnunet_diffusion_ensemble.__version__


@pytest.mark.parametrize(
    "page", [REPOSITORY / "README.md", DOCS / "getting-started" / "index.md"], ids=lambda p: p.name
)
def test_every_extra_is_told_of(page) -> None:
    assert [extra for extra in EXTRAS if f"[{extra}]" not in page.read_text()] == []


def test_terms_ship_with_the_package() -> None:
    for file in PROJECT["license-files"]:
        assert (REPOSITORY / file).stat().st_size > 0
    notice = (REPOSITORY / PROJECT["license-files"][1]).read_text()
    folders = {path.name for path in (REPOSITORY / "nnunet_diffusion_ensemble" / "demo" / "sample").iterdir()}
    assert all(f"`{folder}" in notice for folder in folders - {"NOTICE.md"})


def test_the_code_is_checked_as_of_the_oldest_python() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == oldest
