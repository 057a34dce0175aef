"""Draws docs/images/architecture.svg: the package's folders on their floors, and what imports what.

    python docs/draw_architecture.py

Floors are those that tests/test_architecture.py keeps; imports and descriptions are read from the code with `ast`.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "nnunet_diffusion_ensemble"
FILE = REPOSITORY / "docs" / "images" / "architecture.svg"

LINE_PX, MARGIN_PX, ARCS_PX, NAMES_PX, TEXTS_PX = 26, 14, 300, 120, 800
BAND_COLOURS = ("#f4f6f8", "#e9edf1")
DIRECT, FURTHER = {"stroke": "#3b6ea5", "stroke-width": "1.4"}, {"stroke": "#b9c6d3", "stroke-width": "0.8"}
STYLE = "text { font: 13px sans-serif; fill: #222 } .room { font-weight: bold }"


def read_floors() -> list[tuple[str, ...]]:
    """Parts of the package, floor by floor, from the top down."""
    for node in ast.parse((REPOSITORY / "tests" / "test_architecture.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            return list(ast.literal_eval(node.value))
    raise ValueError("tests/test_architecture.py has no FLOORS.")


def modules_of(part: str) -> list[Path]:
    """A part is a folder or one module."""
    return sorted((PACKAGE / part).rglob("*.py")) or [PACKAGE / f"{part}.py"]


def description_of(part: str) -> str:
    """The first sentence of its docstring."""
    text = ast.get_docstring(ast.parse(modules_of(part)[0].read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def read_imports(parts: list[str]) -> dict[str, set[str]]:
    """The other parts that each part imports, also within its functions."""
    imports = {part: {name for module in modules_of(part) for name in _imported(module)} for part in parts}
    return {part: (names & set(parts)) - {part} for part, names in imports.items()}


def _imported(module: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith(f"{PACKAGE.name}.")}


def is_direct(part: str, imported: str, imports: Mapping[str, set[str]]) -> bool:
    """Whether no other part that it imports leads there as well."""
    return not any(imported in _reached(other, imports) for other in imports[part] - {imported})


def _reached(part: str, imports: Mapping[str, set[str]]) -> set[str]:
    return imports[part].union(*(_reached(other, imports) for other in imports[part]))


def draw(floors: list[tuple[str, ...]], imports: Mapping[str, set[str]]) -> ElementTree.Element:
    """One line a part, a band a floor; an arc from each part down to each that it imports."""
    lines = {part: MARGIN_PX + LINE_PX * i for i, part in enumerate(part for floor in floors for part in floor)}
    width, height = ARCS_PX + NAMES_PX + TEXTS_PX, 2 * MARGIN_PX + LINE_PX * len(lines)
    svg = ElementTree.Element(
        "svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {height}", "role": "img"}
    )
    ElementTree.SubElement(svg, "title").text = "What imports what, from the command line down"
    ElementTree.SubElement(svg, "style").text = STYLE
    for floor, parts in enumerate(floors):
        band = {"x": "0", "width": str(width), "y": str(lines[parts[0]]), "height": str(LINE_PX * len(parts))}
        ElementTree.SubElement(svg, "rect", {**band, "fill": BAND_COLOURS[floor % 2]})
    arcs = [(part, imported, is_direct(part, imported, imports)) for part in lines for imported in imports[part]]
    for part, imported, direct in sorted(arcs, key=lambda arc: (arc[2], lines[arc[0]], lines[arc[1]])):
        _add_arc(svg, part, imported, lines, DIRECT if direct else FURTHER)
    for floor, parts in enumerate(floors):
        for part in parts:
            _add_part(svg, part, floor, lines[part] + 0.68 * LINE_PX)
    return svg


def _add_arc(
    svg: ElementTree.Element, part: str, imported: str, lines: Mapping[str, int], look: Mapping[str, str]
) -> None:
    top, bottom = (lines[name] + LINE_PX // 2 for name in (part, imported))
    left = ARCS_PX - 20 - (ARCS_PX - 40) * (bottom - top) / (LINE_PX * len(lines)) * 4 / 3
    path = f"M {ARCS_PX} {top} C {left:.0f} {top}, {left:.0f} {bottom}, {ARCS_PX} {bottom}"
    ElementTree.SubElement(svg, "path", {"d": path, "fill": "none", "data-from": part, "data-to": imported, **look})


def _add_part(svg: ElementTree.Element, part: str, floor: int, y: float) -> None:
    name = {"class": "room", "x": str(ARCS_PX + 10), "y": f"{y:.0f}", "data-floor": str(floor)}
    ElementTree.SubElement(svg, "text", name).text = part
    text = ElementTree.SubElement(svg, "text", {"x": str(ARCS_PX + NAMES_PX), "y": f"{y:.0f}"})
    text.text = description_of(part)


def main() -> None:
    floors = read_floors()
    drawing = draw(floors, read_imports([part for floor in floors for part in floor]))
    ElementTree.indent(drawing)
    FILE.write_text(ElementTree.tostring(drawing, encoding="unicode") + "\n")


if __name__ == "__main__":
    main()
