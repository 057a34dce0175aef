"""nnU-Net's data set fingerprint, from labelled cases with fewer samples, or from images without labels.

nnU-Net takes intensities of labelled voxels. Here they are those of the nonzero region, holes filled: what nnU-Net
crops to. CT normalisation uses them, and so clips and scales by the whole body and not by the organs: the plans carry
the numbers, so that whoever uses the denoiser later normalises by the same ones.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from tqdm import tqdm

from nnunet_diffusion_ensemble.images.members import as_files
from nnunet_diffusion_ensemble.images.reading import ImageError, read_images, refuse_other_channels
from nnunet_diffusion_ensemble.nnunet.raw_cases import UNLABELLED_IMAGES
from nnunet_diffusion_ensemble.nnunet.raw_shards import ShardError
from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import UnlabelledCases
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.messages import raise_listing
from nnunet_diffusion_ensemble.system.workers import as_they_come

FINGERPRINT = "dataset_fingerprint.json"
MARK = "from_unlabelled_images"  # in the fingerprint; nnU-Net does not look at it
NUM_SAMPLES = 10_000_000  # voxels of a channel, from all images together: 40 MB


class LabelledFingerprint(DatasetFingerprintExtractor):
    """nnU-Net's, which draws ten times as many intensities, with replacement and from however few: seconds, and a
    gigabyte on its way between processes. The 0.5% percentile of these is one between 0.49% and 0.51%."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.num_foreground_voxels_for_intensitystats = NUM_SAMPLES


@dataclass(frozen=True)
class CaseStatistics:
    """What the fingerprint needs of one case.

    `shape` is (slices, rows, columns) after cropping, `spacing_mm` that of its axes, `relative_size` the share of
    voxels that cropping leaves, `intensities` sampled voxels (channels, samples).
    """

    case: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    relative_size: float
    intensities: np.ndarray


def case_statistics(
    reader: type[BaseReaderWriter], num_channels: int, num_samples: int, case: str, images: list[Path]
) -> CaseStatistics | str:
    """Statistics of one case, or in words what is wrong with its files."""
    try:
        with as_files(images) as files:
            data, properties = read_images(reader(), files)
        _check(images, data, num_channels)
        cropped, mask, _ = crop_to_nonzero(data)
        sampled, _ = DatasetFingerprintExtractor.collect_foreground_intensities(
            mask == 0, cropped, num_samples=num_samples
        )
        return CaseStatistics(
            case,
            cropped.shape[1:],
            tuple(float(mm) for mm in properties["spacing"]),
            cropped[0].size / data[0].size,
            np.array(sampled, np.float32),
        )
    except ImageError as error:
        return error.short
    except ShardError as error:
        return "\n  ".join(error.problems)


def _check(images: list[Path], data: np.ndarray, num_channels: int) -> None:
    refuse_other_channels(data, images, num_channels, f"dataset.json has {num_channels} in channel_names")
    if not data.any():
        raise ImageError(images, "is a blank image: all values are zero")


def has_unlabelled_fingerprint(preprocessed_folder: Path, num_cases: int | None = None) -> bool:
    """Whether the fingerprint there was made from unlabelled images (and, if given, from as many)."""
    try:
        fingerprint = json.loads((preprocessed_folder / FINGERPRINT).read_text())
        return bool(fingerprint.get(MARK)) and num_cases in (None, len(fingerprint["spacings"]))
    except (OSError, ValueError):
        return False


def extract_unlabelled_fingerprint(
    preprocessed_folder: Path,
    reader: type[BaseReaderWriter],
    num_channels: int,
    cases: UnlabelledCases,
    num_processes: int,
) -> None:
    """Reads every image once and writes `dataset_fingerprint.json` in nnU-Net's form.

    Memory does not grow with the number of images, but for about 100 bytes each.

    Args:
        preprocessed_folder: folder of the data set in `nnUNet_preprocessed`; made if it is missing.
        reader: nnU-Net's reader of the images.
        num_channels: by `dataset.json`.
        cases: to read, as `find_unlabelled_cases` returns them.
        num_processes: workers.

    Raises:
        ValueError: lists all files that cannot be read, or have the wrong number of channels, NaN or only zeros.
        RuntimeError: a worker died.
    """
    per_case = max(1, NUM_SAMPLES // len(cases))
    number = {case: i for i, case in enumerate(cases.names.tolist())}
    intensities = np.empty((num_channels, len(cases), per_case), np.float32)
    found: list[Any] = [None] * len(cases)
    problems = []
    analyse = partial(case_statistics, reader, num_channels, per_case)
    for result in tqdm(as_they_come(analyse, cases.items(), num_processes), "Extracting fingerprint", len(cases)):
        if isinstance(result, str):
            problems.append(result)
            continue
        intensities[:, number[result.case]] = result.intensities
        found[number[result.case]] = (result.spacing_mm, result.shape, result.relative_size)
    raise_listing(f"Repair or remove these in {UNLABELLED_IMAGES}:", sorted(problems))
    fingerprint = {
        "spacings": [spacing for spacing, _, _ in found],
        "shapes_after_crop": [shape for _, shape, _ in found],
        "foreground_intensity_properties_per_channel": {
            str(i): intensity_properties(values.ravel()) for i, values in enumerate(intensities)
        },
        "median_relative_size_after_cropping": float(np.median([size for _, _, size in found])),
        MARK: True,
    }
    preprocessed_folder.mkdir(parents=True, exist_ok=True)
    write_text(preprocessed_folder / FINGERPRINT, json.dumps(fingerprint, indent=2))


def intensity_properties(values: np.ndarray) -> dict[str, float]:
    """The seven numbers that nnU-Net keeps of a channel's sampled intensities."""
    low, median, high = np.percentile(values, (0.5, 50.0, 99.5))
    numbers = {
        "mean": np.mean(values, dtype=np.float64),
        "median": median,
        "std": np.std(values, dtype=np.float64),
        "min": values.min(),
        "max": values.max(),
        "percentile_99_5": high,
        "percentile_00_5": low,
    }
    return {name: float(number) for name, number in numbers.items()}
