"""Every command in the documents is one, with options that it takes: by our parser, and by nnU-Net's own."""

import argparse
import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest
from documented import DOCS, OURS, PAGES, REPOSITORY, STOCK, commands_in_line, name_of, shell_commands

from nnunet_diffusion_ensemble.cli.parser import build_parser

# Programs that the documents call beside ours, nnU-Net's and Python.
OTHERS = {"cd", "export", "mkdir", "pip", "git", ".", "pytest", "ruff", "mypy", ".ci/run", "docker", "sbatch", "mkdocs"}
ENTRY_POINTS = {point.name: point for point in entry_points(group="console_scripts") if point.name.startswith(STOCK)}
VARIABLE = re.compile(r"\$\w+|^ID$")  # stands for a number where a number is wanted
TORCHRUN = "nnunet_diffusion_ensemble.torchrun"


class Parsed(Exception):
    """Ends a command when its arguments are read."""


def make_optional(parser: argparse.ArgumentParser) -> None:
    """Nothing has to be given, so that a command may be quoted in part."""
    for group in parser._mutually_exclusive_groups:
        group.required = False
    for action in parser._actions:
        action.required = False
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                make_optional(subparser)
        elif not action.option_strings:
            action.nargs = "*" if action.nargs in ("+", "*") else "?"


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`parse(words)`: the command's own parser takes these words; `partial=True` asks for nothing that is missing."""
    original = argparse.ArgumentParser.parse_args

    def parse_words(words: list[str], partial: bool = False) -> None:
        words = [VARIABLE.sub("1", word) for word in words]

        def parse_and_end(parser: argparse.ArgumentParser, *arguments: object) -> None:
            if partial:
                make_optional(parser)
            original(parser, *arguments)
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
        monkeypatch.setattr(sys, "argv", words)
        try:
            build_parser().parse_args(words[1:]) if words[0] == OURS else ENTRY_POINTS[words[0]].load()()
        except Parsed:
            return
        except SystemExit as end:
            if end.code:
                pytest.fail(f"not a command: {' '.join(words)}")

    return parse_words


def check(words: list[str], parse: Callable[..., None]) -> None:
    program = words[0]
    if program == OURS or program in ENTRY_POINTS:
        parse(words)
    elif program == "torchrun":
        parse(["nnUNetv2_train", *words[words.index(TORCHRUN) + 1 :]])
    elif program in ("python", "python3"):
        is_module = words[1] == "-m"
        assert find_spec(words[2]) if is_module else (REPOSITORY / words[1]).is_file(), words
    else:
        assert program in OTHERS, f"an unknown program: {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_blocks_are_taken_as_they_stand(page: Path, parse: Callable[..., None]) -> None:
    for words in shell_commands(page):
        check(words, parse)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_lines_have_options_that_there_are(page: Path, parse: Callable[..., None]) -> None:
    for words in commands_in_line(page):
        if words != [OURS, "COMMAND", "--help"]:
            parse(words, partial=True)


def test_a_wrong_option_is_noticed(parse: Callable[..., None]) -> None:
    for words in (f"{OURS} plan -d 1 --time-steps 1", "nnUNetv2_train 1 2d 0 -trainer X", f"{OURS} plans -d 1"):
        with pytest.raises(pytest.fail.Exception, match="not a command"):
            parse(words.split())


def test_getting_started_has_commands_on_every_page() -> None:
    for page in (DOCS / "getting-started").glob("*.md"):
        assert any(words[0] == OURS for words in shell_commands(page)), name_of(page)
