"""A Dockerfile and a .dockerignore, read as an engine reads them, as far as ours go."""

import re
from collections.abc import Iterator
from fnmatch import fnmatch

from projects import REPOSITORY


def instructions() -> Iterator[tuple[str, str]]:
    """Keyword and the rest of each instruction of the Dockerfile."""
    text = re.sub(r"^#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        if line.strip():
            keyword, _, rest = line.partition(" ")
            yield keyword, rest.strip()


def is_in_context(path: str) -> bool:
    """Whether the engine is sent a path; of the patterns that fit it or a folder above it the last decides."""
    lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    parts = path.split("/")
    above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    sent = True
    for line in lines:
        pattern = line.removeprefix("!")
        names = [parts[-1]] if pattern.startswith("**/") else above
        if any(fnmatch(name, pattern.removeprefix("**/")) for name in names):
            sent = line.startswith("!")
    return sent
