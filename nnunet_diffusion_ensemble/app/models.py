"""The models that the page offers: the one that ships with the package, and any results folder of nnU-Net."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

from nnunet_diffusion_ensemble.api.model import LoadedModel, load_model
from nnunet_diffusion_ensemble.app.training_scores import scores_of_preprocessed, scores_of_shipped
from nnunet_diffusion_ensemble.calibration.predicted_dice import DicePrediction
from nnunet_diffusion_ensemble.data.pixels import SizePx
from nnunet_diffusion_ensemble.demo.shipped_model import SIZE_PX, lay_out_model
from nnunet_diffusion_ensemble.prediction.calibrated import usable_calibration
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.system.settings import Fold

SHIPPED = "Lungs on chest X-rays (demo model)"
FINAL = "checkpoint_final.pth"


@dataclass(frozen=True)
class PageModel:
    """A model, ready to predict.

    Attributes:
        title: how the page calls it.
        loaded: the model.
        size_px: what pictures are brought to before and masks from afterwards; None leaves that to nnU-Net.
        calibration: what predicts Dice, or why what there is is not used; None where there is none.
    """

    title: str
    loaded: LoadedModel
    size_px: SizePx | None = None
    calibration: DicePrediction | str | None = None

    @property
    def reads_pictures(self) -> bool:
        """Whether it was trained on pictures, whose pixels have the size 1 whatever they show."""
        return self.loaded.trained.predictor.plans_manager.image_reader_writer_class is NaturalImage2DIO

    @cached_property
    def training_scores(self) -> tuple[float, ...]:
        """Denoising errors of images that it was trained on; empty where there is no denoiser or no such image."""
        if self.size_px is not None:
            return scores_of_shipped(self.loaded, self.size_px)
        return scores_of_preprocessed(self.loaded)


def shipped_model(timesteps: Sequence[int] | None = None, device: str | None = None) -> PageModel:
    """The model that ships with the package, for frontal chest X-rays."""
    with TemporaryDirectory() as folder:
        loaded = load_model(lay_out_model(Path(folder)), folds=0, timesteps=timesteps, device=device)
    return PageModel(SHIPPED, loaded, SIZE_PX)


def model_of_folder(folder: str, timesteps: Sequence[int] | None = None, device: str | None = None) -> PageModel:
    """A results folder with all of its finished folds.

    Raises:
        FileNotFoundError: it is no results folder, or has no finished fold.
        ValueError, NotImplementedError: as `load_model`.
    """
    if not folder.strip():
        raise ValueError("Name a results folder: nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION.")
    path = Path(folder.strip()).expanduser()
    found = sorted(file.parent.name.removeprefix("fold_") for file in path.glob(f"fold_*/{FINAL}"))
    if not found:
        raise FileNotFoundError(
            f"{path} has no finished fold (fold_0/{FINAL}). Name a results folder: "
            "nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION."
        )
    folds: tuple[Fold, ...] = tuple(int(fold) for fold in found if fold.isdigit()) or ("all",)
    loaded = load_model(path, folds=folds, timesteps=timesteps, device=device)
    return PageModel(path.name, loaded, calibration=_calibration(path, folds, timesteps is not None))


def _calibration(folder: Path, folds: Sequence[Fold], is_part: bool) -> DicePrediction | str | None:
    """That of these folds' mean prediction, or why it is not used.

    Args:
        folder: of the model.
        folds: that are averaged.
        is_part: whether only some of the timesteps are.
    """
    settings = PredictionSettings(folds=tuple(folds), device="cpu")  # the device is no part of a calibration
    try:
        use, why_not = usable_calibration(folder, settings)
    except ValueError as error:
        return str(error)
    if use is None:
        return why_not or None
    if use.calibration.dice is None:
        return f"{use.file.name} holds a temperature alone, so that no Dice is predicted"
    if is_part:
        return f"{use.file.name} was fitted with all timesteps, and these are some of them"
    return use.calibration.dice


class Models:
    """The last model that was asked for, kept: the next image is most likely for the same one."""

    def __init__(self, device: str | None = None):
        self.device = device
        self._all_timesteps: dict[str | None, tuple[int, ...] | None] = {}  # by folder
        self._key: tuple[str | None, tuple[int, ...] | None] | None = None
        self._model: PageModel | None = None

    def get(self, folder: str | None, timesteps: Sequence[int] | None = None) -> PageModel:
        """The shipped model, or that of a folder. Raises as `model_of_folder`.

        Args:
            folder: None is the shipped model.
            timesteps: whose predictions are averaged; None, or all of them, is as the plans say.
        """
        chosen = None if timesteps is None else tuple(sorted(timesteps))
        key = (folder, None if chosen == self._all_timesteps.get(folder) else chosen)
        if self._model is None or key != self._key:
            make = shipped_model if folder is None else None
            self._model = make(key[1], self.device) if make else model_of_folder(str(folder), key[1], self.device)
            self._key = key
            if key[1] is None:
                self._all_timesteps[folder] = self._model.loaded.timesteps
        return self._model
