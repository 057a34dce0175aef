"""A denoiser that another library trained, as one of ours: weights, schedule and settings for the plans."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunet_diffusion_ensemble.denoiser.channels import adapt_channels
from nnunet_diffusion_ensemble.denoiser.foreign.saved_model import SavedModel
from nnunet_diffusion_ensemble.denoiser.model import Denoiser
from nnunet_diffusion_ensemble.method import FROM_CHECKPOINT, LIBRARIES, DenoiserSettings, LibrarySettings
from nnunet_diffusion_ensemble.nnunet.checkpoint import write_checkpoint
from nnunet_diffusion_ensemble.nnunet.pretrainings import DENOISER, PRETRAINS, TRAINER_OF
from nnunet_diffusion_ensemble.nnunet.shapes import different_shapes, listed

TRAINED_ELSEWHERE = -1  # as number of iterations

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ForeignDenoiser:
    """A denoiser of another library.

    Attributes:
        settings: for `diffusion.denoiser` of the plans.
        state_dict: of our `Denoiser` with these settings.
        channels: of the images.
        dimension: 2 or 3.
        divisors: along each axis the number that the patch size must be a multiple of.
        image_range: of the images that it was trained on.
        native_size: spatial size of these images, if it is known.
    """

    settings: DenoiserSettings
    state_dict: Mapping[str, Tensor]
    channels: int
    dimension: int
    divisors: tuple[int, ...]
    image_range: tuple[float, float]
    native_size: tuple[int, ...] | None

    def for_images(self, input_scale: Sequence[float], input_shift: Sequence[float]) -> "ForeignDenoiser":
        """This denoiser for images with as many channels as there are values, scaled so.

        For another number of channels the first and the last convolution are adapted (see `channels.py`), with a
        warning in the log.

        Args:
            input_scale: per channel; what the denoiser sees is `scale * preprocessed + shift`.
            input_shift: per channel.
        """
        channels = len(input_scale)
        library = self.settings.library
        assert library is not None
        if channels != self.channels:
            logger.warning(
                f"The denoiser was trained on images of {self.channels} channels, these have {channels}: each channel "
                "gets the mean of its first convolution's weights, rescaled, and of its last one's."
            )
        arguments = {**library.arguments, "in_channels": channels, "out_channels": channels}
        settings = self.settings.changed(
            input_scale=tuple(input_scale),
            input_shift=tuple(input_shift),
            library=LibrarySettings(name=library.name, arguments=arguments),
        )
        layers = LIBRARIES[library.name]
        first, last = f"{layers.prefix}{layers.first}.weight", f"{layers.prefix}{layers.last}"
        state_dict = adapt_channels(self.state_dict, [first], last, channels)
        per_channel = (1, channels, *[1] * self.dimension)
        state_dict["input_scale"] = torch.tensor(settings.input_scale).reshape(per_channel)
        state_dict["input_shift"] = torch.tensor(settings.input_shift).reshape(per_channel)
        return replace(self, settings=settings, state_dict=state_dict, channels=channels)

    def module(self) -> Denoiser:
        """The denoiser itself, in eval mode on the CPU."""
        denoiser = Denoiser({}, self.channels, self.settings)
        denoiser.load_state_dict(self.state_dict)
        return denoiser.eval()

    def save_checkpoint(self, file: Path, plans: Mapping[str, Any], configuration: str) -> None:
        """Writes it as a checkpoint of pretraining, for `pretrained_checkpoint` of the plans.

        Args:
            file: checkpoint to write.
            plans: the plans, with `settings` in this configuration.
            configuration: e.g. `2d`.
        """
        checkpoint = {
            "network_weights": {f"denoiser.{name}": value for name, value in self.state_dict.items()},
            "init_args": {"plans": dict(plans), "configuration": configuration},
            "trainer_name": TRAINER_OF[DENOISER],
            PRETRAINS: DENOISER,
        }
        write_checkpoint(checkpoint, file)


def read_foreign(source: str) -> ForeignDenoiser:
    """Reads what another library saved.

    Args:
        source: `LIBRARY:PATH`, e.g. `diffusers:FOLDER`, `monai:model.pt` or `guided_diffusion:FOLDER`.

    Raises:
        ValueError, FileNotFoundError: if there is no such model, or it cannot be used here; the message says why.
        RuntimeError: if the library is not installed.
    """
    library, path = parse_source(source)
    saved = LIBRARIES[library].read(path)
    channels = _channels(saved, path)
    settings = _settings(library, saved, channels)
    try:
        denoiser = Denoiser({}, channels, settings)
    except ValueError as error:
        raise ValueError(f"The model in {path} cannot be used: {error}") from error
    _load(denoiser, _unet_weights(library, saved, channels), path)
    denoiser.schedule.alpha_bar.copy_(saved.alpha_bar)
    denoiser.intensity_range.copy_(torch.tensor(saved.image_range))
    denoiser.trained_iterations.fill_(TRAINED_ELSEWHERE)
    return ForeignDenoiser(
        settings,
        denoiser.state_dict(),
        channels,
        denoiser.unet.dimension,
        denoiser.unet.size_divisors,
        saved.image_range,
        saved.native_size,
    )


def parse_source(source: str) -> tuple[str, Path]:
    """Library and path of `LIBRARY:PATH`.

    Raises:
        ValueError: for anything else.
    """
    library, separator, path = source.partition(":")
    if not separator or library not in LIBRARIES or not path:
        raise ValueError(
            f"A denoiser that was trained elsewhere is named LIBRARY:PATH with {', '.join(LIBRARIES)} as library, "
            f"e.g. diffusers:FOLDER; got {source!r}."
        )
    return library, Path(path)


def _channels(saved: SavedModel, path: Path) -> int:
    channels, written = (saved.arguments.get(f"{which}_channels") for which in ("in", "out"))
    if not isinstance(channels, int) or channels < 1:
        raise ValueError(f"{path} does not say its number of channels: in_channels is {channels!r}.")
    if written != channels * (1 + saved.learns_variance):
        raise ValueError(
            f"The model in {path} reads {channels} channels and writes {written}. A denoiser writes as many as it "
            "reads, or twice as many if its scheduler says that it learns the variance."
        )
    return channels


def _settings(library: str, saved: SavedModel, channels: int) -> DenoiserSettings:
    arguments = {**saved.arguments, "in_channels": channels, "out_channels": channels}
    return DenoiserSettings.read(
        {
            "num_diffusion_steps": len(saved.alpha_bar),
            "schedule": FROM_CHECKPOINT,
            "prediction_type": saved.prediction_type,
            "input_scale": (1.0,) * channels,
            "input_shift": (0.0,) * channels,
            "library": {"name": library, "arguments": arguments},
        }
    )


def _unet_weights(library: str, saved: SavedModel, channels: int) -> dict[str, Tensor]:
    """Under the names of our state dict, and without the half of the output that is a variance."""
    layers, weights = LIBRARIES[library], dict(saved.weights)
    if saved.learns_variance:
        for name in {f"{layers.last}.weight", f"{layers.last}.bias"} & set(weights):
            weights[name] = weights[name][:channels].clone()
    return {layers.prefix + name: weight for name, weight in weights.items()}


def _load(denoiser: Denoiser, weights: Mapping[str, Tensor], path: Path) -> None:
    own, found = (
        {name.removeprefix("unet."): value for name, value in state.items() if name.startswith("unet.")}
        for state in (denoiser.state_dict(), weights)
    )
    if differences := different_shapes(found, own, "in the file", "by its arguments"):
        raise ValueError(
            f"The weights in {path} are not those of the U-Net that its arguments describe "
            f"({len(differences)} differences):{listed(differences)}"
        )
    denoiser.load_state_dict(weights, strict=False)
