"""Specifications as YAML: read with the line and column of every mistake, and written with everything resolved."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from nnunet_diffusion_ensemble.benchmark.spec import BASE, FOLDS, SEEDS, BenchmarkSpec, ModelSpec
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.messages import raise_listing
from nnunet_diffusion_ensemble.system.mistakes import KeyPath, mistakes

DEPTH = 6  # of the deepest value, models -> 0 -> seeds -> 0 -> 0; keeps aliases of aliases from exploding
MERGE = "tag:yaml.org,2002:merge"  # the key <<
EXAMPLE = "nnunet-diffusion benchmark --help has an example"


@dataclass(frozen=True)
class Mistake:
    """A mistake and where it is; lines and columns count from 1."""

    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.text}"

    @classmethod
    def at(cls, mark: yaml.Mark, text: str) -> "Mistake":
        return cls(mark.line + 1, mark.column + 1, text)


@dataclass
class Places:
    """Where the keys and values of a document begin, by their path in it."""

    keys: dict[KeyPath, yaml.Mark] = field(default_factory=dict)
    values: dict[KeyPath, yaml.Mark] = field(default_factory=dict)

    def add(self, node: yaml.Node, loader: yaml.SafeLoader, path: KeyPath = ()) -> None:
        """Adds a value and what is in it."""
        self.values[path] = node.start_mark
        if len(path) == DEPTH:
            return
        if isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                self.add(item, loader, (*path, position))
        if isinstance(node, yaml.MappingNode):
            for key_node, value in node.value:
                inner = (*path, loader.construct_object(key_node))
                self.keys[inner] = key_node.start_mark
                self.add(value, loader, inner)

    def of(self, path: KeyPath, of_key: bool) -> yaml.Mark:
        """The place of a key or value; of one that is not there, that of what it should be in."""
        if of_key and path in self.keys:
            return self.keys[path]
        return self.values[path] if path in self.values else self.of(path[:-1], False)


def read_spec(file: Path, output: Path | None = None, models: Sequence[ModelSpec] = ()) -> BenchmarkSpec:
    """Reads a specification; relative paths in it start from its folder.

    Args:
        file: YAML.
        output: folder of the result, if the file names none.
        models: in addition to those of the file, which then may have none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no specification; every mistake is listed with its line and column.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is a folder, not a file." if file.is_dir() else f"There is no {file}.")
    data, places, found = _read_yaml(file)
    if isinstance(data, dict):
        data = _completed(data, output, models)
    spec = None
    try:
        spec = BenchmarkSpec.model_validate(data, context={BASE: file.parent.absolute()})
    except ValidationError as error:
        found += _mistakes(error, data, places)
    found.sort(key=lambda mistake: (mistake.line, mistake.column))
    count = "a mistake" if len(found) == 1 else f"{len(found)} mistakes"
    raise_listing(f"{file} has {count} ({EXAMPLE}):", list(map(str, found)))
    assert spec is not None
    return spec


def _completed(data: dict[str, Any], output: Path | None, models: Sequence[ModelSpec]) -> dict[str, Any]:
    defaults = {"output": str(output)} if output else {}
    own = data.get("models", [])
    is_list = isinstance(own, list)  # if not, that is a mistake to be told
    return defaults | data | ({"models": [*own, *models]} if models and is_list else {})


def write_spec(spec: BenchmarkSpec, file: Path) -> None:
    """Writes a specification with all its defaults and absolute paths; it can be run again."""
    text = yaml.safe_dump(spec.to_json(), sort_keys=False, allow_unicode=True).rstrip()
    write_text(file, f"# Everything that the results here depend on; a specification that can be run again.\n{text}")


_START = yaml.Mark("", 0, 0, 0, None, 0)


def _read_yaml(file: Path) -> tuple[Any, Places, list[Mistake]]:
    """The content of a file, where it is, and keys that are there twice."""
    places = Places()
    try:
        loader = yaml.SafeLoader(file.read_text(encoding="utf-8"))
        document = loader.get_single_node() or yaml.ScalarNode("tag:yaml.org,2002:null", "", _START, _START)
        found = [*_folds_as_seeds(document), *_repeated_keys(document, loader, set())]
        data = loader.construct_document(document)
        places.add(document, loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        text = " ".join(filter(None, (error.context, error.problem)))
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise ValueError(f"{file} is not YAML.{where} {text}. Mind indentation, quotes and tabs.") from error
    except RecursionError as error:
        raise ValueError(f"{file} is nested too deep: {EXAMPLE}.") from error
    except (yaml.YAMLError, ValueError) as error:  # the latter of dates that there are not, and of other encodings
        raise ValueError(f"{file} is not YAML in UTF-8: {' '.join(str(error).split())}.") from error
    return data, places, found


def _folds_as_seeds(document: yaml.Node) -> Iterator[Mistake]:
    """Has `folds: [0, 1]` of a model mean `seeds: {0: [0, 1]}`."""
    models = [value for key, value in _items(document) if key.value == "models"]
    for model in (item for value in models if isinstance(value, yaml.SequenceNode) for item in value.value):
        names = [key.value for key, _ in _items(model)]
        for position, (key, value) in enumerate(_items(model)):
            if key.value != FOLDS:
                continue
            if SEEDS in names:
                yield Mistake.at(key.start_mark, f"a model has {FOLDS} or {SEEDS}; leave one of them out")
                del model.value[position]
                break
            seed = yaml.ScalarNode("tag:yaml.org,2002:int", "0", key.start_mark, key.end_mark)
            seeds = yaml.MappingNode("tag:yaml.org,2002:map", [(seed, value)], value.start_mark, value.end_mark)
            key.value = SEEDS
            model.value[position] = (key, seeds)


def _items(node: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
    return node.value if isinstance(node, yaml.MappingNode) else []


def _repeated_keys(node: yaml.Node, loader: yaml.SafeLoader, seen: set[int]) -> Iterator[Mistake]:
    """YAML itself would silently take the last."""
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    first: dict[Any, yaml.Mark] = {}
    for key_node, _ in _items(node):
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == MERGE:
            continue
        key = loader.construct_object(key_node)
        if key in first:
            line = first[key].line + 1
            yield Mistake.at(key_node.start_mark, f"{key} is there already, in line {line}; leave one of them out")
        first.setdefault(key, key_node.start_mark)
    children = [value for _, value in _items(node)] if isinstance(node, yaml.MappingNode) else node.value
    for child in children if isinstance(children, list) else []:
        yield from _repeated_keys(child, loader, seen)


def _mistakes(errors: ValidationError, data: Any, places: Places) -> list[Mistake]:
    found = mistakes(errors, BenchmarkSpec, data)
    return [Mistake.at(places.of(one.place, one.of_key), f"{_name(one.path)}{one.text}") for one in found]


def _name(path: KeyPath) -> str:
    """Of a value: its key, or that of the list that it is in."""
    return next((str(key) for key in reversed(path) if isinstance(key, str)), "the file")
