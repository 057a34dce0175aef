"""Mistakes in settings as sentences: the key, what came, what is allowed. Made here for all pydantic models."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from nnunet_diffusion_ensemble.system.allowed import allowed

KeyPath = tuple[Any, ...]
CONTRADICTION = "contradiction"  # pydantic's type of our own errors that say what must be instead


def must_be(wanted: str) -> PydanticCustomError:
    """For validators of one key: the error that says what its value must be, in words."""
    return PydanticCustomError(CONTRADICTION, "{wanted}", {"wanted": wanted})


def contradictions(found: Iterable[tuple[str, str, Any]]) -> None:
    """Raises what a validator of a whole model has to say about single keys, if there is anything.

    Args:
        found: for each the key by dotted path, what it must be, and what it is.
    """
    errors = [
        InitErrorDetails(type=must_be(wanted), loc=tuple(key.split(".")), input=value) for key, wanted, value in found
    ]
    if errors:
        raise ValidationError.from_exception_data(CONTRADICTION, errors)


@dataclass(frozen=True)
class SettingMistake:
    """A mistake in one setting.

    Attributes:
        path: keys to the setting; entries of lists by their number.
        place: keys to what is wrong in it.
        of_key: whether the key itself is wrong.
        text: what comes after the name of the setting.
    """

    path: KeyPath
    place: KeyPath
    of_key: bool
    text: str


@contextmanager
def telling_mistakes(model: type[BaseModel], values: Any, where: str) -> Iterator[None]:
    """Turns pydantic's error into a ValueError with our sentences, keys by dotted path.

    Args:
        model: that the values are checked against.
        values: all that came.
        where: what stands before the keys.
    """
    try:
        yield
    except ValidationError as error:
        found = [_sentence(mistake, where) for mistake in mistakes(error, model, values)]
        raise ValueError("\n  ".join(found if len(found) == 1 else ["These settings are wrong:", *found])) from None


def _sentence(mistake: SettingMistake, where: str) -> str:
    name = ".".join(map(str, [*([where] if where else []), *mistake.path])) or "These settings"
    return f"{name}{mistake.text}."


def mistakes(error: ValidationError, model: type[BaseModel], values: Any) -> list[SettingMistake]:
    """What pydantic found, one for each setting.

    Args:
        error: pydantic's.
        model: that the values were checked against.
        values: all that came.
    """
    found: dict[KeyPath, SettingMistake] = {}
    for one in error.errors(include_url=False):
        place = tuple(key for key in one["loc"] if key != "[key]")
        of_key = one["type"] == "extra_forbidden" or "[key]" in one["loc"]
        is_hidden = one["type"] == "too_short" and one["input"]  # all its items have errors of their own
        path, owner, field = _setting(model, place)
        if not is_hidden and path not in found:
            value = one["input"] if path == place else _value(values, path)
            found[path] = SettingMistake(path, place, of_key, _text(one, path, owner, field, value))
    return list(found.values())


def _setting(model: type[BaseModel], place: KeyPath) -> tuple[KeyPath, type[BaseModel], FieldInfo | None]:
    """The setting that a place lies in: its path, the model that has it, and the field, if there is such a key.

    Further keys of the place are those of its items, or pydantic's names of alternatives.
    """
    path: KeyPath = ()
    owner, inner, field = model, model, None
    for key in place:
        path = (*path, key)
        if isinstance(key, int):  # of a list of models
            continue
        owner, field = inner, inner.model_fields.get(key)
        found = None if field is None else model_in(field.annotation)
        if found is None:
            break
        inner = found
    return path, owner, field


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model among the alternatives or items of a type, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_in(part))), None)


def _value(values: Any, path: KeyPath) -> Any:
    for key in path:
        values = getattr(values, key) if isinstance(values, BaseModel) else values[key]
    return values


def _text(error: Any, path: KeyPath, owner: type[BaseModel], field: FieldInfo | None, value: Any) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        known = _keys(owner)
        return f" is unknown{nearest(path[-1], known)} Known are {', '.join(known)}"
    if kind == "missing" and len(error["loc"]) == len(path):  # not an item of a list
        return f" is missing; known are {', '.join(_keys(owner))}"
    if kind == "model_type":
        part = None if field is None else model_in(field.annotation)
        return f" must have {', '.join(_keys(part or owner))}; got {shown(value)}"
    if kind == "value_error":
        return f": {error['ctx']['error']}"
    if kind == CONTRADICTION or field is None:
        return f" must be {error['msg']}; got {shown(value)}"
    wanted = allowed(owner, next(key for key in reversed(path) if isinstance(key, str)))
    if kind == "finite_number":
        wanted = wanted.replace("a number", "a finite number")
    return f" must be {wanted}; got {shown(value)}"


def _keys(model: type[BaseModel]) -> list[str]:
    return [*model.model_fields, *getattr(model, "other_keys", ())]


def nearest(word: Any, known: Sequence[str]) -> str:
    """`; did you mean ...?`, or a full stop if none is like it."""
    found = get_close_matches(str(word).lower(), [name.lower() for name in known], n=1)
    return next((f"; did you mean {name}?" for name in known if found == [name.lower()]), ".")


def shown(value: Any) -> str:
    """A value that came, in JSON's and YAML's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {shown(item)}' for key, item in value.items())}}}"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(shown, value))}]"
    return repr(value)
