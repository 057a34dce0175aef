"""All keys of the method's settings, as their models describe them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nnunet_diffusion_ensemble.method.whole import DiffusionMethod
from nnunet_diffusion_ensemble.system.allowed import allowed
from nnunet_diffusion_ensemble.system.mistakes import model_in
from nnunet_diffusion_ensemble.system.settings import plain


@dataclass(frozen=True)
class Key:
    """One setting.

    Attributes:
        path: its dotted path below `diffusion` in the plans.
        description: what it means.
        allowed: what it may be, in words.
        default: as JSON; empty if it must be given.
        value_type: of its value or, of a list, of each item.
        is_list: whether it is a list.
    """

    path: str
    description: str
    allowed: str
    default: str
    value_type: type
    is_list: bool


def keys(model: type[BaseModel] = DiffusionMethod, parent: str = "") -> Iterator[Key]:
    """The settings of a model and of the models in it, in the order of the plans."""
    for name, field in model.model_fields.items():
        inner = model_in(field.annotation)
        if inner is None:
            kind, is_list = _type(field.annotation)
            words = allowed(model, name)
            yield Key(f"{parent}{name}", field.description or "", words, _default(field), kind, is_list)
        else:
            yield from keys(inner, f"{parent}{name}.")


def _default(field: FieldInfo) -> str:
    return "" if field.is_required() else json.dumps(plain(field.get_default(call_default_factory=True)))


def _type(annotation: Any) -> tuple[type, bool]:
    """Of a value that is not None, and whether it is a list of such."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation, False
    first = get_args(annotation)[0]
    if get_origin(annotation) is tuple:
        return _type(first)[0], True
    return _type(first) if not isinstance(first, str) else (str, False)
