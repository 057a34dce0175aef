"""Settings of the method: what the planner writes into the plans and the trainers and the network read from there.

They stand under the key `diffusion` of each configuration of the plans. Nothing of the method is hidden elsewhere.
"""

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any, TypeVar

PLANS_KEY = "diffusion"
LIBRARIES = ("diffusers", "monai", "guided_diffusion")
PUBLISHED_TIMESTEPS = (1, 10, 25, 50, 200, 400, 600, 800)
AVERAGINGS = ("softmax", "sigmoid")
INTERPOLATIONS = ("nearest", "linear")
OPTIMIZERS = ("AdamW", "SGD")
LOSS_WEIGHTINGS = ("noise", "min_snr", "prediction")
PRECISIONS = ("float32", "float16", "bfloat16")

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class LibrarySettings:
    """A U-Net of another library: its name, one of LIBRARIES, and the arguments of its constructor as JSON."""

    name: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DenoiserSettings:
    """The diffusion process and what the denoiser sees: `input_scale * image + input_shift`, per channel.

    `library` names the U-Net of a denoiser that was trained elsewhere; None is ours, built from `architecture`.
    """

    num_diffusion_steps: int = 1000
    schedule: str = "cosine"
    prediction_type: str = "v_prediction"
    input_scale: tuple[float, ...] = (1.0,)
    input_shift: tuple[float, ...] = (0.0,)
    library: LibrarySettings | None = field(default=None, metadata={"settings": LibrarySettings})

    @classmethod
    def from_plans(cls, configuration: Mapping[str, Any]) -> "DenoiserSettings":
        """Reads only these settings, so that a denoiser stays readable when others of the method change.

        Raises:
            ValueError: if the plans were not made by our planner or hold unknown settings of the denoiser.
        """
        return _from_dict(cls, _method_in(configuration).get("denoiser", {}), f"{PLANS_KEY}.denoiser")


@dataclass(frozen=True)
class PretrainingSettings:
    """Training of the denoiser. An epoch is nnU-Net's: a number of iterations.

    `timestep_bands` are the inner edges of the bands of timesteps in which losses are logged. `precision` None is
    nnU-Net's: float16 on CUDA, float32 elsewhere.
    """

    num_epochs: int = 1000
    num_iterations_per_epoch: int = 250
    batch_size: int = 32
    learning_rate: float = 4e-4
    warmup_iterations: int = 500
    gradient_clip: float = 1.0
    ema_decay: float = 0.9999
    validation_fraction: float = 0.05
    max_validation_images: int = 64
    timestep_bands: tuple[int, ...] = (25, 100, 250, 500)
    save_samples_every: int = 50
    num_samples: int = 16
    num_sampling_steps: int = 50
    seed: int = 12345
    max_hours: float | None = None
    loss_weighting: str = "noise"
    min_snr_gamma: float = 5.0
    precision: str | None = None


@dataclass(frozen=True)
class ContrastiveSettings:
    """Contrastive pretraining, global and then local, as Chaitanya et al. 2020 (arXiv 2006.10511) set it.

    Batch size, hold-out, warm-up, gradient clip, seed, time limit and precision are those of `pretraining`.
    `pretrained_checkpoint` is a result of such a pretraining made elsewhere.
    """

    num_epochs: int = 40
    num_iterations_per_epoch: int = 250
    learning_rate: float = 1e-3
    temperature: float = 0.1
    projection_features: int = 128
    num_decoder_stages: int = 2
    num_regions: int = 13
    region_size: int = 3
    pretrained_checkpoint: str | None = None


@dataclass(frozen=True)
class HeadSettings:
    """Pixel classifier: widths of its hidden layers and how features of coarse levels reach the image's size."""

    hidden_features: tuple[int, ...] = (128, 32)
    interpolation: str = "nearest"


@dataclass(frozen=True)
class EnsembleSettings:
    """The timesteps whose predictions are averaged, and how.

    `images_per_pass` bounds the memory: no more noised images than that go through the denoiser at once.
    """

    network_class_name: str = "nnunet_diffusion_ensemble.network.TimestepEnsembleNetwork"
    timesteps: tuple[int, ...] = PUBLISHED_TIMESTEPS
    averaging: str = "softmax"
    noise_seed: int = 12345
    images_per_pass: int = 64
    head: HeadSettings = field(default_factory=HeadSettings)


@dataclass(frozen=True)
class TrainingSettings:
    """Training of the head."""

    num_epochs: int = 50
    num_iterations_per_epoch: int = 250
    num_val_iterations_per_epoch: int = 10
    optimizer: str = "AdamW"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2


@dataclass(frozen=True)
class DiffusionMethod:
    """Everything of the method for one configuration of the plans.

    Raises:
        ValueError: at construction, for settings that contradict each other; the message says what is allowed.
    """

    denoiser: DenoiserSettings = field(default_factory=DenoiserSettings)
    pretraining: PretrainingSettings = field(default_factory=PretrainingSettings)
    ensemble: EnsembleSettings = field(default_factory=EnsembleSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    mirror_axes: tuple[int, ...] | None = None
    pretrained_checkpoint: str | None = None
    contrastive: ContrastiveSettings = field(default_factory=ContrastiveSettings)

    def __post_init__(self) -> None:
        _check_timesteps("ensemble.timesteps", self.ensemble.timesteps, self.denoiser.num_diffusion_steps)
        _check_bands(self.pretraining.timestep_bands, self.denoiser.num_diffusion_steps)
        _check_choice("ensemble.averaging", self.ensemble.averaging, AVERAGINGS)
        _check_choice("ensemble.head.interpolation", self.ensemble.head.interpolation, INTERPOLATIONS)
        if self.pretraining.precision is not None:
            _check_choice("pretraining.precision", self.pretraining.precision, PRECISIONS)
        _check_choice("training.optimizer", self.training.optimizer, OPTIMIZERS)
        if self.denoiser.library is not None:
            _check_choice("denoiser.library.name", self.denoiser.library.name, LIBRARIES)
        _check_choice("pretraining.loss_weighting", self.pretraining.loss_weighting, LOSS_WEIGHTINGS)
        if self.contrastive.num_regions == 1:
            raise ValueError(f"{PLANS_KEY}.contrastive.num_regions must be at least 2: regions are compared, got 1.")
        for name, value in _numbers_that_must_be_positive(self).items():
            if value <= 0:
                raise ValueError(f"{PLANS_KEY}.{name} must be positive, got {value}.")

    @classmethod
    def from_plans(cls, configuration: Mapping[str, Any]) -> "DiffusionMethod":
        """Reads the settings from one configuration of the plans.

        Raises:
            ValueError: if the plans were not made by our planner or hold unknown or contradictory settings.
        """
        return _from_dict(cls, _method_in(configuration), PLANS_KEY)

    def to_plans(self) -> dict[str, Any]:
        """The settings as they stand in the plans' JSON."""
        return asdict(self, dict_factory=lambda items: {k: list(v) if isinstance(v, tuple) else v for k, v in items})

    def with_options(self, options: Mapping[str, Any]) -> "DiffusionMethod":
        """A copy with changes named by dotted path, e.g. `{"ensemble.timesteps": (1, 50)}`.

        Raises:
            ValueError: for an unknown setting, or if the settings, all changes made, contradict each other.
        """
        values = self.to_plans()
        for path, value in options.items():
            *parents, name = path.split(".")
            part = values
            for parent in parents:
                part = part.setdefault(parent, {})
            part[name] = value
        return _from_dict(type(self), values, PLANS_KEY)


def _method_in(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    if PLANS_KEY not in configuration:
        raise ValueError(
            f"These plans have no {PLANS_KEY!r} settings. Plan with `nnUNetv2_plan_and_preprocess -d ID -pl "
            "DiffusionEnsemblePlanner` (or `nnunet-diffusion plan -d ID`) and train with "
            "`-p nnUNetDiffusionEnsemblePlans`."
        )
    return configuration[PLANS_KEY]


def _check_timesteps(name: str, timesteps: tuple[int, ...], num_diffusion_steps: int) -> None:
    if not timesteps or len(set(timesteps)) != len(timesteps):
        raise ValueError(f"{PLANS_KEY}.{name} must be one or more different timesteps, got {list(timesteps)}.")
    if min(timesteps) < 0 or max(timesteps) >= num_diffusion_steps:
        raise ValueError(
            f"{PLANS_KEY}.{name} must lie between 0 and {num_diffusion_steps - 1} "
            f"(num_diffusion_steps is {num_diffusion_steps}), got {list(timesteps)}."
        )


def _check_bands(inner_edges: tuple[int, ...], num_diffusion_steps: int) -> None:
    edges = (0, *inner_edges, num_diffusion_steps)
    if any(start >= end for start, end in pairwise(edges)):
        raise ValueError(
            f"{PLANS_KEY}.pretraining.timestep_bands must rise and lie between 1 and {num_diffusion_steps - 1} "
            f"(num_diffusion_steps is {num_diffusion_steps}), got {list(inner_edges)}."
        )


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{PLANS_KEY}.{name} must be one of {', '.join(allowed)}, got {value!r}.")


def _numbers_that_must_be_positive(method: DiffusionMethod) -> dict[str, float]:
    pretraining, training, ensemble = method.pretraining, method.training, method.ensemble
    numbers: dict[str, float] = {"ensemble.images_per_pass": ensemble.images_per_pass}
    for name in (
        "num_epochs",
        "num_iterations_per_epoch",
        "batch_size",
        "learning_rate",
        "num_samples",
        "min_snr_gamma",
    ):
        numbers[f"pretraining.{name}"] = getattr(pretraining, name)
    if pretraining.max_hours is not None:
        numbers["pretraining.max_hours"] = pretraining.max_hours
    for setting in fields(method.contrastive):
        if setting.name != "pretrained_checkpoint":
            numbers[f"contrastive.{setting.name}"] = getattr(method.contrastive, setting.name)
    for name in ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "learning_rate"):
        numbers[f"training.{name}"] = getattr(training, name)
    return numbers


def _from_dict(cls: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"Unknown settings {unknown} in {where!r} of the plans. Allowed: {sorted(known)}.")
    return cls(**{name: _read(known[name], value, f"{where}.{name}") for name, value in values.items()})


def _read(setting: Field, value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        if setting.default_factory is dict:  # what stands in it is another library's
            return dict(value)
        return _from_dict(setting.metadata.get("settings", setting.default_factory), value, where)
    return tuple(value) if isinstance(value, list) else value
