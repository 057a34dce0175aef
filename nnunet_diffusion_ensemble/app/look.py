"""What a model says of an upload: its prediction in the geometry of the upload, whatever size the model works on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from nnunet_diffusion_ensemble.app.models import PageModel
from nnunet_diffusion_ensemble.app.upload import Upload
from nnunet_diffusion_ensemble.calibration.predicted_dice import DiceInterval, DicePrediction
from nnunet_diffusion_ensemble.data.pixels import SizePx, resize_values
from nnunet_diffusion_ensemble.prediction.case import Prediction
from nnunet_diffusion_ensemble.prediction.predict import uncertainty_of


@dataclass(frozen=True)
class Inspection:
    """An image and what a model says of it. All arrays are (slices, rows, columns); a picture has one slice.

    Attributes:
        upload: the image.
        title: of the model.
        classes: names with their labels, background left out.
        prediction: of the model.
        training_scores: denoising errors of training images; empty where there are none.
        calibration: of the model, or why it is not used; None where there is none.
        scores: columns of `uncertainty.csv`, for the calibration.
    """

    upload: Upload
    title: str
    classes: Mapping[str, tuple[int, ...]]
    prediction: Prediction
    training_scores: tuple[float, ...]
    calibration: DicePrediction | str | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def expected_dice(self) -> DiceInterval | None:
        """What the calibration predicts of the image; None without one, or where the image lacks a score."""
        return self.calibration.of_case(self.scores) if isinstance(self.calibration, DicePrediction) else None

    @property
    def image(self) -> np.ndarray:
        """The first channel."""
        return self.upload.voxels[0]

    @property
    def num_slices(self) -> int:
        return len(self.image)

    @property
    def fullest_slice(self) -> int:
        """The one with the most foreground; the middle one where there is none."""
        areas = np.count_nonzero(self.prediction.segmentation, axis=(1, 2))
        return int(areas.argmax()) if areas.any() else self.num_slices // 2

    @property
    def aspect(self) -> float:
        """Height of a pixel in widths."""
        spacing = self.upload.spacing_mm
        return spacing[1] / spacing[2]


def look_at(upload: Upload, model: PageModel) -> Inspection:
    """Predicts.

    Raises:
        ValueError: the image does not fit the model; the message says what does.
    """
    voxels = _with_channels(upload.voxels, model.loaded.channels)
    loaded = model.loaded
    if model.size_px is not None:
        if not upload.is_picture:
            raise ValueError(
                f"The demo model looks at one picture, a frontal chest X-ray; {upload.name}{upload.ending} is a "
                "volume. Choose a results folder of a model of your own."
            )
        small = np.stack([resize_values(channel, model.size_px) for channel in voxels[:, 0]])
        prediction = _resized(_with_slices(loaded.predict(small, (1, 1))), upload.voxels.shape[-2:])
    elif upload.is_picture:
        spacing = (1, 1) if model.reads_pictures else upload.spacing_mm[1:]
        prediction = _with_slices(loaded.predict(voxels[:, 0], spacing))
    else:
        prediction = loaded.predict(voxels, upload.spacing_mm)
    classes = {name: labels for name, labels in loaded.classes.items() if labels != (0,)}
    return Inspection(
        upload, model.title, classes, prediction, model.training_scores, model.calibration, _scores(prediction, model)
    )


def _scores(prediction: Prediction, model: PageModel) -> dict[str, Any]:
    """By name what a calibration may predict Dice from; nothing without one."""
    return {} if model.calibration is None else asdict(uncertainty_of("", model.loaded.trained, prediction))


def _with_channels(voxels: np.ndarray, channels: int) -> np.ndarray:
    """Of a grey picture stored in colours one channel is left, if the model takes one."""
    colours = voxels[:3]
    is_grey = len(voxels) in (3, 4) and bool((colours == colours[:1]).all())
    return voxels[:1] if channels == 1 and is_grey else voxels


def _with_slices(prediction: Prediction) -> Prediction:
    """Of a picture, as of one slice."""
    timesteps, information = prediction.timesteps, prediction.mutual_information
    return replace(
        prediction,
        segmentation=prediction.segmentation[None],
        probabilities=prediction.probabilities[:, None],
        entropy=prediction.entropy[None],
        timesteps=None if timesteps is None else {t: one[None] for t, one in timesteps.items()},
        mutual_information=None if information is None else information[None],
    )


def _resized(prediction: Prediction, size_px: SizePx) -> Prediction:
    """Of one slice, in another size: probabilities and entropy linearly, and labels as their most likely class."""
    probabilities = np.stack([resize_values(one[0], size_px)[None] for one in prediction.probabilities])
    timesteps, information = prediction.timesteps, prediction.mutual_information
    return replace(
        prediction,
        segmentation=_resized_labels(prediction.segmentation[0], size_px)[None],
        probabilities=probabilities,
        entropy=resize_values(prediction.entropy[0], size_px)[None],
        timesteps=None
        if timesteps is None
        else {t: _resized_labels(s[0], size_px)[None] for t, s in timesteps.items()},
        mutual_information=None if information is None else resize_values(information[0], size_px)[None],
    )


def _resized_labels(labels: np.ndarray, size_px: SizePx) -> np.ndarray:
    """Each new pixel has the label that most of what it covers has."""
    values = np.unique(labels)
    shares = [resize_values((labels == value).astype(np.float32), size_px) for value in values]
    return values[np.argmax(shares, axis=0)]
