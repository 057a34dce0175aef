"""Writes docs/reference/commands.md: every command of `nnunet-diffusion` with its options, as argparse knows them."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from nnunet_diffusion_ensemble.cli.parser import build_parser
from nnunet_diffusion_ensemble.system.atomic import write_text

PAGE = Path(__file__).resolve().parent / "reference" / "commands.md"
HEAD = """\
# Commands

Made by `python docs/write_commands.py` from the commands themselves; `nnunet-diffusion COMMAND --help` says the same.
Every command ends with status 0 if all went well, 2 for a mistake that its message names, 3 for a mistake of the
package, 130 when it was interrupted; `doctor` also with 1 if something will fail, `self-train` if areas have drifted.
"""


def page() -> str:
    """The page as it should be."""
    subcommands = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    helps = {choice.dest: choice.help for choice in subcommands._choices_actions}
    sections = [_section(name, str(helps[name]), parser) for name, parser in subcommands.choices.items()]
    return "\n".join([HEAD, *sections])


def _section(name: str, text: str, parser: argparse.ArgumentParser) -> str:
    rows = ["| | takes | default | |", "|---|---|---|---|", *_rows(parser)]
    return f"## {name}\n\n{text[0].upper()}{text[1:]}.\n\n" + "\n".join(rows) + "\n"


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            cells = (_names(action), _values(action), _default(action), _help(parser, action))
            yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _names(action: argparse.Action) -> str:
    if action.option_strings:
        required = " (required)" if action.required else ""
        return ", ".join(f"`{name}`" for name in action.option_strings) + required
    return f"`{_placeholder(action)}`"


def _placeholder(action: argparse.Action) -> str:
    metavar = action.metavar or action.dest.upper()
    return " ".join(metavar) if isinstance(metavar, tuple) else str(metavar)


def _values(action: argparse.Action) -> str:
    if action.choices is not None:
        return ", ".join(f"`{choice}`" for choice in action.choices)
    if action.nargs == 0:
        return ""
    several = " ..." if action.nargs in ("+", "*") else ""
    return f"`{_placeholder(action)}{several}`" if action.option_strings else several.strip()


def _default(action: argparse.Action) -> str:
    if action.nargs == 0 or action.default in (None, argparse.SUPPRESS, [], ""):
        return ""
    values = action.default if isinstance(action.default, list) else [action.default]
    return f"`{' '.join(map(str, values))}`"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Without the default, which has a column of its own."""
    if action.help == "%(default)s":
        return ""
    return parser._get_formatter()._expand_help(action).removesuffix(f" ({action.default})")


if __name__ == "__main__":
    write_text(PAGE, page().removesuffix("\n"))
