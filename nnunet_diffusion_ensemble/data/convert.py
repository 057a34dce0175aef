"""Folders of 2D images become an nnU-Net raw data set (`nnunet-diffusion convert`); checks come before writing."""

import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets
from PIL import Image

from nnunet_diffusion_ensemble.data.pixels import (
    GREY_AS_RGB,
    SizePx,
    by,
    read_mask,
    read_pixels,
    resize_image,
    resize_mask,
)
from nnunet_diffusion_ensemble.data.survey import (
    SourceCase,
    Survey,
    find_source_cases,
    in_threads,
    is_image,
    name_mask_values,
    some,
    survey_cases,
)
from nnunet_diffusion_ensemble.nnunet.datasets import RAW, folder_of
from nnunet_diffusion_ensemble.system.atomic import bring_back_folder, replace_folder
from nnunet_diffusion_ensemble.system.full_disk import naming_full_disk
from nnunet_diffusion_ensemble.system.guard import alone_at


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion read, decided and wrote; `str(report)` says it in a few lines.

    Sizes are (height, width), those of the smallest and the largest image by area before resizing. `mask_values` gives
    the value the masks had for each label, `label_fractions` its share of all mask pixels before resizing.
    """

    output: Path
    n_labelled: int
    n_unlabelled: int
    n_test: int
    channel_names: dict[str, str]
    smallest_px: SizePx
    largest_px: SizePx
    resized_px: SizePx | None
    labels: dict[str, int]
    mask_values: dict[str, int]
    label_fractions: dict[str, float]
    changes: tuple[str, ...]

    def __str__(self) -> str:
        written = f"{self.n_labelled} labelled, {self.n_unlabelled} unlabelled, {self.n_test} test images"
        resized = f"resized to {by(self.resized_px)}" if self.resized_px else "kept"
        lines = [
            f"Wrote {self.output}: {written}; channels: {', '.join(self.channel_names.values())}.",
            f"Sizes (height x width): {by(self.smallest_px)} to {by(self.largest_px)}, {resized}.",
        ]
        if self.n_labelled:
            for name, label in self.labels.items():
                share = f"{self.label_fractions[name]:.2%} of the pixels"
                lines.append(f"Label {label}: {name}, mask value {self.mask_values[name]}, {share}.")
        return "\n".join(lines + [f"Note: {change}." for change in self.changes])


def _changes(cases: Sequence[SourceCase], survey: Survey, mask_values: Mapping[str, int]) -> Iterator[str]:
    for note, count in sorted(survey.notes.items()):
        yield f"{count} of {len(cases)} images: {note}"
    if survey.is_grey and GREY_AS_RGB in survey.kinds:
        yield "RGB images with three equal channels were stored as grey"
    if len(survey.depths) > 1:
        yield f"8-bit and 16-bit images are mixed, e.g. {survey.depths[8]} and {survey.depths[16]}"
    for label, (name, value) in enumerate(mask_values.items() if survey.values else ()):
        if value not in survey.values:
            yield f"no mask holds the value {value} of {name}"
        elif value != label:
            yield f"mask value {value} became label {label} ({name})"
    for folder in sorted({path.parent for case in cases for path in (case.image, case.mask) if path}):
        others = [path.name for path in sorted(folder.iterdir()) if not is_image(path)]
        if others:
            yield f"left out of {folder}: {some(others)}"


def _report(
    output: Path,
    cases: Sequence[SourceCase],
    survey: Survey,
    mask_values: dict[str, int],
    channel_name: str | None,
    resize: SizePx | None,
) -> ConversionReport:
    by_area = sorted(survey.sizes_px, key=lambda size_px: (math.prod(size_px), size_px))
    folders = Counter(case.folder for case in cases)
    total = max(1, survey.value_counts.total())
    channels = ("grey",) if survey.is_grey else ("R", "G", "B")
    return ConversionReport(
        output=output,
        n_labelled=folders["imagesTr"],
        n_unlabelled=folders["imagesUn"],
        n_test=folders["imagesTs"],
        channel_names={str(index): channel_name or channel for index, channel in enumerate(channels)},
        smallest_px=by_area[0],
        largest_px=by_area[-1],
        resized_px=resize,
        labels={name: label for label, name in enumerate(mask_values)},
        mask_values=mask_values,
        label_fractions={name: survey.value_counts[value] / total for name, value in mask_values.items()},
        changes=tuple(_changes(cases, survey, mask_values)),
    )


def _lookup(mask_values: Mapping[str, int]) -> np.ndarray:
    table = np.zeros(max(mask_values.values()) + 1, np.uint8 if len(mask_values) <= 256 else np.uint16)
    table[list(mask_values.values())] = range(len(mask_values))
    return table


def _write_case(case: SourceCase, root: Path, to_grey: bool, lookup: np.ndarray, resize: SizePx | None) -> None:
    pixels, notes = read_pixels(case.image)
    reduce = to_grey and pixels.ndim == 3
    target = root / case.folder / f"{case.name}_0000.png"
    if case.image.suffix.lower() == ".png" and not (notes or reduce or resize):
        shutil.copyfile(case.image, target)
    else:
        pixels = pixels[..., 0] if reduce else pixels
        Image.fromarray(resize_image(pixels, resize) if resize else pixels).save(target)
    if case.mask is not None:
        mask = lookup[read_mask(case.mask)]
        Image.fromarray(resize_mask(mask, resize) if resize else mask).save(root / "labelsTr" / f"{case.name}.png")


def _write_json(root: Path, report: ConversionReport) -> None:
    generate_dataset_json(
        str(root),
        channel_names=dict(report.channel_names),
        labels=dict(report.labels),
        num_training_cases=report.n_labelled,
        file_ending=".png",
        dataset_name=report.output.name,
        overwrite_image_reader_writer="NaturalImage2DIO",
        license="not stated",
        converted_by="nnunet-diffusion convert",
    )
    (root / "conversion.json").write_text(json.dumps(asdict(report), indent=2, default=str) + "\n")


@contextmanager
def all_or_nothing(output: Path) -> Iterator[Path]:
    """A hidden sibling of `output` to write into: it takes that place at the end, and is removed on any error."""
    part = output.with_name(f".{output.name}.partial")
    shutil.rmtree(part, ignore_errors=True)  # left by a run that was killed
    part.mkdir(parents=True)
    try:
        yield part
        replace_folder(part, output)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_dataset_name(name: str) -> None:
    if not re.fullmatch(r"Dataset\d{3}_[\w.+-]+", name):
        raise ValueError(f"{name!r} is not a data set name nnU-Net finds: use three digits, e.g. Dataset001_Lungs.")


def dataset_folder(name: str) -> Path:
    """The folder `$nnUNet_raw/name` of a data set such as `Dataset001_Lungs`.

    Raises:
        ValueError: `name` is not nnU-Net's DatasetXXX_NAME, or another data set has the same number.
        FileNotFoundError: the environment variable `nnUNet_raw` is not set.
    """
    _check_dataset_name(name)
    raw = folder_of(RAW)
    others = [other for other in find_candidate_datasets(int(name[7:10])) if other != name]
    if others:
        raise ValueError(f"Number {name[7:10]} is already taken by {some(others)}: choose a free one for {name}.")
    return raw / name


def check_output(output: Path, sources: Sequence[Path], overwrite: bool) -> None:
    """Raises ValueError or FileExistsError if a data set cannot be written there from these folders."""
    _check_dataset_name(output.name)
    inside = [source for source in sources if source.resolve().is_relative_to(output.resolve())]
    if inside:
        raise ValueError(f"{some(inside)} lies inside the output {output}: move the source images elsewhere.")
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file: remove it or choose another name.")
    if output.exists() and any(output.iterdir()) and not overwrite:
        raise FileExistsError(
            f"{output} already holds files: choose another name, or replace all of it with overwrite."
        )


def convert(
    images: Path | None,
    masks: Path | None,
    unlabelled: Sequence[Path],
    output: Path,
    *,
    labels: Mapping[str, int] | None = None,
    mask_suffix: str = "",
    channel_name: str | None = None,
    resize: SizePx | None = None,
    test_images: Path | None = None,
    overwrite: bool = False,
) -> ConversionReport:
    """Write a folder of images and masks, and folders of unlabelled images, as the nnU-Net raw data set `output`.

    Images become `imagesTr`, `imagesUn` (unlabelled) and `imagesTs` (test), masks `labelsTr` with labels 0, 1, 2, ...
    An image pairs with the mask of the same name, whatever their endings. Nothing is written unless everything is
    right; an error or a kill on the way leaves `output` as it was.

    Args:
        images: folder of the labelled images; None for a data set without labels.
        masks: folder of their masks, grey, one value a label; may be `images` if there is a `mask_suffix`.
        unlabelled: folders of images without masks.
        output: data set folder, named as nnU-Net wants it, e.g. `nnUNet_raw/Dataset001_Lungs` (see `dataset_folder`).
        labels: name to mask value, e.g. `{"lung": 255}`; background is 0 unless named, `ignore` is nnU-Net's ignore
            label. None: masks of 0 and 255, or of 0, 1, 2, ... are understood.
        mask_suffix: what mask names have after the image name, e.g. `_mask`; other files of `masks` are no masks then.
        channel_name: name of each channel in dataset.json, which chooses nnU-Net's normalisation, e.g.
            `rescale_to_0_1`. None: `grey`, or `R`, `G` and `B`.
        resize: (height, width) for all; images interpolated with antialiasing, masks by nearest neighbour. The aspect
            ratio is not kept. None keeps every size.
        test_images: folder of images for `imagesTs`.
        overwrite: replace an `output` that holds files.

    Returns:
        What was written and changed; the same lies in `output` as conversion.json.

    Raises:
        ValueError: the images, masks or options do not fit; the message names the files and what to do.
        FileNotFoundError: a folder is missing or holds no image.
        FileExistsError: `output` holds files and `overwrite` is False.
        AtWorkError: another process converts into `output`.
    """
    if (images is None) != (masks is None) or (images is None and not unlabelled):
        raise ValueError("Give images together with masks, or unlabelled folders, or all of them.")
    if images is None and labels is not None:
        raise ValueError("labels name the values of masks, but there are no masks: leave labels out.")
    if resize is not None and min(resize) < 1:
        raise ValueError(f"resize is (height, width) in pixels, both at least 1, not {resize}.")
    sources = [folder for folder in (images, masks, test_images, *unlabelled) if folder]
    check_output(output, sources, overwrite)
    cases = find_source_cases(images, masks, unlabelled, test_images, mask_suffix)
    survey = survey_cases(cases)
    mask_values = name_mask_values(survey.values, labels) if images else {"background": 0}
    report = _report(output, cases, survey, mask_values, channel_name, resize)
    output.parent.mkdir(parents=True, exist_ok=True)
    with alone_at(output):
        bring_back_folder(output)
        check_output(output, sources, overwrite)  # another process may have written it meanwhile
        with all_or_nothing(output) as root:
            for folder in {case.folder for case in cases} | ({"labelsTr"} if images else set()):
                (root / folder).mkdir()
            write = partial(_write_case, root=root, to_grey=survey.is_grey, lookup=_lookup(mask_values), resize=resize)
            with naming_full_disk(output):
                in_threads(write, cases, "Writing")
                _write_json(root, report)
    return report
