"""Settings of what is trained with labels: head, ensemble over timesteps, and their training."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from nnunet_diffusion_ensemble.method.denoiser import PLANS_KEY
from nnunet_diffusion_ensemble.method.pretraining import AugmentationName, Precision
from nnunet_diffusion_ensemble.method.timesteps import PUBLISHED_TIMESTEPS, TIMESTEP_SETTINGS
from nnunet_diffusion_ensemble.system.allowed import WORDS
from nnunet_diffusion_ensemble.system.mistakes import must_be
from nnunet_diffusion_ensemble.system.settings import Count, Listed, Once, Positive, Seed, Settings, Text

MEAN_PREDICTION: Final = "mean_prediction"
CONCATENATED_FEATURES: Final = "concatenated_features"
Timestep = Annotated[int, Field(ge=0)]


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise must_be("odd, so that what a pixel depends on lies around it")
    return size


class HeadSettings(Settings):
    """Pixel classifier on the features of the denoiser."""

    where = f"{PLANS_KEY}.ensemble.head"

    hidden_features: Listed[Count] = Field((128, 32), description="widths of its hidden layers; `[]` is a linear head")
    kernel_size: Annotated[Count, AfterValidator(_odd)] = Field(
        3,
        description="of its layers after the first, which brings the levels together pixel by pixel (1: each pixel by "
        "itself, as published; 3: with its neighbours)",
        json_schema_extra={WORDS: "an odd whole number of at least 1"},
    )
    interpolation: Literal["nearest", "linear"] = Field(
        "nearest", description="how features of coarse levels reach the image's size"
    )
    finest_levels: Count | None = Field(
        None, description="how many decoder levels it reads, the finest ones; `null`: all"
    )


class EnsembleSettings(Settings):
    """The timesteps at which the denoiser is read, and how they are brought together."""

    where = f"{PLANS_KEY}.ensemble"

    network_class_name: Text = Field(
        "nnunet_diffusion_ensemble.network.TimestepEnsembleNetwork", description="the network, by dotted path"
    )
    timesteps: Annotated[Listed[Timestep], Once] = Field(
        PUBLISHED_TIMESTEPS,
        min_length=1,
        description="timesteps at which the denoiser is read. Default: those of 1000 steps; of another number as far "
        "on the way. Where the denoiser is fine-tuned the planner chooses the four smallest",
    )
    single_timestep: Timestep = Field(
        TIMESTEP_SETTINGS["ensemble.single_timestep"][1], description="the one timestep of `SingleTimestepTrainer`"
    )
    fusion: Literal["mean_prediction", "concatenated_features"] = Field(
        MEAN_PREDICTION,
        description="one head for all timesteps and the mean of its predictions, or one head on the features of all",
    )
    averaging: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="of predictions; `sigmoid` for regions. The planner chooses"
    )
    adds_noise: bool = Field(True, description="`false`: the denoiser sees the image itself, and is told the timesteps")
    noise_seed: Seed = Field(
        12345,
        description="of the noise; the denoising error of `nnunet-diffusion predict` has a seed of its own, so that "
        "models can be compared",
    )
    images_per_pass: Count = Field(
        64,
        description="most noised images in one pass of the denoiser; lower it when memory runs out (batch norm and "
        "batch Dice of the training are then those of one pass). With concatenated features it bounds the denoiser's "
        "passes, but training keeps the features of all timesteps, and all of a fine-tuned denoiser's activations. "
        "The planner chooses",
    )
    head: HeadSettings = Field(default_factory=HeadSettings, description="the pixel classifier")


class TrainingSettings(Settings):
    """Training of the head, and of the denoiser if it is fine-tuned with it."""

    where = f"{PLANS_KEY}.training"

    num_epochs: Count = Field(50, description="epochs of the segmentation training")
    num_iterations_per_epoch: Count = Field(250, description="iterations in each epoch")
    num_val_iterations_per_epoch: Count = Field(10, description="iterations of validation in each epoch")
    optimizer: Literal["AdamW", "SGD"] = Field("AdamW", description="of the segmentation training")
    learning_rate: Positive = Field(1e-3, description="of the head; decays polynomially")
    weight_decay: float = Field(1e-2, ge=0, description="of the optimizer")
    fine_tune_denoiser: bool = Field(
        False, description="whether the denoiser, of any library, learns with the head. The planner chooses"
    )
    head_first: float = Field(
        0.0, ge=0, lt=1, description="share of the epochs, the first ones, in which the head learns alone even then"
    )
    denoiser_learning_rate: Positive = Field(1e-4, description="of the denoiser then; decays alike")
    timesteps_per_image: Count | None = Field(
        1,
        description="each training image draws so many of the timesteps, all different, anew in each iteration; "
        "`null`: it has all, as published. Prediction reads all",
    )
    augmentation: AugmentationName = Field(
        "nnunet",
        description="`nnunet`, or `shift`: translation, unequal scaling and changed intensities in every image. The "
        "planner chooses `shift`",
    )
    precision: Precision | None = Field(
        None,
        description="of the segmentation training; `null` is nnU-Net's choice. `bfloat16` is faster on CPUs with "
        "instructions for it (AMX, AVX512-BF16)",
    )
