"""nnU-Net's three folders and the data sets in them: what is asked for and not there is told with what is."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

VARIABLES = RAW, PREPROCESSED, RESULTS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
NAME = re.compile(r"Dataset(\d{3})_.+")
ALMOST = re.compile(r"(?i)(?:Dataset|Task)[ _-]?0*(\d+)(?!\d)[ _-]*(.*)")
FIRST_VERSION = "Task"  # how names of nnU-Net 1 begin


def folder_of(variable: str) -> Path:
    """The folder that one of nnU-Net's variables names.

    Raises:
        FileNotFoundError: it is not set. The message says how, and which variable may be a misspelt one.
    """
    _refuse_unset([variable])
    return Path(os.environ[variable])


def _refuse_unset(variables: Sequence[str]) -> None:
    sentences = [_how_to_set(variable) for variable in variables if not os.environ.get(variable)]
    if sentences:
        raise FileNotFoundError("\n".join(sentences))


def _how_to_set(variable: str) -> str:
    like = get_close_matches(variable, [name for name in os.environ if name not in VARIABLES], n=1, cutoff=0.8)
    meant = f" ({like[0]} is set: is it misspelt?)" if like else ""
    return (
        f"The variable {variable} is not set{meant}: export {variable}=/path/to/{variable}, in every new terminal or "
        "once in ~/.bashrc."
    )


def find_dataset(number_or_name: int | str, *needed: str) -> str:
    """The name of a data set, whichever of nnU-Net's folders it lies in.

    Args:
        number_or_name: `1` or `Dataset001_Lungs`.
        needed: variables that the caller cannot do without.

    Raises:
        FileNotFoundError: one of those is not set, or there is no such data set; the message says what is there.
        ValueError: it is neither a number nor a name, or several data sets have the number.
    """
    _refuse_unset(needed)
    there = _folders_in(VARIABLES)
    names = sorted(name for name in there if NAME.fullmatch(name))
    text = str(number_or_name)
    if text.isdigit():
        found = [name for name in names if int(name[7:10]) == int(text)]
    elif text.startswith("Dataset"):
        found = [name for name in names if name == text]
    else:
        raise ValueError(f"A data set is named by its number or as DatasetXXX_NAME, got {text}; {_listed(names)}.")
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} data sets have the number {text}: {', '.join(there[name] for name in found)}. Give one of "
            "them another number, in all of nnU-Net's folders."
        )
    if not found:
        raise FileNotFoundError(f"There is no data set {text}; {_listed(names)}.{_almost(text, there)}{_looked_in()}")
    return found[0]


def _folders_in(variables: Iterable[str]) -> dict[str, str]:
    """Name and path of each folder in the first of nnU-Net's that has it."""
    roots = [Path(value) for variable in variables if (value := os.environ.get(variable))]
    return {path.name: str(path) for root in roots[::-1] if root.is_dir() for path in root.iterdir() if path.is_dir()}


def _listed(names: list[str]) -> str:
    return f"there is {', '.join(names)}" if names else "there is none at all"


def _almost(text: str, there: Mapping[str, str]) -> str:
    """What to do about folders with this number that nnU-Net does not take for a data set."""
    number = re.search(r"\d+", text)
    for name, path in sorted(there.items()):
        match = ALMOST.fullmatch(name)
        if number and match and int(match[1]) == int(number[0]) and not NAME.fullmatch(name):
            if name.startswith(FIRST_VERSION):
                return f" {path} is of nnU-Net 1: bring it over with nnUNetv2_convert_old_nnUNet_dataset."
            return f" Rename {path} to Dataset{int(match[1]):03d}_{match[2] or 'NAME'}: three digits and a name."
    return ""


def _looked_in() -> str:
    places = [f"{variable}={os.environ.get(variable) or '(not set)'}" for variable in VARIABLES]
    return f" Looked in {', '.join(places)}."
