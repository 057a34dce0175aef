"""What the documents say: their pages, links, the commands in them, and where these are run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
CARD = REPOSITORY / "nnunet_diffusion_ensemble" / "denoiser" / "shipped" / "chest-xray-64.md"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", CARD, *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
OURS, STOCK = "nnunet-diffusion", "nnUNetv2_"
SEPARATORS = re.compile(r"&&|\|\||;(?=\s)|(?<!\|)\|(?!\|)")
IN_LINE = re.compile(rf"`((?:{OURS} |{STOCK})[^`\n]*(?:\n[^`\n]+)?)`")
OURS_IN_LINE = re.compile(rf"`({OURS} [^`]*)`")
SHELL = {"for", "do", "done", "if", "fi", "then", "srun"}  # what a command may stand behind


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, language: str) -> list[str]:
    return [match[3] for match in BLOCK.finditer(page.read_text(encoding="utf-8")) if match[2] == language]


def commands_of(script: str) -> Iterator[list[str]]:
    """Words of each command of a shell script; comments, variables before it and loops are left out."""
    for line in script.replace("\\\n", " ").splitlines():
        without_comment = re.sub(r"(^|\s)#.*", "", line)
        for command in SEPARATORS.split(without_comment):
            words = shlex.split(command)
            while words and (words[0] in SHELL or re.fullmatch(r"\w+=\S*", words[0])):
                words = words[1:] if words[0] != "for" else []
            if words:
                yield words


def shell_commands(page: Path) -> Iterator[list[str]]:
    """Those in the page's blocks of bash."""
    for block in blocks(page, "bash"):
        yield from commands_of(block)


def commands_in_line(page: Path) -> Iterator[list[str]]:
    """Words of each command, ours or nnU-Net's, that stands between backticks, whole or in part."""
    for match in IN_LINE.finditer(prose(page)):
        text = " ".join(match[1].split())
        words = [word for word in shlex.split(text) if word != "..."]
        if len(words) > 1 and not words[1].endswith(","):  # a list of commands
            yield words


def commands(page: Path) -> Iterator[str]:
    """Of ours and of nnU-Net's: in blocks, and in lines, where a name without an argument is just a name."""
    in_lines = (shlex.split(text) for text in OURS_IN_LINE.findall(page.read_text(encoding="utf-8")))
    for words in [*shell_commands(page), *(words for words in in_lines if len(words) > 2)]:
        if words[0].startswith((OURS, STOCK)):
            yield " ".join(words)


def is_there(place: str) -> bool:
    """Whether `FILE::NAME` is a function of a test module: a test, or what its tests have run before them."""
    file, name = place.split("::")
    return bool(re.search(rf"^def {name}\(", (REPOSITORY / file).read_text(encoding="utf-8"), re.MULTILINE))
