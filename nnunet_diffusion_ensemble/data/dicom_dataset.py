"""Folders of DICOM become an nnU-Net raw data set (`nnunet-diffusion convert --dicom`), without the patients' names."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

from nnunet_diffusion_ensemble.data.convert import all_or_nothing, check_output
from nnunet_diffusion_ensemble.data.dicom_masks import MaskedCase, pair_with_masks, read_case_mask
from nnunet_diffusion_ensemble.data.survey import name_mask_values
from nnunet_diffusion_ensemble.dicom.cases import DicomCase, find_dicom_cases
from nnunet_diffusion_ensemble.dicom.pixels import DicomImage, read_dicom_case
from nnunet_diffusion_ensemble.dicom.write import write_dicom_image
from nnunet_diffusion_ensemble.system.atomic import bring_back_folder, whole_file
from nnunet_diffusion_ensemble.system.full_disk import naming_full_disk
from nnunet_diffusion_ensemble.system.guard import alone_at
from nnunet_diffusion_ensemble.system.messages import raise_listing

ENDING = ".nii.gz"  # holds the spacing, which PNG does not
IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
CT = "CT"  # the name by which nnU-Net chooses its normalisation of Hounsfield units


@dataclass(frozen=True)
class DicomConversion:
    """What was written; `str` says it in a few lines. Nothing in it tells who the patients are.

    Attributes:
        output: the data set.
        num_cases: by folder, such as imagesTr.
        channel_name: in dataset.json.
        labels: by name.
        notes: what is to be known, with the number of cases.
        left_out: files that are no images, by what they are.
    """

    output: Path
    num_cases: dict[str, int]
    channel_name: str
    labels: dict[str, int]
    notes: dict[str, int]
    left_out: dict[str, int]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} in {folder}" for folder, count in self.num_cases.items())
        lines = [f"Wrote {self.output}: {counts}; channel: {self.channel_name}."]
        lines += [f"Note: {count} image(s): {note}." for note, count in self.notes.items()]
        return "\n".join(lines + [f"Left out: {count} file(s): {what}." for what, count in self.left_out.items()])


def convert_dicom(
    images: Path | None,
    masks: Path | None,
    unlabelled: Sequence[Path],
    output: Path,
    *,
    labels: Mapping[str, int] | None = None,
    channel_name: str | None = None,
    test_images: Path | None = None,
    mapping: Path | None = None,
    overwrite: bool = False,
) -> DicomConversion:
    """Writes X-rays, or series of slices, as the raw data set `output`, in NIfTI with their spacing.

    Folders are searched with all folders in them; each X-ray, and each series of slices, becomes a case
    (`dicom.cases` says how it is named). An error or a kill leaves `output` as it was.

    Args:
        images: of the labelled cases.
        masks: PNG or NIfTI, named by the case, or by the X-ray's file or the folder of the series.
        unlabelled: folders of images without masks.
        output: data set folder, see `dataset_folder`.
        labels: name to mask value, as in `convert`.
        channel_name: in dataset.json. None: `grey` for X-rays, otherwise the modality; `CT` normalises as nnU-Net does.
        test_images: of imagesTs.
        mapping: table (CSV) to write that says whose each case is. None: nothing does.
        overwrite: replace an `output` that holds files.

    Raises:
        ValueError: images or masks do not fit; the message names the files.
        FileNotFoundError: a folder is missing.
        FileExistsError: `output` holds files and `overwrite` is False.
        RuntimeError: pydicom is not installed.
    """
    if (images is None) != (masks is None) or (images is None and not unlabelled):
        raise ValueError("Give images together with masks, or unlabelled folders, or all of them.")
    sources = [folder for folder in (images, masks, test_images, *unlabelled) if folder]
    check_output(output, sources, overwrite)
    cases, left_out = _find(images, masks, unlabelled, test_images)
    channel_name = channel_name or _channel_name([one.case for one in cases])
    values = {value: file for one in cases if one.mask for value, file in _values(one.mask)}
    mask_values = name_mask_values(values, labels) if images else {"background": 0}
    named = {name: label for label, name in enumerate(mask_values)}
    output.parent.mkdir(parents=True, exist_ok=True)
    with alone_at(output), naming_full_disk(output):
        bring_back_folder(output)
        check_output(output, sources, overwrite)
        with all_or_nothing(output) as root:
            notes = Counter(note for one in cases for note in _write_case(one, root, mask_values))
            num_cases = dict(Counter(one.folder for one in cases))
            report = DicomConversion(output, num_cases, channel_name, named, dict(notes), dict(left_out))
            _write_json(root, report)
        if mapping is not None:
            _write_mapping(mapping, cases)
    return report


def _find(
    images: Path | None, masks: Path | None, unlabelled: Sequence[Path], test_images: Path | None
) -> tuple[list[MaskedCase], Counter[str]]:
    places = [(folder, name) for folder, name in ((images, "imagesTr"), (test_images, "imagesTs")) if folder]
    places += [(folder, "imagesUn") for folder in unlabelled]
    cases: list[MaskedCase] = []
    problems: list[str] = []
    left_out: Counter[str] = Counter()
    for place, folder in places:
        found = find_dicom_cases(place)
        problems += [str(problem) for problem in found.problems.values()]
        left_out.update(found.others.values())
        if folder == "imagesTr" and masks is not None:
            cases += pair_with_masks(found.cases, masks, ENDING)
        else:
            cases += [MaskedCase(case, folder, None) for case in found.cases]
    first = {one.case.name: one for one in reversed(cases)}
    problems += [
        f"{one.case.files[0]} and {first[one.case.name].case.files[0]} are the same image: take one out"
        for one in cases
        if first[one.case.name] is not one
    ]
    flat = [one.case.files[0] for one in cases if one.case.is_projection]
    deep = [one.case.files[0] for one in cases if not one.case.is_projection]
    if flat and deep:
        problems.append(f"{flat[0]} is an X-ray, {deep[0]} a slice of a volume: a data set holds one of these kinds")
    raise_listing("Correct these, or take the files out:", problems)
    return cases, left_out


def _channel_name(cases: Sequence[DicomCase]) -> str:
    """Raises ValueError where CT is mixed with other modalities, whose values mean something else."""
    if cases[0].is_projection:
        return "grey"
    example = {case.modality: case.files[0] for case in cases}
    if CT in example and len(example) > 1:
        there = ", ".join(f"{modality} ({file})" for modality, file in example.items())
        raise ValueError(f"Modalities are mixed: {there}. Make a data set of each, or give channel_name.")
    return "+".join(sorted(example))


def _values(mask: Path) -> Iterator[tuple[int, Path]]:
    for value in np.unique(read_case_mask(mask)):
        yield int(value), mask


def _write_case(one: MaskedCase, root: Path, mask_values: Mapping[str, int]) -> tuple[str, ...]:
    """Returns what is to be noted of the image."""
    image = read_dicom_case(one.case)
    for folder in (one.folder, *(["labelsTr"] if one.mask else [])):
        (root / folder).mkdir(exist_ok=True)
    write_dicom_image(image, root / one.folder / f"{one.case.name}_0000{ENDING}", ENDING)
    if one.mask is not None:
        labels = _labels(one.mask, image, mask_values)
        file = root / "labelsTr" / f"{one.case.name}{ENDING}"
        write_dicom_image(replace(image, voxels=labels), file, ENDING)
    return image.notes


def _labels(mask: Path, image: DicomImage, mask_values: Mapping[str, int]) -> np.ndarray:
    values = read_case_mask(mask, image)
    labels = np.zeros(values.shape, np.uint8 if len(mask_values) <= 256 else np.uint16)
    for label, value in enumerate(mask_values.values()):
        labels[values == value] = label
    return labels


def _write_json(root: Path, report: DicomConversion) -> None:
    generate_dataset_json(
        str(root),
        channel_names={"0": report.channel_name},
        labels=dict(report.labels),
        num_training_cases=report.num_cases.get("imagesTr", 0),
        file_ending=ENDING,
        dataset_name=report.output.name,
        overwrite_image_reader_writer="SimpleITKIO",
        license="not stated",
        converted_by="nnunet-diffusion convert",
    )
    (root / "conversion.json").write_text(json.dumps(asdict(report), indent=2, default=str) + "\n")


def _write_mapping(file: Path, cases: Sequence[MaskedCase]) -> None:
    with whole_file(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("case", "folder", *IDENTITY, "file"))
        for one in cases:
            header = one.case.headers[0]
            identity = [str(header.get(name, "")) for name in IDENTITY]
            writer.writerow((one.case.name, one.folder, *identity, one.case.files[0]))
