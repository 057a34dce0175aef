"""Reading the JSON that a run needs: an object, or a sentence that says what the file is instead."""

import json
from pathlib import Path
from typing import Any

MOST_SHOWN = 40  # characters


def read_object(file: Path, advice: str = "") -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        file: to read.
        advice: a sentence for the end of every message: what to do about it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    content = read_value(file, advice)
    if not isinstance(content, dict):
        raise ValueError(_with(f"{file} must hold an object, {{...}}, but holds {_shown(content)}.", advice))
    return content


def read_value(file: Path, advice: str = "") -> Any:
    """What a JSON file holds. Raises as `read_object`."""
    if not file.is_file():
        what = f"{file} is a folder, not a file." if file.is_dir() else f"There is no {file}."
        raise FileNotFoundError(_with(what, advice))
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # the latter of what is nested without end
        raise ValueError(_with(f"{file} is not JSON ({error}).", advice)) from error


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < MOST_SHOWN else f"a {type(value).__name__} that begins with {text[:MOST_SHOWN]}"


def _with(text: str, advice: str) -> str:
    return f"{text} {advice}".rstrip()
