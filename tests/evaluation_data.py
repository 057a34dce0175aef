"""Folders of predictions as `nnunet-diffusion predict` writes them, of made-up label maps, with their references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_diffusion_ensemble.prediction.folder import PROBABILITY, TIMESTEPS, PredictionFolder, folder_name

LABELS = {"background": 0, "left lung": 1, "heart": 2}
PICTURE = {"spacing": (999, 1, 1)}


@dataclass(frozen=True)
class Made:
    """What is written of a case: label maps (slices, rows, columns); probabilities (channels, ...)."""

    reference: np.ndarray
    segmentation: np.ndarray
    probabilities: np.ndarray
    timesteps: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class EvaluationData:
    """Written cases and the arguments of `evaluate_folder` for them."""

    prediction: Path
    references: dict[str, Path]
    dataset_json: dict[str, Any]
    reader_writer: Any
    made: dict[str, Made]

    @property
    def arguments(self) -> tuple[Path, dict[str, Path], dict[str, Any], Any]:
        return self.prediction, self.references, self.dataset_json, self.reader_writer


def geometry(spacing: Sequence[float]) -> dict[str, Any]:
    """Properties of a case as SimpleITKIO reads them; spacing of slices, rows, columns."""
    xyz = tuple(spacing[::-1])
    direction = tuple(np.eye(len(xyz)).ravel())
    return {"spacing": spacing, "sitk_stuff": {"spacing": xyz, "origin": (0.0,) * len(xyz), "direction": direction}}


def make_case(
    seed: int, values: Sequence[int], channels: int, shape: tuple[int, ...], timesteps: Sequence[int]
) -> Made:
    """Random values in blocks of 2 x 2 pixels; the segmentation differs in some of them."""
    random = np.random.RandomState(seed)

    def drawn() -> np.ndarray:
        small = random.choice(values, (shape[0], -(-shape[1] // 2), -(-shape[2] // 2)))
        return small.repeat(2, 1).repeat(2, 2)[:, : shape[1], : shape[2]].astype(np.uint8)

    def changed(image: np.ndarray) -> np.ndarray:
        return np.where(random.rand(*shape) < 0.2, np.minimum(drawn(), 2), np.minimum(image, 2)).astype(np.uint8)

    reference = drawn()
    probabilities = random.dirichlet(np.ones(channels), shape).transpose(3, 0, 1, 2).astype(np.float32)
    return Made(reference, changed(reference), probabilities, {t: changed(reference) for t in timesteps})


def write_evaluation_data(
    folder: Path,
    labels: Mapping[str, Any] = LABELS,
    num_cases: int = 3,
    shape: tuple[int, int, int] = (1, 14, 11),
    spacing: Sequence[float] | None = None,
    timesteps: Sequence[int] = (1, 50, 400),
) -> EvaluationData:
    """PNG, or NIfTI if there is a spacing."""
    ending, reader = (".png", NaturalImage2DIO()) if spacing is None else (".nii.gz", SimpleITKIO())
    properties = PICTURE if spacing is None else geometry(spacing)
    dataset_json: dict[str, Any] = {"labels": dict(labels), "file_ending": ending, "channel_names": {"0": "X-ray"}}
    names = [name for name in labels if name != "ignore"]
    if any(isinstance(value, list) for value in labels.values()):
        names = names[1:]
        dataset_json["regions_class_order"] = list(range(1, len(names) + 1))
    values = [0, 1, 2] + ([labels["ignore"]] if "ignore" in labels else [])
    made, references = {}, {}
    target = PredictionFolder(folder / "prediction", ending, reader)
    (folder / "references").mkdir(parents=True)
    for seed in range(num_cases):
        case = f"case_{seed}"
        made[case] = one = make_case(seed, values, len(names), shape, timesteps)
        references[case] = folder / "references" / f"{case}{ending}"
        reader.write_seg(one.reference, str(references[case]), properties)
        with target.new_case(case) as files:
            files.write_segmentation(one.segmentation, properties)
            for channel, name in enumerate(names):
                files.write_map(one.probabilities[channel], properties, PROBABILITY, folder_name(channel, name))
            for timestep, segmentation in one.timesteps.items():
                files.write_segmentation(segmentation, properties, TIMESTEPS, f"t{timestep:03d}")
    return EvaluationData(folder / "prediction", references, dataset_json, reader, made)
