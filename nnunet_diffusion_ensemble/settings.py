"""Frozen dataclasses as JSON: each setting says beside its default what is allowed, and is checked by its name."""

from collections.abc import Mapping
from dataclasses import Field, field, fields, is_dataclass
from typing import Any, TypeVar

Settings = TypeVar("Settings")


def positive(default: Any) -> Any:
    """A number above zero. With None as default, None is allowed, too."""
    return field(default=default, metadata={"is_positive": True})


def one_of(allowed: tuple[Any, ...], default: Any) -> Any:
    """One of the values allowed. With None as default, None is allowed, too."""
    return field(default=default, metadata={"allowed": allowed})


def check_values(settings: Any, where: str) -> None:
    """Checks each setting by itself, also in settings within settings.

    Args:
        settings: a dataclass.
        where: its name, for messages.

    Raises:
        ValueError: a value is not allowed; the message names the setting, what came and what is allowed.
    """
    for setting in fields(settings):
        name, value = f"{where}.{setting.name}", getattr(settings, setting.name)
        if is_dataclass(value):
            check_values(value, name)
        elif value is not None or setting.default is not None:
            _check_value(setting, value, name)


def _check_value(setting: Field, value: Any, name: str) -> None:
    if setting.metadata.get("is_positive"):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or value <= 0:
            raise ValueError(f"{name} must be positive, got {value}.")
    allowed = setting.metadata.get("allowed")
    if allowed is not None and value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}.")


def from_dict(cls: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Settings from JSON's values: lists become tuples, and objects the dataclasses of their fields.

    Raises:
        ValueError: unknown settings, or what the dataclass itself refuses.
    """
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"Unknown settings {unknown} in {where!r} of the plans. Allowed: {sorted(known)}.")
    return cls(**{name: _read(known[name], value, f"{where}.{name}") for name, value in values.items()})


def _read(setting: Field, value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        if setting.default_factory is dict:  # what stands in it is another library's
            return dict(value)
        return from_dict(setting.metadata.get("settings", setting.default_factory), value, where)
    return tuple(value) if isinstance(value, list) else value
