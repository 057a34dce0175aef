"""Postprocessing of a trained model, learned from the labels of its folds, in a file of nnU-Net's form."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_diffusion_ensemble.evaluation.labels import EvaluatedLabel, evaluated_labels
from nnunet_diffusion_ensemble.held_out.cases import seen_cases
from nnunet_diffusion_ensemble.images.reading import read_segmentation
from nnunet_diffusion_ensemble.nnunet.labelled_cases import find_labelled_cases, spread_over
from nnunet_diffusion_ensemble.postprocessing.components import least_share, remove_small_components
from nnunet_diffusion_ensemble.postprocessing.file import postprocessing_file, write_shares
from nnunet_diffusion_ensemble.prediction.model_folder import check_model, read_descriptions
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.self_training.teacher import raw_folder
from nnunet_diffusion_ensemble.system.atomic import whole_file
from nnunet_diffusion_ensemble.system.settings import Fold

NUM_CASES = 50  # label maps that are read


def learn_postprocessing(
    model_folder: Path, folds: Sequence[Fold], share: float = 0.25, checkpoint_name: str = "checkpoint_final.pth"
) -> dict[str, float]:
    """By label, or region, what share of its largest component another one must have.

    Args:
        model_folder: of any nnU-Net trainer.
        folds: trained folds, whose labels are looked at.
        share: of the least that was labelled, as predictions are not perfect.
        checkpoint_name: that the folds must have.

    Returns:
        those that occur in the labels; regions that are part of another are left out, since what would be removed of
        them belongs to the other one still.

    Raises:
        FileNotFoundError: no such model or fold, or its data set or splits are not there.
        ValueError: a fold is not in the splits.
        ImageError: a label map cannot be read.
    """
    check_model(model_folder, PredictionSettings(folds=tuple(folds), checkpoint_name=checkpoint_name, device="cpu"))
    plans, dataset_json = read_descriptions(model_folder)
    raw = raw_folder(plans.dataset_name)
    cases, _ = find_labelled_cases(raw, dataset_json)
    seen = seen_cases(folds, plans.dataset_name, [case.name for case in cases])
    files = [case.label for case in cases if case.name in seen and case.label is not None]
    if not files:
        raise FileNotFoundError(f"{raw} holds no label of a case that the model was trained on.")
    reader = plans.image_reader_writer_class()
    least: dict[str, float] = {}
    outermost = _outermost(dataset_json)
    for file in spread_over(files, NUM_CASES):
        labels, _ = read_segmentation(reader, file)
        for one in outermost:
            found = least_share([one.mask(labels)])
            if found is not None:
                least[one.name] = min(found, least.get(one.name, 1.0))
    return {name: share * smallest for name, smallest in least.items()}


def write_postprocessing(model_folder: Path, folds: Sequence[Fold], smallest: Mapping[str, float]) -> Path:
    """Writes `postprocessing_folds_X.pkl`, for `nnUNetv2_apply_postprocessing`, and as JSON the same for `predict`.

    Args:
        model_folder: of the model.
        folds: whose labels were looked at.
        smallest: as `learn_postprocessing` returns it.
    """
    _, dataset_json = read_descriptions(model_folder)
    values = {label.name: label.value for label in evaluated_labels(dataset_json)}
    arguments = {"smallest": [(values[name], share) for name, share in smallest.items()]}
    file = postprocessing_file(model_folder, folds)
    with whole_file(file.with_suffix(".pkl")) as temporary:
        temporary.write_bytes(pickle.dumps(([remove_small_components], [arguments])))
    write_shares(smallest, file)
    return file.with_suffix(".pkl")


def _outermost(dataset_json: Mapping[str, Any]) -> list[EvaluatedLabel]:
    """Labels, or regions that are no part of another."""
    labels = evaluated_labels(dataset_json)
    sets = {label.name: set(np.atleast_1d(label.value).tolist()) for label in labels}
    return [one for one in labels if not any(sets[one.name] < other for other in sets.values())]
