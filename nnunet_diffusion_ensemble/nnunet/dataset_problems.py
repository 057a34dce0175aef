"""What is wrong with a dataset.json: all of it, where nnU-Net stops at the first or misunderstands."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES, recursive_find_reader_writer_by_name

from nnunet_diffusion_ensemble.system.messages import raise_listing

READER = "overwrite_image_reader_writer"
READABLE = tuple(dict.fromkeys(ending for reader in LIST_OF_IO_CLASSES for ending in reader.supported_file_endings))


def json_problems(dataset_json: Mapping[str, Any], needs_labels: bool = True) -> list[str]:
    """What nnU-Net would stumble over, or silently misunderstand.

    Args:
        dataset_json: content of a file that has channel names and `file_ending`.
        needs_labels: otherwise labels and their number are not looked at.
    """
    found = [*_ending_problems(dataset_json), *_channel_problems(dataset_json), *_case_problems(dataset_json)]
    return found + ([*_label_problems(dataset_json), *_number_problems(dataset_json)] if needs_labels else [])


def refuse_json_problems(raw_dataset_folder: Path, dataset_json: Mapping[str, Any], needs_labels: bool = True) -> None:
    """Raises ValueError that lists the `json_problems`, if there are any."""
    raise_listing(f"Correct these in {raw_dataset_folder / 'dataset.json'}:", json_problems(dataset_json, needs_labels))


def _ending_problems(dataset_json: Mapping[str, Any]) -> Iterator[str]:
    ending, named = dataset_json["file_ending"], dataset_json.get(READER, "None")
    if not isinstance(ending, str) or not ending.startswith("."):
        yield f"file_ending begins with a dot, e.g. .png; got {ending!r}"
    elif named == "None" and ending.lower() not in READABLE:
        yield (
            f"file_ending {ending} is none that nnU-Net reads; there are {', '.join(READABLE)}. nnunet-diffusion "
            "convert makes PNG of JPEG, and NIfTI of DICOM"
        )
    if named != "None":
        try:
            recursive_find_reader_writer_by_name(str(named))
        except RuntimeError:
            names = ", ".join(reader.__name__ for reader in LIST_OF_IO_CLASSES)
            yield f"{READER} {named!r} is no reader of nnU-Net; there are {names}"


def _channel_problems(dataset_json: Mapping[str, Any]) -> Iterator[str]:
    key = "channel_names" if "channel_names" in dataset_json else "modality"
    channels = dataset_json[key]
    example = 'from the number of a channel to its name, e.g. {"0": "CT", "1": "PET"}'
    if not isinstance(channels, dict):
        yield f"{key} goes {example}; got {channels!r}"
    elif list(channels) != [str(number) for number in range(len(channels))]:
        yield f"{key} goes {example}, numbered from 0; got the keys {', '.join(map(str, channels))}"
    elif not all(isinstance(name, str) for name in channels.values()):
        yield f"{key} goes {example}; got {channels!r}"


def _label_problems(dataset_json: Mapping[str, Any]) -> Iterator[str]:
    labels = dataset_json.get("labels")
    example = 'from name to value, e.g. {"background": 0, "lung": 1}'
    if not isinstance(labels, dict) or not labels:
        yield f"labels goes {example}; got {labels!r}"
        return
    wrong = {name: value for name, value in labels.items() if not _is_label(value)}
    if wrong:
        listed = ", ".join(f"{name}: {value!r}" for name, value in wrong.items())
        yield f"labels goes {example}, with whole numbers from 0 (regions: lists of them); got {listed}"
        return
    if labels.get("background") != 0:
        yield f"labels needs a background of 0; got {labels.get('background', 'none')}"
    yield from _value_problems(labels)
    yield from _region_problems(labels, dataset_json.get("regions_class_order"))


def _is_label(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_label(part) and not isinstance(part, list) for part in value)
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _parts(value: int | list[int]) -> list[int]:
    return value if isinstance(value, list) else [value]


def _value_problems(labels: Mapping[str, Any]) -> Iterator[str]:
    values = sorted({part for name, value in labels.items() if name != "ignore" for part in _parts(value)})
    ignore = labels.get("ignore")
    if isinstance(ignore, list):
        yield f"the ignore label is one number; got {ignore}"
    elif ignore is not None and ignore <= max(values):
        yield f"the ignore label is the highest value; got {ignore}, and labels up to {max(values)}"
    elif ignore is not None:
        values.append(ignore)
    if values != list(range(len(values))):
        missing = min(set(range(max(values) + 1)) - set(values))
        yield f"label values have no gaps (0, 1, 2, ...); got {', '.join(map(str, values))}, where {missing} is missing"
    is_single = all(not isinstance(value, list) or len(value) == 1 for value in labels.values())
    plain = [tuple(_parts(value)) for value in labels.values()]
    if is_single and len(set(plain)) < len(plain):
        yield f"two labels have one value: {', '.join(f'{name} = {value}' for name, value in labels.items())}"


def _region_problems(labels: Mapping[str, Any], order: Any) -> Iterator[str]:
    if not any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        return
    regions = [name for name, value in labels.items() if name != "ignore" and set(_parts(value)) != {0}]
    if not isinstance(order, list) or len(order) != len(regions):
        yield (
            f"regions_class_order lists a value for each of the {len(regions)} regions ({', '.join(regions)}); "
            f"got {order!r}"
        )


def _case_problems(dataset_json: Mapping[str, Any]) -> Iterator[str]:
    """Of the entry that may list the files of cases."""
    cases = dataset_json.get("dataset", {})
    example = 'from case to files, {"CASE": {"images": ["imagesTr/CASE_0000.png"], "label": "labelsTr/CASE.png"}}'
    if not isinstance(cases, dict):
        yield f"dataset goes {example}; got {type(cases).__name__}"
        return
    for case, files in cases.items():
        images, label = (files.get("images"), files.get("label")) if isinstance(files, dict) else (None, None)
        if not isinstance(images, list) or not images or not all(isinstance(name, str) for name in (*images, label)):
            yield f"dataset goes {example}; got {case}: {files!r}"


def _number_problems(dataset_json: Mapping[str, Any]) -> Iterator[str]:
    number = dataset_json.get("numTraining")
    if not isinstance(number, int) or isinstance(number, bool):
        yield f"numTraining is the number of labelled cases; got {number!r}"
