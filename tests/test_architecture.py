"""The order of the house: folders import only what lies below them, and nothing hides from the wheel."""

import ast
from pathlib import Path

import pytest
from projects import PYPROJECT, REPOSITORY

PACKAGE = "nnunet_diffusion_ensemble"
# From the top floor down; parts of one floor do not know each other.
FLOORS = (
    ("cli",),
    ("app",),
    ("api", "demo", "distillation", "doctor", "held_out"),
    ("self_training",),
    ("report",),
    ("joining", "statistics", "study"),
    ("benchmark",),
    ("evaluation",),
    ("prediction",),
    ("calibration", "postprocessing"),
    ("training",),
    ("planning",),
    ("augmentation", "data", "network"),
    ("dicom",),
    ("denoiser", "images"),
    ("nnunet",),
    ("method",),
    ("system",),
)
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
APART = ("__init__", "external", "torchrun")  # the public API, and what is run by nnU-Net or torchrun
MODULES = sorted(path for path in (REPOSITORY / PACKAGE).rglob("*.py"))


def part_of(module: Path) -> str:
    first = module.relative_to(REPOSITORY / PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_parts(module: Path) -> set[str]:
    """The parts of the package that a module imports, also within its functions."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        else:
            continue
        names |= {name.split(".")[1] for name in found if name.startswith(f"{PACKAGE}.")}
    return names - {"__version__"}


def calls(module: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_module_imports_only_what_lies_below_it(module: Path) -> None:
    part = part_of(module)
    if part in APART:
        return
    above = {
        other for other in imported_parts(module) if other != part and not FLOOR_OF.get(other, -1) > FLOOR_OF[part]
    }
    assert not above, f"{part} must not import {sorted(above)}"


def test_every_folder_has_a_floor() -> None:
    assert {part_of(module) for module in MODULES} == {*FLOOR_OF, *APART}


def test_nothing_in_the_package_imports_the_trainers_and_planners_that_nnunet_finds() -> None:
    importing = [path for path in MODULES if {"trainers", "planners"} & imported_parts(path)]
    assert importing == []


def test_the_modules_that_nnunet_finds_are_leaves() -> None:
    for folder in ("trainers", "planners"):
        for module in (REPOSITORY / folder).glob("*.py"):
            assert len(module.read_text().splitlines()) <= 15, module
            assert not {"trainers", "planners"} & imported_parts(module), module


def test_only_one_module_reads_and_writes_the_files_of_torch() -> None:
    at_it = {
        str(path.relative_to(REPOSITORY / PACKAGE))
        for path in MODULES
        if {"torch.load", "torch.save"} & {ast.unparse(node.func) for node in calls(path)}
    }
    assert at_it == {"nnunet/checkpoint.py"}


ENTRIES = ("add_arguments", "main", "run")  # of commands, which are called by their module


def test_no_two_public_classes_or_functions_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(REPOSITORY)))
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in ENTRIES} == {}


def test_the_packages_of_the_wheel_are_the_folders() -> None:
    declared = PYPROJECT["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(REPOSITORY) for path in (REPOSITORY / PACKAGE).rglob("__init__.py")}
    found = {".".join(folder.parts) for folder in folders}
    assert sorted(declared) == sorted(found | {f"{PACKAGE}.trainers", f"{PACKAGE}.planners"})
