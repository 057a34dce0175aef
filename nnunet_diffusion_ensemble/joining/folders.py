"""Benchmarks that do not tell in which folders of a machine things lie: of each path the last name is left."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec, as_name
from nnunet_diffusion_ensemble.joining.parts import Part

ROOT = Path("/").resolve()
FOLDERS = re.compile(r"""(?:[A-Za-z]:)?[^\s'"(]*[/\\](?=[^\s/\\])""")  # in a text, up to the last name of a path


def without_folders(part: Part) -> Part:
    """The same in its specification, record, commands and texts of problems; paths of a domain keep its name, too."""
    changed = part.spec.model_dump()
    changed["output"] = bare_path(part.spec.output)
    for model in changed["models"]:
        model["folder"] = bare_path(model["folder"])
    for domain in changed["domains"]:
        domain |= _bare_paths(domain, ("images", "references", "patients", "metadata"))
    spec = BenchmarkSpec.read(changed)
    problems = part.results.problems.assign(
        problem=[FOLDERS.sub("", text) for text in part.results.problems["problem"]]
    )
    record = replace(
        part.record,
        models=[{**one, "folder": str(bare_path(Path(one["folder"])))} for one in part.record.models],
        domains=[{**one, **_bare_paths(one, ("images", "references"))} for one in part.record.domains],
    )
    commands = tuple(map(bare_command, part.commands))
    return replace(part, commands=commands, results=replace(part.results, spec=spec, problems=problems), record=record)


def _bare_paths(domain: Mapping[str, Any], keys: Sequence[str]) -> dict[str, str]:
    """Those of a domain that it has, in a folder of its name."""
    return {
        key: str(ROOT / as_name(domain["name"]) / Path(domain[key]).name) for key in keys if domain[key] is not None
    }


def bare_path(path: Path) -> Path:
    """As if it lay in no folder."""
    return ROOT / path.name


def bare_command(command: str) -> str:
    """With the last names of paths only."""
    return shlex.join(map(_bare_word, shlex.split(command)))


def _bare_word(word: str) -> str:
    option, equals, value = word.rpartition("=")  # --output=FOLDER
    return option + equals + Path(value).name if os.sep in value else word
