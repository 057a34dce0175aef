"""The results of a run, written as they come, so that whatever is cut short keeps what it has measured."""

import json
from pathlib import Path
from typing import Any

FILE, PAGE = "results.json", "results.md"


def add_result(output: Path, section: str, row: dict[str, Any]) -> None:
    """Adds a row to a section of results.json, and writes results.md anew."""
    file = output / FILE
    results: dict[str, list[dict[str, Any]]] = json.loads(file.read_text()) if file.is_file() else {}
    results.setdefault(section, []).append(row)
    for name, text in ((FILE, json.dumps(results, indent=1)), (PAGE, as_page(results))):
        partial = output / f"{name}.partial"
        partial.write_text(text + "\n")
        partial.replace(output / name)


def as_page(results: dict[str, list[dict[str, Any]]]) -> str:
    """A heading and tables for each section; rows with the same columns share a table."""
    lines: list[str] = []
    for section, rows in results.items():
        lines += ["", f"## {section}"]
        columns: list[str] = []
        for row in rows:
            if list(row) != columns:
                columns = list(row)
                lines += ["", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
            lines.append(f"| {' | '.join(map(_shown, row.values()))} |")
    return "\n".join(lines).strip()


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("\n", " ")
