"""What the segments of a DICOM SEG are, in codes: a table of the user, or the code for tissue, which claims nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.system.messages import raise_listing

EXAMPLE = '{"lung": {"type": ["39607008", "SCT", "Lung structure"]}}'
KEYS = ("category", "type")


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
    wrong = [key for key, code in entry.items() if not _is_code(code)]
    return f"{', '.join(wrong)} must be a list of three texts: value, scheme, meaning" if wrong else ""


def _is_code(code: Any) -> bool:
    return isinstance(code, list) and len(code) == 3 and all(isinstance(part, str) and part for part in code)


def _codes(entry: Mapping[str, Any] | None) -> SegmentCodes:
    if entry is None:
        return SegmentCodes()
    category = SegmentCode(*entry["category"]) if "category" in entry else ANATOMY
    return SegmentCodes(category, SegmentCode(*entry["type"]))
