"""Who is blamed for an error: the file that was read, unless no file can cause it."""

from collections.abc import Callable
from typing import Any

import pytest

from nnunet_diffusion_ensemble.system import places
from nnunet_diffusion_ensemble.system.messages import blaming, in_one_line, raise_listing


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


def nested(value: Any) -> Any:
    return nested([value])


@pytest.mark.parametrize(
    ("interpret", "message"),
    [
        (lambda: {}["plans"], r"plans\.json lacks 'plans'\. Plan again\."),
        (lambda: [][3], r"plans\.json is damaged, or lacks .*: IndexError: list index out of range\. Plan again"),
        (lambda: len(3), r"plans\.json is damaged, or lacks .*: TypeError: object of type 'int' has no len"),  # type: ignore[arg-type]
        (lambda: None.lower(), r"plans\.json is damaged.*AttributeError: 'NoneType' object has no attribute 'lower'"),  # type: ignore[attr-defined]
        (lambda: int("x"), r"plans\.json: invalid literal .* 'x' Plan again\."),
        (lambda: 1 / 0, r"plans\.json is damaged.*ZeroDivisionError"),
        (lambda: nested(0), r"plans\.json is damaged.*maximum recursion depth"),
        (lambda: b"\xff".decode(), r"plans\.json is damaged.*'utf-8' codec"),
        (lambda: dict(**{"a": 1}, **{"a": 2}), r"plans\.json is damaged.*multiple values"),
    ],
)
def test_what_a_file_can_cause_is_told_with_its_name(interpret: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message), blaming("plans.json", "Plan again."):
        interpret()


@pytest.mark.parametrize(
    ("slip", "error"),
    [
        (lambda: unknown_name, NameError),  # type: ignore[name-defined] # noqa: F821
        (lambda: places.refuse_fiel("x"), AttributeError),  # type: ignore[attr-defined]
        (lambda: raising(MemoryError("1 TB")), MemoryError),
        (lambda: raising(OutOfMemoryError("CUDA out of memory")), OutOfMemoryError),
        (lambda: raising(PermissionError(13, "denied", "other.json")), PermissionError),
        (lambda: raising(NotImplementedError("a cascade")), NotImplementedError),
        (lambda: raising(ValueError("plans.json is odd")), ValueError),
    ],
)
def test_what_no_file_can_cause_stays_what_it_is(slip: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error) as caught, blaming("plans.json"):
        slip()
    assert type(caught.value) is error


def raising(error: Exception) -> None:
    raise error


def test_a_call_of_ours_that_does_not_fit_is_not_the_files_fault() -> None:
    code = "def interpret():\n    raise_listing('headline')\n"
    exec(code, module := {"__name__": "nnunet_diffusion_ensemble.somewhere", "raise_listing": raise_listing})
    with pytest.raises(TypeError, match="missing 1 required positional argument"), blaming("plans.json"):
        module["interpret"]()


def test_the_same_call_in_a_library_that_reads_the_file_is() -> None:
    code = "def interpret():\n    raise_listing('headline')\n"
    exec(code, module := {"__name__": "nnunetv2.somewhere", "raise_listing": raise_listing})
    with pytest.raises(ValueError, match=r"plans\.json is damaged.*missing 1 required"), blaming("plans.json"):
        module["interpret"]()


def test_an_error_in_one_line_has_its_kind_if_it_was_not_written_for_users() -> None:
    assert in_one_line(ValueError("two\n  lines")) == "two lines"
    assert in_one_line(KeyError("a")) == "KeyError: 'a'"
    assert in_one_line(ValueError()) == "ValueError: "
