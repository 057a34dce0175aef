"""Reading the JSON that a run needs: an object, or a sentence that says what the file is instead."""

import json
from pathlib import Path
from typing import Any

MOST_SHOWN = 40  # characters
BYTE_ORDER_MARK = "\ufeff"


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
    content = file.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(_with(f"{file} is not UTF-8 ({error}): save it as that.", advice)) from error
    if text.startswith(BYTE_ORDER_MARK):  # nnU-Net does not read it
        raise ValueError(_with(f"{file} begins with a byte order mark: save it as UTF-8 without one.", advice))
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:  # the latter of what is nested without end
        raise ValueError(_with(f"{file} is not JSON ({error}).", advice)) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that is there twice, JSON's reader would take the last value without a word."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"{next(name for name in names if names.count(name) > 1)} is there twice: leave one of them out"
        )
    return content


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < MOST_SHOWN else f"a {type(value).__name__} that begins with {text[:MOST_SHOWN]}"


def _with(text: str, advice: str) -> str:
    return f"{text} {advice}".rstrip()
