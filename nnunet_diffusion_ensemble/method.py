"""Settings of the method: what the planner writes into the plans and the trainers and the network read from there.

They stand under the key `diffusion` of each configuration of the plans. Nothing of the method is hidden elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any, TypeVar

PLANS_KEY = "diffusion"
LIBRARIES = ("diffusers", "monai", "guided_diffusion")
PUBLISHED_TIMESTEPS = (1, 10, 25, 50, 200, 400, 600, 800)
AVERAGINGS = ("softmax", "sigmoid")
MEAN_PREDICTION, CONCATENATED_FEATURES = FUSIONS = ("mean_prediction", "concatenated_features")
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
    """Pixel classifier: widths of its hidden layers and how features of coarse levels reach the image's size.

    `finest_levels` is how many levels of the decoder it reads, the finest ones; None is all of them.
    """

    hidden_features: tuple[int, ...] = (128, 32)
    interpolation: str = "nearest"
    finest_levels: int | None = None


@dataclass(frozen=True)
class EnsembleSettings:
    """The timesteps at which the denoiser is read, and how they are brought together.

    `fusion`: one head for all timesteps, whose predictions are averaged, or one head on the features of all of them.
    `averaging` is that of predictions. `single_timestep` is the one of `SingleTimestepTrainer`. Without `adds_noise`
    the denoiser is told a timestep, but sees the image itself. `images_per_pass` bounds the memory: no more noised
    images than that go through the denoiser at once.
    """

    network_class_name: str = "nnunet_diffusion_ensemble.network.TimestepEnsembleNetwork"
    timesteps: tuple[int, ...] = PUBLISHED_TIMESTEPS
    single_timestep: int = 1
    fusion: str = MEAN_PREDICTION
    averaging: str = "softmax"
    adds_noise: bool = True
    noise_seed: int = 12345
    images_per_pass: int = 64
    head: HeadSettings = field(default_factory=HeadSettings)


@dataclass(frozen=True)
class TrainingSettings:
    """Training of the head, and of the denoiser if it is fine-tuned with it, at a learning rate of its own.

    With `timesteps_per_image` each training image is noised to so many of the timesteps in an iteration, drawn anew;
    None is all of them. With `timestep_range`, its lowest and highest timestep, they are drawn from the whole range, so
    that noise augments the images; None for `timesteps_per_image` is then 1. Prediction uses the ensemble's timesteps.

    For a share `frozen_share` of the epochs, at the start, only the head of a fine-tuned denoiser learns.
    """

    num_epochs: int = 50
    num_iterations_per_epoch: int = 250
    num_val_iterations_per_epoch: int = 10
    optimizer: str = "AdamW"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    fine_tune_denoiser: bool = False
    denoiser_learning_rate: float = 1e-4
    frozen_share: float = 0.1
    timesteps_per_image: int | None = None
    timestep_range: tuple[int, ...] | None = None


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
        for name in ("timesteps", "single_timestep"):
            value = getattr(self.ensemble, name)
            timesteps = value if isinstance(value, tuple) else (value,)
            _check_timesteps(f"ensemble.{name}", timesteps, self.denoiser.num_diffusion_steps)
        _check_drawn_timesteps(self.training, self.ensemble, self.denoiser.num_diffusion_steps)
        _check_bands(self.pretraining.timestep_bands, self.denoiser.num_diffusion_steps)
        _check_choice("ensemble.fusion", self.ensemble.fusion, FUSIONS)
        _check_choice("ensemble.averaging", self.ensemble.averaging, AVERAGINGS)
        _check_choice("ensemble.adds_noise", self.ensemble.adds_noise, (True, False))
        _check_choice("ensemble.head.interpolation", self.ensemble.head.interpolation, INTERPOLATIONS)
        if self.pretraining.precision is not None:
            _check_choice("pretraining.precision", self.pretraining.precision, PRECISIONS)
        _check_choice("training.optimizer", self.training.optimizer, OPTIMIZERS)
        _check_choice("training.fine_tune_denoiser", self.training.fine_tune_denoiser, (True, False))
        if self.denoiser.library is not None:
            _check_choice("denoiser.library.name", self.denoiser.library.name, LIBRARIES)
        _check_choice("pretraining.loss_weighting", self.pretraining.loss_weighting, LOSS_WEIGHTINGS)
        if not 0 <= self.training.frozen_share <= 1:
            raise ValueError(
                f"{PLANS_KEY}.training.frozen_share must lie between 0 and 1, got {self.training.frozen_share}."
            )
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


def timesteps_on_the_way(timesteps: Sequence[int], num_diffusion_steps: int) -> tuple[int, ...]:
    """Timesteps of the usual 1000 steps as those of another length that are as far on the way, in rising order."""
    scaled = (round(t * num_diffusion_steps / DenoiserSettings().num_diffusion_steps) for t in timesteps)
    return tuple(sorted({min(t, num_diffusion_steps - 1) for t in scaled}))


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


def _check_drawn_timesteps(training: TrainingSettings, ensemble: EnsembleSettings, num_diffusion_steps: int) -> None:
    number, ends = training.timesteps_per_image, training.timestep_range
    if ensemble.fusion == CONCATENATED_FEATURES and (number, ends) != (None, None):
        raise ValueError(
            f"{PLANS_KEY}.training.timesteps_per_image is {number} and timestep_range {ends}, but a head on "
            f"concatenated features ({PLANS_KEY}.ensemble.fusion) needs those of all timesteps: set both to null."
        )
    if ends is not None:
        _check_timestep_range(ends, ensemble.adds_noise, num_diffusion_steps)
    available = len(ensemble.timesteps) if ends is None else ends[1] - ends[0] + 1
    if number is not None and number not in range(1, available + 1):
        raise ValueError(
            f"{PLANS_KEY}.training.timesteps_per_image must lie between 1 and {available}, the number of timesteps to "
            f"draw from, or be null; got {number}."
        )


def _check_timestep_range(ends: tuple[int, ...], adds_noise: bool, num_diffusion_steps: int) -> None:
    if len(ends) != 2 or not 0 <= ends[0] < ends[1] < num_diffusion_steps:
        raise ValueError(
            f"{PLANS_KEY}.training.timestep_range must be a lowest and a highest timestep between 0 and "
            f"{num_diffusion_steps - 1}, e.g. [0, {2 * num_diffusion_steps // 5}], got {list(ends)}."
        )
    if not adds_noise:
        raise ValueError(
            f"{PLANS_KEY}.training.timestep_range is {list(ends)}, but {PLANS_KEY}.ensemble.adds_noise is false. "
            "Set the range to null, or adds_noise to true."
        )


def _check_bands(inner_edges: tuple[int, ...], num_diffusion_steps: int) -> None:
    edges = (0, *inner_edges, num_diffusion_steps)
    if any(start >= end for start, end in pairwise(edges)):
        raise ValueError(
            f"{PLANS_KEY}.pretraining.timestep_bands must rise and lie between 1 and {num_diffusion_steps - 1} "
            f"(num_diffusion_steps is {num_diffusion_steps}), got {list(inner_edges)}."
        )


def _check_choice(name: str, value: str | bool, allowed: tuple[str | bool, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{PLANS_KEY}.{name} must be one of {', '.join(map(str, allowed))}, got {value!r}.")


def _numbers_that_must_be_positive(method: DiffusionMethod) -> dict[str, float]:
    pretraining, training, ensemble = method.pretraining, method.training, method.ensemble
    numbers: dict[str, float] = {"ensemble.images_per_pass": ensemble.images_per_pass}
    if ensemble.head.finest_levels is not None:
        numbers["ensemble.head.finest_levels"] = ensemble.head.finest_levels
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
    for name in (
        "num_epochs",
        "num_iterations_per_epoch",
        "num_val_iterations_per_epoch",
        "learning_rate",
        "denoiser_learning_rate",
    ):
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
