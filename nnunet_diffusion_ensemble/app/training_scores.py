"""Denoising errors of training images, which that of a new image is compared with."""

import os
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_diffusion_ensemble.api.model import LoadedModel
from nnunet_diffusion_ensemble.data.pixels import SizePx, read_pixels, resize_image
from nnunet_diffusion_ensemble.demo.shipped_model import training_images

MOST_CASES = 20


def scores_of_shipped(model: LoadedModel, size_px: SizePx) -> tuple[float, ...]:
    """Of the X-rays of the demo's sample that the shipped model was trained on."""
    scores = []
    for file in training_images():
        image = resize_image(read_pixels(file)[0], size_px)
        score = model.predict(image, (1, 1)).score
        scores += [] if score is None else [score]
    return tuple(scores)


def scores_of_preprocessed(model: LoadedModel, most: int = MOST_CASES) -> tuple[float, ...]:
    """Of a model's data set, if it lies preprocessed on this machine (`nnUNet_preprocessed`).

    Args:
        model: trained on it.
        most: so many cases, evenly from all of them.
    """
    root, predictor = os.environ.get("nnUNet_preprocessed"), model.trained.predictor
    if not root:
        return ()
    manager = predictor.plans_manager
    folder = Path(root) / manager.dataset_name / predictor.configuration_manager.data_identifier
    if not folder.is_dir():
        return ()
    dataset_class = infer_dataset_class(str(folder))
    cases = sorted(dataset_class.get_identifiers(str(folder)))
    chosen = [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, min(most, len(cases))).astype(int))]
    dataset = dataset_class(str(folder), chosen)
    images = (torch.from_numpy(np.asarray(dataset.load_case(case)[0][:])) for case in chosen)
    errors = [model.trained.denoising_error(image) for image in images]
    return tuple(float(np.mean(list(error.values()))) for error in errors if error)
