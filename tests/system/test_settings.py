"""Settings of any kind: what is taken, and every mistake in a sentence."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from nnunet_diffusion_ensemble.system.allowed import WORDS, allowed
from nnunet_diffusion_ensemble.system.mistakes import nearest, shown
from nnunet_diffusion_ensemble.system.settings import (
    Count,
    Folds,
    Listed,
    Once,
    Positive,
    Settings,
    Share,
    Text,
    plain,
)


class Part(Settings):
    other_keys = ("alias",)

    size: Count
    share: Share = 0.5


class Whole(Settings):
    where = "whole"

    part: Part
    parts: Listed[Part] = ()
    three: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)] | None = None
    folds: Folds = (0,)
    names: Annotated[Listed[Text], Once] = ()
    word: Literal["a", "b", "c"] = "a"
    only: Literal["a"] = "a"
    level: int = Field(0, ge=-1, le=4)
    path: Path | None = None
    odd: int = Field(1, json_schema_extra={WORDS: "an odd number"})
    short: str = Field("", max_length=3)


def read(**values: Any) -> Whole:
    return Whole.read({"part": {"size": 1}} | values)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("part", "an object with size, share"),
        ("parts", "a list, each an object with size, share"),
        ("three", "a list of 3, each a number above 0, or null"),
        ("folds", "a list of one or more, each a whole number of at least 0 or all"),
        ("names", "a list, each text that is not empty"),
        ("word", "a, b or c"),
        ("only", "a"),
        ("level", "a whole number from -1 to 4"),
        ("path", "a path, or null"),
        ("odd", "an odd number"),
        ("short", "text of at most 3 characters"),
    ],
)
def test_what_is_allowed_is_said_in_words(key: str, words: str) -> None:
    assert allowed(Whole, key) == words


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"part": {}}, "whole.part.size is missing; known are size, share, alias."),
        ({"part": 3}, "whole.part must have size, share, alias; got 3."),
        (
            {"part": {"size": 1, "sise": 2}},
            "whole.part.sise is unknown; did you mean size? Known are size, share, alias.",
        ),
        ({"parts": 3}, "whole.parts must be a list, each an object with size, share; got 3."),
        ({"parts": [{"size": 1}, {"size": 0}]}, "whole.parts.1.size must be a whole number of at least 1; got 0."),
        ({"parts": [3]}, "whole.parts.0 must have size, share, alias; got 3."),
        ({"three": [1, 2]}, "whole.three must be a list of 3, each a number above 0, or null; got [1, 2]."),
        (
            {"folds": [-1]},
            "whole.folds must be a list of one or more, each a whole number of at least 0 or all; got [-1].",
        ),
        ({"names": ["x", "y", "x"]}, "whole.names: x twice; name each once."),
        ({"level": 5}, "whole.level must be a whole number from -1 to 4; got 5."),
    ],
)
def test_a_mistake_is_one_sentence_with_the_key_by_dotted_path(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        read(**values)


def test_several_wrong_items_of_a_list_are_one_mistake() -> None:
    with pytest.raises(ValueError, match=r"^whole\.names must be .*; got \[1, 2\]\.$"):
        read(names=[1, 2])


def test_lists_become_tuples_and_go_back_as_lists() -> None:
    settings = read(names=["x"], folds=[0, "all"], parts=[{"size": 2}], path=None)
    assert (settings.names, settings.folds, settings.parts) == (("x",), (0, "all"), (Part(size=2),))
    assert settings.to_json()["folds"] == [0, "all"]
    assert Whole.read(settings.to_json()) == settings


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_nothing_is_taken_for_a_whole_number_that_is_none(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^size must be a whole number of at least 1; got"):
        Part(size=value)


def test_a_changed_copy_is_checked_and_the_original_stays() -> None:
    part = Part(size=1)
    assert part.changed(size=2) == Part(size=2) and part.size == 1
    with pytest.raises(ValueError, match="share must be a number above 0 and at most 1; got 2"):
        part.changed(share=2)


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "null"), (True, "true"), ("a", "'a'"), ((1, [None]), "[1, [null]]"), ({"a": (1,)}, "{a: [1]}")],
)
def test_values_are_shown_in_the_words_of_json(value: Any, words: str) -> None:
    assert shown(value) == words


def test_plain_values_have_no_tuples_and_no_paths() -> None:
    assert plain({"a": (1, [Path("b")])}) == {"a": [1, ["b"]]}


@pytest.mark.parametrize(("word", "found"), [("schedul", "; did you mean Schedule?"), ("x", ".")])
def test_the_nearest_word_is_named_if_there_is_one(word: str, found: str) -> None:
    assert nearest(word, ["Schedule", "timesteps"]) == found
