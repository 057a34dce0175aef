"""What pyproject.toml says of the project, and which files the repository has."""

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

REPOSITORY = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]


def required(extra: str) -> set[str]:
    """Names of what an extra brings, by way of our other extras too."""
    names = set()
    for requirement in map(Requirement, EXTRAS[extra]):
        inner = requirement.extras if requirement.name == PROJECT["name"] else ()
        names |= {requirement.name}.union(*(required(other) for other in inner))
    return names


def repository_files() -> set[str]:
    """Paths of what is committed, or would be."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs a checkout: what git knows is the rule")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listing, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return {path for path in found.split("\0") if path and (REPOSITORY / path).is_file()}
