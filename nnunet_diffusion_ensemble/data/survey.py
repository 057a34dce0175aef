"""What lies in the folders to convert: images paired with masks, every file checked, mask values named."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm.contrib.concurrent import thread_map

from nnunet_diffusion_ensemble.data.pixels import GREY, RGB, SizePx, by, kind, read_mask, read_pixels

MASK_ENDINGS = (".png", ".bmp", ".tif", ".tiff")
IMAGE_ENDINGS = (*MASK_ENDINGS, ".jpg", ".jpeg")

Result = TypeVar("Result")


def some(things: Sequence[object], separator: str = ", ") -> str:
    """The first five in words, and how many more there are."""
    rest = [f"and {len(things) - 5} more"] if len(things) > 5 else []
    return separator.join([*map(str, things[:5]), *rest])


@dataclass(frozen=True)
class SourceCase:
    """An image, its mask if it has one, and the folder of the data set it goes to, e.g. `imagesTr`."""

    name: str
    image: Path
    mask: Path | None
    folder: str


def is_image(path: Path) -> bool:
    """Whether `path` is a visible file with the ending of an image."""
    return path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".") and path.is_file()


def _find_images(folder: Path, keep: Callable[[str], bool] = lambda stem: True) -> dict[str, Path]:
    """Stem to file of the images in `folder` (not below it) whose stem `keep` accepts."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder.")
    files = [path for path in sorted(folder.iterdir()) if is_image(path) and keep(path.stem)]
    if not files:
        raise FileNotFoundError(f"{folder} holds no fitting image ({', '.join(IMAGE_ENDINGS)}; not in subfolders).")
    twice = [stem for stem, count in Counter(path.stem for path in files).items() if count > 1]
    if twice:
        raise ValueError(f"{folder} has files that differ only in their ending: {some(twice)}. Keep one of each.")
    return {path.stem: path for path in files}


def _case_names(files: Mapping[str, Path]) -> dict[str, Path]:
    """Case name to file: the stem, without nnU-Net's channel index `_0000` where every file of the folder has it.

    Frame numbers (`film_0000`, `film_0001`) therefore stay part of the name, which nnU-Net reads back correctly.
    """
    if all(name.endswith("_0000") for name in files):
        files = {name.removesuffix("_0000"): path for name, path in files.items()}
    overlooked = [path.name for name, path in files.items() if name.endswith("_seg")]
    if overlooked:
        raise ValueError(f"nnU-Net overlooks cases whose names end in _seg: rename {some(overlooked)}.")
    return dict(files)


def _labelled_cases(images: Path, masks: Path, mask_suffix: str) -> list[SourceCase]:
    shared = images.resolve() == masks.resolve()
    if shared and not mask_suffix:
        raise ValueError(f"Images and masks are both in {images}: give the mask_suffix that tells masks apart.")
    image_of = _case_names(_find_images(images, lambda stem: not (shared and stem.endswith(mask_suffix))))
    mask_files = _find_images(masks, lambda stem: stem.endswith(mask_suffix))
    mask_of = _case_names({stem.removesuffix(mask_suffix): path for stem, path in mask_files.items()})
    _check_pairs(image_of, mask_of, f"the mask of NAME.png is NAME{mask_suffix}.png")
    return [SourceCase(name, path, mask_of[name], "imagesTr") for name, path in image_of.items()]


def _check_pairs(image_of: Mapping[str, Path], mask_of: Mapping[str, Path], rule: str) -> None:
    without_mask = [path for name, path in image_of.items() if name not in mask_of]
    if without_mask:
        remedy = "Add their masks, or move them to a folder of their own and pass that as unlabelled"
        raise ValueError(f"Images without a mask ({rule}): {some(without_mask)}. {remedy}.")
    without_image = [path for name, path in mask_of.items() if name not in image_of]
    if without_image:
        raise ValueError(f"Masks without an image ({rule}): {some(without_image)}. Add the images or remove these.")
    lossy = [path for path in mask_of.values() if path.suffix.lower() not in MASK_ENDINGS]
    if lossy:
        raise ValueError(f"JPEG changes label values, so it cannot hold masks: {some(lossy)}. Export them as PNG.")


def _image_cases(source: Path, folder: str) -> list[SourceCase]:
    return [SourceCase(name, path, None, folder) for name, path in _case_names(_find_images(source)).items()]


def _check_unique(cases: Sequence[SourceCase]) -> None:
    """Labelled and unlabelled cases share one preprocessed folder; upper and lower case are one on some systems."""
    first: dict[str, SourceCase] = {}
    pairs = [(first.setdefault(case.name.casefold(), case), case) for case in cases]
    clashes = [
        f"{one.image} and {other.image} are both called {other.name}: rename or remove one."
        for one, other in pairs
        if one is not other
    ]
    if clashes:
        raise ValueError(some(clashes, "\n"))


def find_source_cases(
    images: Path | None, masks: Path | None, unlabelled: Sequence[Path], test_images: Path | None, mask_suffix: str
) -> list[SourceCase]:
    """Pair images with masks by their names, and add the unlabelled and the test images; see `convert`.

    Raises:
        ValueError: names do not pair, are not unique, or are ones that nnU-Net overlooks.
        FileNotFoundError: a folder is missing or holds no image.
    """
    cases = _labelled_cases(images, masks, mask_suffix) if images and masks else []
    cases += [case for folder in unlabelled for case in _image_cases(folder, "imagesUn")]
    _check_unique(cases)
    return cases + (_image_cases(test_images, "imagesTs") if test_images else [])


@dataclass(frozen=True)
class _Scan:
    """What one look at a case found."""

    kind: str
    size_px: SizePx
    bits: int
    notes: list[str]
    value_counts: dict[int, int]


@dataclass
class Survey:
    """All cases added up: an example file for each kind, depth and mask value, and how many have each note."""

    kinds: dict[str, Path] = field(default_factory=dict)
    depths: dict[int, Path] = field(default_factory=dict)
    values: dict[int, Path] = field(default_factory=dict)
    sizes_px: set[SizePx] = field(default_factory=set)
    value_counts: Counter[int] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, case: SourceCase, scan: _Scan) -> None:
        self.kinds.setdefault(scan.kind, case.image)
        self.depths.setdefault(scan.bits, case.image)
        self.sizes_px.add(scan.size_px)
        self.value_counts.update(scan.value_counts)
        self.notes.update(scan.notes)
        for value in scan.value_counts:
            self.values.setdefault(value, case.mask or case.image)

    @property
    def is_grey(self) -> bool:
        return RGB not in self.kinds


def _scan(case: SourceCase) -> _Scan:
    pixels, notes = read_pixels(case.image)
    height, width = pixels.shape[:2]
    value_counts = {}
    if case.mask is not None:
        mask = read_mask(case.mask)
        if mask.shape != (height, width):
            sizes = f"{case.image} is {by((height, width))}, its mask {case.mask} {by(mask.shape)}"
            raise ValueError(f"{sizes}: give both the same size.")
        value_counts = {value: count for value, count in enumerate(np.bincount(mask.ravel()).tolist()) if count}
    return _Scan(kind(pixels), (height, width), 8 * pixels.dtype.itemsize, notes, value_counts)


def _scan_or_problem(case: SourceCase) -> _Scan | str:
    try:
        return _scan(case)
    except ValueError as error:
        return str(error)


def survey_cases(cases: Sequence[SourceCase]) -> Survey:
    """Read every image and mask once.

    Raises:
        ValueError: files that cannot be converted, masks of another size, or grey images mixed with colour ones.
    """
    survey, problems = Survey(), []
    for case, scan in zip(cases, in_threads(_scan_or_problem, cases, "Checking"), strict=True):
        if isinstance(scan, str):
            problems.append(scan)
        else:
            survey.add(case, scan)
    if problems:
        raise ValueError(some(problems, "\n"))
    if RGB in survey.kinds and GREY in survey.kinds:
        both = f"{survey.kinds[GREY]} is grey, {survey.kinds[RGB]} is RGB"
        raise ValueError(f"Grey and colour images are mixed: {both}. Convert all to one kind.")
    return survey


def in_threads(function: Callable[[SourceCase], Result], cases: Sequence[SourceCase], title: str) -> list[Result]:
    """`function` of each case, in their order, under a progress bar."""
    workers = min(4, os.cpu_count() or 1)
    return thread_map(function, cases, max_workers=workers, desc=title, unit="image", disable=None)


def _guess_labels(values: Mapping[int, Path]) -> dict[str, int]:
    found = sorted(values)
    if found == [0, 255] or found == [0, 1]:
        return {"foreground": found[1]}
    if len(found) > 1 and found == list(range(len(found))):
        return {f"label_{value}": value for value in found[1:]}
    odd = next((value for index, value in enumerate(found) if value != index), found[-1])
    raise ValueError(
        f"The masks hold the values {some(found)} (e.g. {odd} in {values[odd]}), but only 0 and 255, or 0, 1, 2, ... "
        "without a gap, explain themselves. Say what they mean with labels, e.g. {'lung': 255}, or correct the masks."
    )


def name_mask_values(values: Mapping[int, Path], labels: Mapping[str, int] | None) -> dict[str, int]:
    """Name the mask values found, each with an example file, by `labels` or else by a guess.

    Returns:
        Name to mask value in the order of the labels written: background, then by mask value, `ignore` last.

    Raises:
        ValueError: a value without a name, a name without a value of its own, or values that cannot be guessed.
    """
    named = {"background": 0} | dict(labels if labels is not None else _guess_labels(values))
    if len(set(named.values())) < len(named) or not all(0 <= value <= 65535 for value in named.values()):
        raise ValueError(f"labels must give each name a value of its own from 0 to 65535, not {named}.")
    unnamed = [f"{value} (in {values[value]})" for value in sorted(values) if value not in named.values()]
    if unnamed:
        raise ValueError(f"Mask values without a name: {some(unnamed)}. Known: {named}. Add them to labels.")
    return dict(sorted(named.items(), key=lambda item: (item[0] != "background", item[0] == "ignore", item[1])))
