"""Settings of the method: what the planner writes into the plans and the trainers and the network read from there.

They stand under the key `diffusion` of each configuration of the plans. Nothing of the method is hidden elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from nnunet_diffusion_ensemble.settings import check_values, from_dict, one_of, positive

PLANS_KEY = "diffusion"
LIBRARIES = ("diffusers", "monai", "guided_diffusion")
PUBLISHED_TIMESTEPS = (1, 10, 25, 50, 200, 400, 600, 800)
AVERAGINGS = ("softmax", "sigmoid")
MEAN_PREDICTION, CONCATENATED_FEATURES = FUSIONS = ("mean_prediction", "concatenated_features")
INTERPOLATIONS = ("nearest", "linear")
OPTIMIZERS = ("AdamW", "SGD")
LOSS_WEIGHTINGS = ("noise", "min_snr", "prediction")
AUGMENTATIONS = ("nnunet", "shift")
PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class LibrarySettings:
    """A U-Net of another library: its name, one of LIBRARIES, and the arguments of its constructor as JSON."""

    name: str = one_of(LIBRARIES, "")
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
        return from_dict(cls, _method_in(configuration).get("denoiser", {}), f"{PLANS_KEY}.denoiser")


@dataclass(frozen=True)
class PretrainingSettings:
    """Training of the denoiser. An epoch is nnU-Net's: a number of iterations.

    `augmentation` is nnU-Net's, without its changes of intensity, or that for another hospital, with its own.
    `timestep_bands` are the inner edges of the bands of timesteps in which losses are logged. `precision` None is
    nnU-Net's: float16 on CUDA, float32 elsewhere.
    """

    num_epochs: int = positive(1000)
    num_iterations_per_epoch: int = positive(250)
    batch_size: int = positive(32)
    learning_rate: float = positive(4e-4)
    warmup_iterations: int = 500
    gradient_clip: float = 1.0
    ema_decay: float = 0.9999
    validation_fraction: float = 0.05
    max_validation_images: int = 64
    timestep_bands: tuple[int, ...] = (25, 100, 250, 500)
    save_samples_every: int = 50
    num_samples: int = positive(16)
    num_sampling_steps: int = 50
    seed: int = 12345
    max_hours: float | None = positive(None)
    loss_weighting: str = one_of(LOSS_WEIGHTINGS, "noise")
    min_snr_gamma: float = positive(5.0)
    precision: str | None = one_of(PRECISIONS, None)
    augmentation: str = one_of(AUGMENTATIONS, "nnunet")


@dataclass(frozen=True)
class ContrastiveSettings:
    """Contrastive pretraining, global and then local, as Chaitanya et al. 2020 (arXiv 2006.10511) set it.

    Batch size, hold-out, warm-up, gradient clip, seed, time limit and precision are those of `pretraining`.
    `pretrained_checkpoint` is a result of such a pretraining made elsewhere.
    """

    num_epochs: int = positive(40)
    num_iterations_per_epoch: int = positive(250)
    learning_rate: float = positive(1e-3)
    temperature: float = positive(0.1)
    projection_features: int = positive(128)
    num_decoder_stages: int = positive(2)
    num_regions: int = positive(13)
    region_size: int = positive(3)
    pretrained_checkpoint: str | None = None


@dataclass(frozen=True)
class HeadSettings:
    """Pixel classifier: widths of its hidden layers and how features of coarse levels reach the image's size.

    `finest_levels` is how many levels of the decoder it reads, the finest ones; None is all of them. `kernel_size` is
    that of the convolutions after the first one, which brings the levels together pixel by pixel.
    """

    hidden_features: tuple[int, ...] = (128, 32)
    kernel_size: int = positive(3)
    interpolation: str = one_of(INTERPOLATIONS, "nearest")
    finest_levels: int | None = positive(None)


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
    fusion: str = one_of(FUSIONS, MEAN_PREDICTION)
    averaging: str = one_of(AVERAGINGS, "softmax")
    adds_noise: bool = one_of((True, False), True)
    noise_seed: int = 12345
    images_per_pass: int = positive(64)
    head: HeadSettings = field(default_factory=HeadSettings)


@dataclass(frozen=True)
class TrainingSettings:
    """Training of the head, and of the denoiser if it is fine-tuned with it, at a learning rate of its own.

    Each training image is noised to `timesteps_per_image` of the timesteps in an iteration, drawn anew; None is all of
    them. Prediction uses all. `augmentation` is nnU-Net's or that for another hospital.
    """

    num_epochs: int = positive(50)
    num_iterations_per_epoch: int = positive(250)
    num_val_iterations_per_epoch: int = positive(10)
    optimizer: str = one_of(OPTIMIZERS, "AdamW")
    learning_rate: float = positive(1e-3)
    weight_decay: float = 1e-2
    fine_tune_denoiser: bool = one_of((True, False), False)
    denoiser_learning_rate: float = positive(1e-4)
    timesteps_per_image: int | None = 1
    augmentation: str = one_of(AUGMENTATIONS, "nnunet")


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
        check_values(self, PLANS_KEY)
        steps = self.denoiser.num_diffusion_steps
        _check_timesteps("ensemble.timesteps", self.ensemble.timesteps, steps)
        _check_timesteps("ensemble.single_timestep", (self.ensemble.single_timestep,), steps)
        _check_timesteps_per_image(self.training.timesteps_per_image, self.ensemble)
        _check_bands(self.pretraining.timestep_bands, steps)
        _check_sizes(self)

    @classmethod
    def from_plans(cls, configuration: Mapping[str, Any]) -> "DiffusionMethod":
        """Reads the settings from one configuration of the plans.

        Raises:
            ValueError: if the plans were not made by our planner or hold unknown or contradictory settings.
        """
        return from_dict(cls, _method_in(configuration), PLANS_KEY)

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
        return from_dict(type(self), values, PLANS_KEY)


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


def _check_timesteps_per_image(number: int | None, ensemble: EnsembleSettings) -> None:
    if number is None:
        return
    if ensemble.fusion == CONCATENATED_FEATURES:
        raise ValueError(
            f"{PLANS_KEY}.training.timesteps_per_image is {number}, but a head on concatenated features "
            f"({PLANS_KEY}.ensemble.fusion) needs those of all timesteps: set it to null."
        )
    if number not in range(1, len(ensemble.timesteps) + 1):
        raise ValueError(
            f"{PLANS_KEY}.training.timesteps_per_image must lie between 1 and {len(ensemble.timesteps)}, the number of "
            f"{PLANS_KEY}.ensemble.timesteps, or be null for all of them; got {number}."
        )


def _check_bands(inner_edges: tuple[int, ...], num_diffusion_steps: int) -> None:
    edges = (0, *inner_edges, num_diffusion_steps)
    if any(start >= end for start, end in pairwise(edges)):
        raise ValueError(
            f"{PLANS_KEY}.pretraining.timestep_bands must rise and lie between 1 and {num_diffusion_steps - 1} "
            f"(num_diffusion_steps is {num_diffusion_steps}), got {list(inner_edges)}."
        )


def _check_sizes(method: DiffusionMethod) -> None:
    kernel_size = method.ensemble.head.kernel_size
    if kernel_size % 2 == 0:
        raise ValueError(
            f"{PLANS_KEY}.ensemble.head.kernel_size must be odd, so that what a pixel depends on lies around it; got "
            f"{kernel_size}."
        )
    if method.contrastive.num_regions == 1:
        raise ValueError(f"{PLANS_KEY}.contrastive.num_regions must be at least 2: regions are compared, got 1.")
