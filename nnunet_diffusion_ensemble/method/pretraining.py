"""Settings of pretraining: that of the denoiser, and contrastive pretraining for comparison."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nnunet_diffusion_ensemble.method.denoiser import PLANS_KEY
from nnunet_diffusion_ensemble.method.timesteps import NUM_SAMPLING_STEPS, TIMESTEP_SETTINGS
from nnunet_diffusion_ensemble.system.mistakes import must_be
from nnunet_diffusion_ensemble.system.settings import Count, Listed, Positive, Seed, Settings, Text

AugmentationName = Literal["nnunet", "shift"]
Precision = Literal["float32", "float16", "bfloat16"]


def _rising(edges: tuple[int, ...]) -> tuple[int, ...]:
    if any(start >= end for start, end in pairwise(edges)):
        raise must_be("rising")
    return edges


class PretrainingSettings(Settings):
    """Training of the denoiser. An epoch is nnU-Net's: a number of iterations."""

    where = f"{PLANS_KEY}.pretraining"

    num_epochs: Count = Field(1000, description="epochs of the pretraining")
    num_iterations_per_epoch: Count = Field(250, description="iterations in each epoch")
    batch_size: Count = Field(32, description="images in each iteration; the planner chooses")
    learning_rate: Positive = Field(4e-4, description="of AdamW; falls along half a cosine")
    warmup_iterations: int = Field(500, ge=0, description="in which the learning rate rises")
    gradient_clip: Positive = Field(1.0, description="largest norm of the gradient")
    ema_decay: float = Field(
        0.9999, ge=0, lt=1, description="average of the weights, with diffusers' power rule at the start"
    )
    validation_fraction: float = Field(
        0.05, ge=0, lt=1, description="share of the images held out, at least one; `checkpoint_best` follows their loss"
    )
    max_validation_images: Count = Field(64, description="most of them whose loss is measured; the planner chooses")
    timestep_bands: Annotated[Listed[Annotated[int, Field(ge=1)]], AfterValidator(_rising)] = Field(
        TIMESTEP_SETTINGS["pretraining.timestep_bands"][1],
        description="inner edges of the bands of timesteps in which training and held-out loss, both unweighted, are "
        "logged and drawn. Default: that of 1000 steps; of another number as far on the way",
    )
    save_samples_every: Count = Field(50, description="epochs between two grids of DDIM samples")
    num_samples: Count = Field(16, description="images in such a grid")
    num_sampling_steps: Count = Field(
        NUM_SAMPLING_STEPS,
        description="passes of the denoiser for them, at most `denoiser.num_diffusion_steps`",
    )
    seed: Seed = Field(12345, description="of noise, timesteps and the choice of held-out images")
    max_hours: Positive | None = Field(
        None,
        description="wall-clock limit, all runs together; the learning rate falls to zero by then, and the final "
        "checkpoint is written",
    )
    loss_weighting: Literal["noise", "min_snr", "prediction"] = Field(
        "noise",
        description="`noise`: DDPM's loss, the error of the noise, whatever is predicted; `min_snr` with its gamma; "
        "`prediction`: all timesteps alike",
    )
    min_snr_gamma: Positive = Field(5.0, description="gamma of `min_snr`")
    precision: Precision | None = Field(
        None, description="of the pretraining; `null` is nnU-Net's choice, float16 on CUDA and float32 elsewhere"
    )
    augmentation: AugmentationName = Field(
        "nnunet",
        description="nnU-Net's without its changes of intensity, or `shift`, with changes of intensity of its own",
    )


class ContrastiveSettings(Settings):
    """Contrastive pretraining, global and then local, as Chaitanya et al. 2020 (arXiv 2006.10511) set it.

    Batch size, hold-out, warm-up, gradient clip, seed, time limit and precision are those of `pretraining`.
    """

    where = f"{PLANS_KEY}.contrastive"

    num_epochs: Count = Field(40, description="epochs of each stage of contrastive pretraining")
    num_iterations_per_epoch: Count = Field(250, description="iterations in each epoch")
    learning_rate: Positive = Field(1e-3, description="of each stage; all else is as in `pretraining`")
    temperature: Positive = Field(0.1, description="of the loss (NT-Xent)")
    projection_features: Count = Field(128, description="features that the global stage compares")
    num_decoder_stages: Count = Field(2, description="decoder stages that the local stage trains")
    num_regions: int = Field(13, ge=2, description="regions that it compares in each image")
    region_size: Count = Field(3, description="features that a region has along each axis")
    pretrained_checkpoint: Text | None = Field(
        None,
        description="a contrastive pretraining made elsewhere, to start from; `null` looks for that of the same fold, "
        "then of fold `all`",
    )
