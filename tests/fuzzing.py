"""Changes of a file's content that nobody would think of, and how a reader may end."""

import random
from collections.abc import Callable
from typing import Any

KINDS: tuple[Any, ...] = (None, True, -1, 0, 3.5, float("nan"), "", "text", [], [None], ["a", 2], {}, {"a": 1}, [[1]])


def is_read(read: Callable[[], Any], what: object) -> bool:
    """Whether it was read; any other end than a sentence of ours fails."""
    try:
        read()
    except (ValueError, NotImplementedError) as error:
        assert str(error), what
        return False
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error} at {what}") from error
    return True


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything in nested dictionaries and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inner for place in ((*path, key), *places(item, (*path, key)))]


def change_somewhere(content: dict, rng: random.Random) -> tuple[Any, ...]:
    """Drops a key or swaps a value for one of another kind, somewhere; returns where."""
    path = rng.choice(places(content))
    inner: Any = content
    for key in path[:-1]:
        inner = inner[key]
    if rng.random() < 0.3:
        del inner[path[-1]]
    else:
        inner[path[-1]] = rng.choice(KINDS)
    return path


def damaged(content: bytes, rng: random.Random, described: int = 4000) -> bytes:
    """Cuts a file short or changes some of its bytes; half of the changes are in what describes the rest.

    Args:
        content: of the file.
        rng: of the changes.
        described: bytes of that part, at the beginning.
    """
    changed = bytearray(content[: rng.randrange(len(content))] if rng.random() < 0.1 else content)
    for _ in range(rng.choice((1, 1, 4, 64))):
        if changed:
            end = min(described, len(changed)) if rng.random() < 0.5 else len(changed)
            changed[rng.randrange(end)] = rng.randrange(256)
    return bytes(changed)
