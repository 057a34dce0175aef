"""The drawing of the house is that of the code, and that of the floors which tests/test_architecture.py keeps."""

from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import test_architecture as house
from scripts import load_script

DOCS = Path(__file__).resolve().parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"
COMMAND = "run python docs/draw_architecture.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(DOCS / "draw_architecture.py")


@pytest.fixture(scope="module")
def drawing() -> ElementTree.Element:
    return ElementTree.parse(DOCS / "images" / "architecture.svg").getroot()


def test_its_floors_are_those_of_the_house_from_the_top_down(drawing: ElementTree.Element) -> None:
    rooms = [text for text in drawing.iter(f"{SVG}text") if text.get("class") == "room"]
    drawn = sorted(rooms, key=lambda room: float(room.attrib["y"]))
    expected = [(part, str(floor)) for floor, parts in enumerate(house.FLOORS) for part in parts]
    assert [(room.text, room.get("data-floor")) for room in drawn] == expected, COMMAND


def test_its_arcs_are_the_imports_of_the_code(drawing: ElementTree.Element) -> None:
    imports = {
        (part, imported)
        for module in house.MODULES
        if (part := house.part_of(module)) not in house.APART
        for imported in house.imported_parts(module) - {part}
    }
    arcs = [(arc.get("data-from"), arc.get("data-to")) for arc in drawing.iter(f"{SVG}path")]
    assert sorted(arcs) == sorted(imports), COMMAND


def test_an_import_is_direct_unless_another_one_leads_there(script: ModuleType) -> None:
    imports = {"top": {"middle", "bottom"}, "middle": {"lower"}, "lower": {"bottom"}, "bottom": set()}
    direct = {(part, other) for part in imports for other in imports[part] if script.is_direct(part, other, imports)}
    assert direct == {("top", "middle"), ("middle", "lower"), ("lower", "bottom")}


def test_every_part_says_what_it_is(script: ModuleType) -> None:
    for part in house.FLOOR_OF:
        assert len(script.description_of(part)) > 20, part
