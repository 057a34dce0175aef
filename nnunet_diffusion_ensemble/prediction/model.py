"""A trained model that is read for prediction, with nnU-Net's predictor around it.

The predictor blends as many channels as it is told. It is told those of the ensemble followed by those of each
timestep, so that tiles, mirrored copies and folds are treated alike in all of them, and the ensemble's channels are
those of `nnUNetv2_predict` to the last bit.
"""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from nnunet_diffusion_ensemble.denoiser.denoising_error import denoising_error
from nnunet_diffusion_ensemble.denoiser.model import Denoiser, FrozenDenoiser
from nnunet_diffusion_ensemble.denoiser.pretrained import BEFORE_FINE_TUNING, pretrained_in, read_pretrained
from nnunet_diffusion_ensemble.denoiser.source import denoiser_file
from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint
from nnunet_diffusion_ensemble.nnunet.raw_cases import number_of_channels
from nnunet_diffusion_ensemble.prediction.chosen_timesteps import averaging_over
from nnunet_diffusion_ensemble.prediction.model_folder import (
    COPY,
    checkpoint_files,
    named_regions,
    read_descriptions,
    small_components,
    trainer_and_configuration,
)
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.system.messages import blaming

if TYPE_CHECKING:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


class TimestepChannels(nn.Module):
    """A network that shows the prediction of each timestep beside its own, in channels.

    Args:
        network: has `timestep_logits` and `average`, as `TimestepEnsembleNetwork` does.
        with_timesteps: otherwise its own prediction is all.
    """

    def __init__(self, network: nn.Module, with_timesteps: bool):
        super().__init__()
        self.network: Any = network
        self.with_timesteps = with_timesteps

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, *space) to log-probabilities (regions: logits) (N, (1 + timesteps) * classes, *space)."""
        if not self.with_timesteps:
            return self.network(images)
        logits = self.network.timestep_logits(images)
        single = [self.network.average(logits[i : i + 1]) for i in range(len(logits))]
        return torch.cat([self.network.average(logits), *single], dim=1)


@dataclass(frozen=True)
class TrainedModel:
    """A model that is ready to predict.

    Attributes:
        folder: where it was read from.
        predictor: nnU-Net's. It blends the channels of the network's prediction and then those of each timestep.
        module: what it runs.
        labels: what the channels of the network's prediction stand for.
        timesteps: those whose predictions are averaged; empty for a network that makes one prediction.
        denoisers: those whose mean error is measured, where that is not the network's own: the one that the user has
            named, or of each fold the one that was fine-tuned.
        removed: of which labels what components are removed, as `remove_small_components` has it.
    """

    folder: Path
    predictor: "nnUNetPredictor"
    module: TimestepChannels
    labels: LabelManager
    timesteps: tuple[int, ...]
    denoisers: tuple[Denoiser, ...] = ()
    removed: Sequence[tuple[tuple[int, ...], float]] = ()

    @property
    def dataset_json(self) -> dict[str, Any]:
        return self.predictor.dataset_json

    @property
    def num_channels(self) -> int:
        """Channels of an image."""
        return number_of_channels(self.dataset_json)

    @property
    def regions(self) -> dict[str, tuple[int, ...]]:
        """`named_regions` of the network's channels."""
        return named_regions(self.labels)

    def logits(self, image: Tensor) -> Tensor:
        """Blended log-probabilities (regions: logits) of a preprocessed image (channels, *space).

        Returns:
            (1 + timesteps, classes, *space) in float16 on the CPU: the network's prediction, then each timestep's.

        Raises:
            ValueError: they are not finite.
        """
        try:
            logits = self.predictor.predict_logits_from_preprocessed_data(image)
        except RuntimeError as error:
            if "Encountered inf" in str(error):  # nnU-Net's words
                raise ValueError(self._not_finite) from error
            raise
        if not torch.isfinite(logits).all():
            raise ValueError(self._not_finite)
        return logits.unflatten(0, (1 + len(self.timesteps), -1))

    @property
    def _not_finite(self) -> str:
        return (
            f"The model in {self.folder} predicts NaN or infinite values for an image whose values are finite: its "
            "training has diverged, or the image is far from those that it was trained on."
        )

    def denoising_error(self, image: Tensor) -> dict[int, float]:
        """`denoising_error` of a preprocessed image, averaged over folds; empty where there is no denoiser."""
        found = [self._error_of(denoiser, image) for denoiser in self.denoisers] or self._errors_of_frozen(image)
        return {t: fmean(errors[t] for errors in found) for t in found[0]} if found else {}

    def _errors_of_frozen(self, image: Tensor) -> list[dict[int, float]]:
        denoiser = getattr(self.module.network, "denoiser", None)
        if not isinstance(denoiser, FrozenDenoiser):
            return []
        found = []
        for weights in self.predictor.list_of_parameters:
            self.module.load_state_dict(weights)
            found.append(self._error_of(denoiser, image))
        return found

    def _error_of(self, denoiser: Denoiser, image: Tensor) -> dict[int, float]:
        patch_size = self.predictor.configuration_manager.patch_size
        return denoising_error(denoiser.to(self.predictor.device), image, patch_size)


@dataclass(frozen=True)
class ModelOnDemand:
    """A model whose plans are known, and whose weights are read once there is an image to predict.

    Attributes:
        plans: of the model.
        dataset_json: of the model.
        read: returns the model, the same each time.
    """

    plans: PlansManager
    dataset_json: Mapping[str, Any]
    read: Callable[[], TrainedModel]

    @classmethod
    def of(cls, model: TrainedModel) -> "ModelOnDemand":
        return cls(model.predictor.plans_manager, model.dataset_json, lambda: model)


def read_model(
    folder: Path,
    settings: PredictionSettings,
    denoiser: str | None = None,
) -> TrainedModel:
    """Reads a trained model, ours or one of any other trainer of nnU-Net.

    Args:
        folder: with plans.json, dataset.json and a folder for each fold.
        settings: folds, timesteps, device and the like.
        denoiser: checkpoint, or name of a shipped denoiser, whose error is measured instead of the network's own.

    Raises:
        FileNotFoundError: the folder is missing, is no trained model or lacks a fold.
        ValueError: a checkpoint is damaged, or is that of a pretraining, or the denoiser or the timesteps do not fit.
        NotImplementedError: for a cascade.
    """
    # It takes seconds to import, in which others read plans.
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    plans, dataset_json = read_descriptions(folder)
    files = checkpoint_files(folder, settings)
    checkpoints = [_with_finite_weights(read_checkpoint(file, trusted=True), file) for file in files]
    with blaming(folder / "dataset.json", COPY):
        labels, channels = plans.get_label_manager(dataset_json), number_of_channels(dataset_json)
    removed = small_components(folder, settings, named_regions(labels))
    with blaming(folder / "plans.json", COPY):
        trainer, configuration = trainer_and_configuration(plans, checkpoints[0], folder)
        if settings.timesteps is not None:
            name = checkpoints[0]["init_args"]["configuration"]
            plans = averaging_over(settings.timesteps, plans, name, trainer.__name__)
            configuration = plans.get_configuration(name)
        patch_size, _ = configuration.patch_size, plans.image_reader_writer_class
        network = trainer.build_network_architecture(
            plans, configuration, channels, labels.num_segmentation_heads, False
        )
    for file, checkpoint in zip(files[::-1], checkpoints[::-1], strict=True):  # those of the first fold stay
        with blaming(file, "It was trained with other plans. " + COPY):
            network.load_state_dict(checkpoint["network_weights"])
    denoisers = _fitting_denoisers(denoiser, channels, patch_size) or _before_fine_tuning(checkpoints, files)
    timesteps = _averaged_timesteps(network)
    module = TimestepChannels(network, with_timesteps=bool(timesteps))
    with contextlib.redirect_stdout(io.StringIO()):  # on a CPU it tells that it is none of CUDA's
        predictor = nnUNetPredictor(
            settings.tile_step_size,
            use_mirroring=settings.use_mirroring,
            device=torch.device(settings.device),
            allow_tqdm=False,
        )
    predictor.manual_initialization(
        module,
        plans,
        configuration,
        [_under_prefix(checkpoint["network_weights"]) for checkpoint in checkpoints],
        dataset_json,
        trainer.__name__,
        checkpoints[0].get("inference_allowed_mirroring_axes"),
    )
    # All that the predictor reads of it is how many channels to blend.
    predictor.label_manager = SimpleNamespace(
        num_segmentation_heads=(1 + len(timesteps)) * labels.num_segmentation_heads
    )
    return TrainedModel(folder, predictor, module, labels, timesteps, denoisers, removed)


def _with_finite_weights(checkpoint: dict[str, Any], file: Path) -> dict[str, Any]:
    weights = checkpoint["network_weights"]
    broken = [name for name, values in weights.items() if not torch.isfinite(values).all()]
    if broken:
        raise ValueError(
            f"{file} holds NaN or infinite weights ({broken[0]}{f' and {len(broken) - 1} more' * (len(broken) > 1)}): "
            "the training of this model has diverged. Train it again, or use an earlier checkpoint."
        )
    return checkpoint


def _fitting_denoisers(source: str | None, channels: int, patch_size: Sequence[int]) -> tuple[Denoiser, ...]:
    if source is None:
        return ()
    pretrained = read_pretrained(denoiser_file(source))
    if pretrained.channels != channels:
        raise ValueError(f"The denoiser {source} takes {pretrained.channels} channel(s), the images have {channels}.")
    denoiser = pretrained.module()
    denoiser.unet.check_size(patch_size)
    return (denoiser,)


def _before_fine_tuning(checkpoints: Sequence[Mapping[str, Any]], files: Sequence[Path]) -> tuple[Denoiser, ...]:
    if BEFORE_FINE_TUNING not in checkpoints[0]:
        return ()
    both = zip(checkpoints, files, strict=True)
    return tuple(pretrained_in(checkpoint, file, trusted=True).module() for checkpoint, file in both)


def _under_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"network.{name}": weight for name, weight in weights.items()}


@torch.inference_mode()
def _averaged_timesteps(network: Any) -> tuple[int, ...]:
    """Empty where there is one prediction only; the network itself is asked, with the smallest image it can take."""
    if not hasattr(network, "timestep_logits"):
        return ()
    unet = network.denoiser.unet
    size = [2 * divisor for divisor in unet.size_divisors]
    channels = network.denoiser.input_scale.shape[1]
    predictions = network.eval().timestep_logits(torch.zeros(1, channels, *size))
    return tuple(network.settings.timesteps) if len(predictions) > 1 else ()
