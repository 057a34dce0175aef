"""`nnunet-diffusion predict`: nnU-Net's prediction, with what the timesteps say about its uncertainty.

One case after another, so that memory does not grow with their number.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nnunet_diffusion_ensemble.denoiser.source import denoiser_file
from nnunet_diffusion_ensemble.images.reading import ImageError
from nnunet_diffusion_ensemble.prediction.calibrated import CalibrationUse, usable_calibration
from nnunet_diffusion_ensemble.prediction.case import Prediction, predict_image
from nnunet_diffusion_ensemble.prediction.find_cases import find_cases, read_for
from nnunet_diffusion_ensemble.prediction.folder import (
    ENTROPY,
    MUTUAL_INFORMATION,
    PROBABILITY,
    TIMESTEPS,
    CaseFiles,
    CaseUncertainty,
    PredictionFolder,
    folder_name,
)
from nnunet_diffusion_ensemble.prediction.model import ModelOnDemand, TrainedModel, read_model
from nnunet_diffusion_ensemble.prediction.model_folder import model_files, read_descriptions
from nnunet_diffusion_ensemble.prediction.origin import PREDICTED_FROM, Origin, described
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.prediction.uncertainty import expected_dice
from nnunet_diffusion_ensemble.system.guard import alone_in
from nnunet_diffusion_ensemble.system.messages import in_one_line
from nnunet_diffusion_ensemble.system.places import refuse_file
from nnunet_diffusion_ensemble.system.records import stamps

OnProblem = Literal["refuse", "skip"]


@dataclass(frozen=True)
class PredictedCase:
    """What is known of a case after its prediction; `position` of `total`, `is_new` unless it was there before."""

    scores: CaseUncertainty
    position: int
    total: int
    is_new: bool


@dataclass(frozen=True)
class LeftOut:
    """A case or file that was not predicted, and why; `is_problem` unless nobody would take it for an image."""

    name: str
    problem: str
    is_problem: bool = True

    def __str__(self) -> str:
        return self.problem if self.name in self.problem else f"{self.name}: {self.problem}"


def predict(
    images: Path,
    output: Path,
    model_folder: Path,
    settings: PredictionSettings,
    denoiser: str | None = None,
    continue_prediction: bool = False,
    on_problem: OnProblem = "refuse",
    calibrated: bool = False,
    review_below: float | None = None,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[PredictedCase | LeftOut]:
    """Predicts all cases of a folder and writes `uncertainty.csv` at the end; `Prediction` says what is written.

    Every image is read and checked before the first is predicted.

    Args:
        images: folder of images, named as nnU-Net names them (`CASE_0000.png`).
        output: folder to write.
        model_folder: of any nnU-Net trainer; without timesteps that are averaged there are only segmentation,
            probability and entropy.
        settings: folds, device and the like.
        denoiser: checkpoint, or name of a shipped denoiser, for the denoising error instead of the network's own.
        continue_prediction: leave out cases that are there, made by this model from these images.
        on_problem: what to do about images that cannot be predicted: `refuse` to start, or `skip` and note them in
            `prediction.json`.
        calibrated: write probabilities with the temperature of the model's calibration. Dice is predicted in any case
            if the calibration has it.
        review_below: mark cases whose interval of predicted Dice begins below it.
        left_out: what was left out before, to be noted there as well.

    Yields:
        each case when it is done, and what is left out.

    Raises:
        ValueError: images, model or settings do not go together; the message says what to do.
        FileNotFoundError: a folder or a checkpoint is missing.
        AtWorkError: another process predicts into this folder.
    """
    refuse_file(output)
    read_descriptions(model_folder)
    model_stamps = stamps_of_model(model_folder, settings, denoiser)  # first: a file may be replaced at any time
    use, why_not = usable_calibration(model_folder, settings, denoiser, calibrated, review_below)
    trained = read_model(model_folder, settings, denoiser)
    model = ModelOnDemand.of(trained)
    how = prediction_settings(model_folder, settings, denoiser, use)
    found = find_cases(images, trained)
    if on_problem == "refuse" or not found.cases:
        found.refuse_problems(images)
    if why_not:
        yield LeftOut("calibration", why_not, is_problem=False)
    yield from (LeftOut(name, "is no image of the model's kind", is_problem=False) for name in found.others)
    yield from (LeftOut(name, problem) for name, problem in found.problems.items())
    origin = origin_of(model_stamps, found.cases, output, how)
    target = _target(model, output)
    with alone_in(output):
        if continue_prediction:
            target.check_continues(how, origin)
        else:
            target.forget(found.cases)
        forget_what_changed(model, found.cases, output, origin)
        left_out = {**left_out, **found.problems}
        yield from predict_cases(model, found.cases, output, how, True, on_problem, left_out, use)


def stamps_of_model(folder: Path, settings: PredictionSettings, denoiser: str | None = None) -> dict[str, list[int]]:
    """Of all files that the predictions of a model depend on. Raises FileNotFoundError if one is missing."""
    own = stamps(model_files(folder, settings), folder)
    return own if denoiser is None else own | stamps([denoiser_file(denoiser)])


def origin_of(
    model: Mapping[str, Sequence[int]], cases: Mapping[str, Sequence[Path]], output: Path, how: Mapping[str, Any]
) -> Origin:
    """What a folder's predictions were made from, and what they would be now.

    Args:
        model: from `stamps_of_model`.
        cases: the image files of each.
        output: the folder.
        how: from `prediction_settings`.
    """
    images = {case: stamps(files) for case, files in cases.items()}
    return Origin(output / PREDICTED_FROM, described(model, how, images))


def forget_what_changed(model: ModelOnDemand, cases: Iterable[str], output: Path, origin: Origin) -> None:
    """Cases that were predicted from something else no longer count as written; the record says what comes now."""
    _target(model, output).forget(case for case in cases if not origin.is_unchanged(case))
    origin.write()


def _target(model: ModelOnDemand, output: Path) -> PredictionFolder:
    return PredictionFolder(output, model.dataset_json["file_ending"], model.plans.image_reader_writer_class())


def prediction_settings(
    model_folder: Path,
    settings: PredictionSettings,
    denoiser: str | None = None,
    use: CalibrationUse | None = None,
) -> dict[str, Any]:
    """How it is predicted, in the words of `prediction.json`."""
    how = {"model": str(model_folder.resolve()), "denoiser": denoiser, **settings.to_json()}
    return how if use is None else how | use.to_json()


def predict_cases(
    model: ModelOnDemand,
    cases: Mapping[str, Sequence[Path]],
    output: Path,
    how: Mapping[str, Any],
    with_denoising_error: bool = True,
    on_problem: OnProblem = "refuse",
    left_out: Mapping[str, str] = MappingProxyType({}),
    use: CalibrationUse | None = None,
) -> Iterator[PredictedCase | LeftOut]:
    """`predict` of those cases that are not there yet; if all are, the model is not read.

    Args:
        model: is read for the first case to predict.
        cases: the image files of each, in the order of their channels.
        output: folder to write.
        how: from `prediction_settings`.
        with_denoising_error: measure it, which takes about as long as the prediction.
        on_problem: what to do about a case that fails: end with its error, or `skip` it.
        left_out: what was left out before, for `prediction.json`.
        use: the model's calibration.
    """
    failed: dict[str, str] = {}
    target = _target(model, output)
    target.begin(how, model.plans.plans, model.dataset_json)
    for position, (case, files) in enumerate(cases.items(), start=1):
        is_new = not target.has(case)
        if is_new:
            ready = model.read()  # outside the try: a model that cannot be read is no fault of the case
            try:
                with target.new_case(case) as case_files:
                    case_files.write_scores(_predict_case(ready, files, case_files, with_denoising_error, use))
            except Exception as error:  # of memory and drivers there is any kind
                if on_problem == "refuse" or isinstance(error, OSError):  # a full disk is no fault of the case
                    raise
                failed[case] = in_one_line(error)
                yield LeftOut(case, failed[case])
                continue
        yield PredictedCase(target.read_scores(case), position, len(cases), is_new)
    target.end(how, [case for case in cases if case not in failed], {**left_out, **failed})


def _predict_case(
    model: TrainedModel,
    files: Sequence[Path],
    output: CaseFiles,
    with_denoising_error: bool,
    use: CalibrationUse | None,
) -> CaseUncertainty:
    image, properties = preprocessed(model, files)
    prediction = predict_image(model, image, properties, with_denoising_error)
    scores = uncertainty_of(output.case, model, prediction)
    if use is not None:
        scores = use.judged(scores)
        prediction = replace(prediction, probabilities=use.probabilities(model, prediction.probabilities))
    _write_prediction(model, prediction, properties, output)
    return scores


def uncertainty_of(case: str, model: TrainedModel, prediction: Prediction) -> CaseUncertainty:
    """The row of a case in `uncertainty.csv`, without what a calibration adds."""
    foreground = prediction.segmentation != 0
    expected = expected_dice(prediction.probabilities, prediction.segmentation, list(model.regions.values()))
    return CaseUncertainty(
        case,
        int(foreground.sum()),
        *_means(prediction.entropy, foreground),
        *_means(prediction.mutual_information, foreground),
        None if math.isnan(expected) else expected,
        prediction.timestep_dice,
        prediction.score,
        prediction.denoising_error_at,
    )


def preprocessed(model: TrainedModel, files: Sequence[Path]) -> tuple[Tensor, dict[str, Any]]:
    """An image (channels, *space) as in training, and what is needed to take its prediction back."""
    predictor = model.predictor
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    image, properties = read_for(model, files)
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    image, _, properties = preprocessor.run_case_npy(image, None, properties, plans, configuration, model.dataset_json)
    if not np.isfinite(image).all():
        raise ImageError(files, "gives NaN or infinite values in preprocessing")
    return torch.as_tensor(image), properties


def _write_prediction(
    model: TrainedModel, prediction: Prediction, properties: dict[str, Any], output: CaseFiles
) -> None:
    output.write_segmentation(prediction.segmentation, properties)
    for position, name in enumerate(model.regions):
        output.write_map(prediction.probabilities[position], properties, PROBABILITY, folder_name(position, name))
    output.write_map(prediction.entropy, properties, ENTROPY)
    for timestep, segmentation in (prediction.timesteps or {}).items():
        output.write_segmentation(segmentation, properties, TIMESTEPS, f"t{timestep:03d}")
    if prediction.mutual_information is not None:
        output.write_map(prediction.mutual_information, properties, MUTUAL_INFORMATION)


def _means(values: np.ndarray | None, foreground: np.ndarray) -> tuple[float | None, float | None]:
    """Over the image and over its foreground, as far as there are values."""
    if values is None:
        return None, None
    return float(values.mean()), float(values[foreground].mean()) if foreground.any() else None
