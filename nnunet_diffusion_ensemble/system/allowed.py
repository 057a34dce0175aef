"""What a key of a pydantic model may be, in words: for messages, help and docs."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

WORDS = "words"  # in `json_schema_extra` of a field: what is allowed, where the schema says it badly
TYPES = {"boolean": "true or false", "null": "null", "string": "text", "object": "an object"}
LISTS = ("anyOf", "allOf", "prefixItems")
NUMBERS = {"integer": "a whole number", "number": "a number"}


def allowed(model: type[BaseModel], key: str) -> str:
    """In words, e.g. `a number above 0 and at most 1`."""
    return _in_words(_properties(model)[key])


@cache
def _properties(model: type[BaseModel]) -> Mapping[str, Any]:
    schema = model.model_json_schema()
    parts = schema.get("$defs", {})
    return {key: _resolved(value, parts) for key, value in schema["properties"].items()}


def _resolved(schema: Any, parts: Mapping[str, Any]) -> Any:
    """Without references to settings in settings, which are objects."""
    if "$ref" in schema:
        part = parts[schema["$ref"].rsplit("/", 1)[-1]]
        return {WORDS: f"an object with {', '.join(part['properties'])}"}
    changes: dict[str, Any] = {key: [_resolved(part, parts) for part in schema[key]] for key in LISTS if key in schema}
    if "items" in schema:
        changes["items"] = _resolved(schema["items"], parts)
    return {**schema, **changes}


def _in_words(schema: Mapping[str, Any]) -> str:
    if WORDS in schema:
        return schema[WORDS]
    for key in ("anyOf", "allOf"):
        if key in schema:
            *others, last = map(_in_words, schema[key])
            return f"{' or '.join(others)}{', or ' if last == 'null' else ' or '}{last}" if others else last
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        *others, last = map(str, schema["enum"])
        return f"{', '.join(others)} or {last}"
    kind = schema["type"]
    if kind in NUMBERS:
        return f"{NUMBERS[kind]}{_range(schema)}"
    if kind == "array":
        return _list(schema)
    if kind == "string":
        return _string(schema)
    return TYPES[kind]


def _range(schema: Mapping[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']} to {schema['maximum']}"
    bounds = (
        ("minimum", "of at least"),
        ("exclusiveMinimum", "above"),
        ("exclusiveMaximum", "below"),
        ("maximum", "at most"),
    )
    found = [f"{word} {schema[key]:g}" for key, word in bounds if key in schema]
    return f" {' and '.join(found)}" if found else ""


def _list(schema: Mapping[str, Any]) -> str:
    fixed = schema.get("prefixItems")
    number = f" of {len(fixed)}" if fixed else " of one or more" if schema.get("minItems") else ""
    return f"a list{number}, each {_in_words(fixed[0] if fixed else schema['items'])}"


def _string(schema: Mapping[str, Any]) -> str:
    if schema.get("format") == "path":
        return "a path"
    most = f" of at most {schema['maxLength']} characters" if "maxLength" in schema else ""
    return f"text{most}" + (" that is not empty" if schema.get("minLength") else "")
