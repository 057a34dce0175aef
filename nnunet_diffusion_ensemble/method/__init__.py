"""Settings of the method: what the planner writes into the plans and the trainers and the network read from there.

They stand under the key `diffusion` of each configuration of the plans. Nothing of the method is hidden elsewhere. A
setting is one field of its model, which also makes the messages, the help of `plan` and the table in
docs/reference/plans.md.
"""

from nnunet_diffusion_ensemble.method.denoiser import FROM_CHECKPOINT, PLANS_KEY, DenoiserSettings, LibrarySettings
from nnunet_diffusion_ensemble.method.ensemble import (
    CONCATENATED_FEATURES,
    MEAN_PREDICTION,
    EnsembleSettings,
    HeadSettings,
    TrainingSettings,
)
from nnunet_diffusion_ensemble.method.libraries import LIBRARIES
from nnunet_diffusion_ensemble.method.pretraining import ContrastiveSettings, PretrainingSettings
from nnunet_diffusion_ensemble.method.timesteps import PUBLISHED_TIMESTEPS, on_the_way
from nnunet_diffusion_ensemble.method.whole import DiffusionMethod

__all__ = [
    "CONCATENATED_FEATURES",
    "FROM_CHECKPOINT",
    "LIBRARIES",
    "MEAN_PREDICTION",
    "PLANS_KEY",
    "PUBLISHED_TIMESTEPS",
    "ContrastiveSettings",
    "DenoiserSettings",
    "DiffusionMethod",
    "EnsembleSettings",
    "HeadSettings",
    "LibrarySettings",
    "PretrainingSettings",
    "TrainingSettings",
    "on_the_way",
]
