"""What the segments of a DICOM SEG are, in codes: a table of the user, or the code for tissue, which claims nothing."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.system.messages import raise_listing

EXAMPLE = '{"lung": {"type": ["39607008", "SCT", "Lung structure"]}}'
KEYS = ("category", "type")
LONGEST_SCHEME, LONGEST_MEANING = 16, 64  # characters, by DICOM's value representations SH and LO
SNOMED = "SCT"


@dataclass(frozen=True)
class SegmentCode:
    """Value, scheme and meaning, such as 39607008, SCT, Lung structure."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class SegmentCodes:
    """Category and type of a segment, in DICOM's words (CID 7150 and 7151)."""

    category: SegmentCode = SegmentCode("85756007", "SCT", "Tissue")
    type: SegmentCode = SegmentCode("85756007", "SCT", "Tissue")


ANATOMY = SegmentCode("91723000", "SCT", "Anatomical structure")  # the category if a type alone is given


def read_segment_codes(file: Path | None, labels: Iterable[str]) -> dict[str, SegmentCodes]:
    """The codes of each label; those that the file does not name are tissue.

    Args:
        file: JSON, an object with an object for each label: `type` and, if it is no anatomical structure, `category`,
            each a list of value, scheme and meaning.
        labels: names that there are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else; all mistakes are listed.
    """
    names = list(labels)
    table = {} if file is None else read_object(file, f"An example: {EXAMPLE}")
    mistakes = [f"{name}: {text}" for name, entry in table.items() if (text := _mistake(name, entry, names))]
    raise_listing(f"{file} does not say what segments are; an example: {EXAMPLE}", mistakes)
    return {name: _codes(table.get(name)) for name in names}


def _mistake(name: str, entry: Any, names: list[str]) -> str:
    if name not in names:
        return f"the model has no such label; it has {', '.join(names)}"
    if not isinstance(entry, dict) or "type" not in entry or not entry.keys() <= set(KEYS):
        return f"needs type, may have category, and nothing else; got {entry}"
    return "; ".join(f"{key} {text}" for key, code in entry.items() if (text := _mistake_of_code(code)))


def _mistake_of_code(code: Any) -> str:
    if not (isinstance(code, list) and len(code) == 3 and all(isinstance(part, str) and part.strip() for part in code)):
        return "must be a list of three texts: value, scheme, meaning"
    value, scheme, meaning = code
    if len(scheme) > LONGEST_SCHEME or len(meaning) > LONGEST_MEANING:
        return f"may have a scheme of {LONGEST_SCHEME} and a meaning of {LONGEST_MEANING} characters at most"
    if scheme == SNOMED and not is_snomed_code(value):
        return f"has the value {value}, which is no code of SNOMED CT (its last digit is a check): look it up again"
    return ""


def is_snomed_code(value: str) -> bool:
    """Whether a text is an identifier of SNOMED CT: 6 to 18 digits, the last a check by Verhoeff (1969), which finds
    every wrong digit and every two that are exchanged. It may still be that of another concept."""
    from stdnum import verhoeff  # comes with the extra

    return re.fullmatch("[1-9][0-9]{5,17}", value) is not None and verhoeff.is_valid(value)


def _codes(entry: Mapping[str, Any] | None) -> SegmentCodes:
    if entry is None:
        return SegmentCodes()
    category = SegmentCode(*entry["category"]) if "category" in entry else ANATOMY
    return SegmentCodes(category, SegmentCode(*entry["type"]))
